"""`isoflop profile`: a short run under PyTorch's profiler; what was measured beside what the books expect; pictures."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainer.books import launch_floor, plan
from trainer.books.formatting import format_amount
from trainer.books.memory import memory
from trainer.books.step_work import work as step_work
from trainer.config import Config
from trainer.meter.costs import handed_over
from trainer.report.profile_pictures import flame_svg, memory_svg, memory_timeline
from trainer.run.start import described, make_ready
from trainer.training.step_profile import UNTOUCHED, Measured, StepProfile
from trainer.utils.errors import UserError
from trainer.utils.files import write_atomic
from trainer.utils.outcomes import ExitCode
from trainer.worker import work

# What a profile is run with where nothing else is said.
QUIET = (
    "run.experiment=profile",
    "evaluation.every_steps=null",
    "evaluation.samples=8",
    "checkpoint.every_steps=null",
    "tracker.console=none",
    "engine.compile=false",
)
SET = ("budget.", "budget=", "resume=", "from=")  # words that a profile sets by itself, or that are of other runs


@dataclass(frozen=True)
class Row:
    """A figure of one step of one rank."""

    what: str
    unit: str
    expected: float | None  # None: not stated
    measured: float
    note: str = ""

    @property
    def ratio(self) -> float | None:
        """Measured over expected."""
        return self.measured / self.expected if self.expected else None


def profile(words: Sequence[str], steps: int, *, as_json: bool = False) -> int:
    """Run, compare, write the files into the run's folder, and print the table; returns an exit code.

    Raises UserError for more than one rank, and for words that a profile sets by itself.
    """
    for word in words:
        if word.lstrip("+~").startswith(SET):
            raise UserError(f"profile: {word}: steps={steps} says how many steps there are; leave it out")
    given = {word.lstrip("+~").partition("=")[0] for word in words}
    quiet = [word for word in QUIET if word.partition("=")[0] not in given]
    config, folder, overrides = described([*quiet, f"budget.steps={UNTOUCHED + steps + 1}", *words])
    if config.launch.ranks > 1 or not config.launch.is_here:
        raise UserError(f"launch.processes: {config.launch.ranks} ranks; profile looks at one rank, on this host")
    make_ready(config, folder, overrides)
    place = folder.path / "profile"
    hook = StepProfile(steps, place / "trace.json")
    os.environ.update(config.launch.environment)
    with handed_over():
        code = work(folder.path, [hook])
    if code != ExitCode.DONE or hook.measured is None:
        return code or ExitCode.FAILED
    timeline = memory_timeline(place / "trace.json")
    held = [one.bytes for one in timeline] or [0]
    rows = compared(config, hook.measured, max(held) - min(held))
    found = {"run": str(folder.path), "steps": steps, **to_json(rows, hook.measured)}
    write_atomic(place / "flame.svg", flame_svg(hook.frames, steps))
    write_atomic(place / "memory.svg", memory_svg(timeline))
    write_atomic(place / "profile.json", json.dumps(found, indent=1))
    print(json.dumps(found, indent=1) if as_json else format_rows(rows, hook.measured, place))
    return ExitCode.DONE


def compared(config: Config, measured: Measured, made: int) -> list[Row]:
    """What the books expect of a step beside what it did, the largest difference first.

    made: bytes that the allocator held at the most beyond the least in the traced steps.
    """
    expected, tag = step_work(config), {row.key: row.planned for row in plan(config).rows}
    step = tag.get("time.step")
    counted = launch_floor.kind(config)
    like = "expected with a GPU's kernels" + ("" if counted[1] else f", of {counted[0]}, which is most like it")
    flop, counted_flop = expected.product_flop + expected.score_flop, measured.product_flop + measured.attention_flop
    moved = expected.activation_bytes + expected.loss_bytes + expected.optimizer_bytes
    account = memory(config)
    passing = account.activations + account.logits + account.gradients + account.copies
    rows = [
        Row("time", "s", None if step is None else step.value, measured.step_seconds, "steps that were left alone"),
        Row("operators", "", float(launch_floor.operators(config)), measured.operators, like),
        Row("FLOPs", "FLOP", flop, counted_flop, "of matrix products and attention, the full square of scores"),
        Row("moved by the rest", "bytes", moved, measured.other_bytes, "read and written, had every cache missed"),
        Row("memory", "bytes", account.total, measured.memory_peak_bytes, "peak; of a CPU with the libraries"),
        Row("memory of a step", "bytes", passing, made, "activations, logits, gradients, copies of weights"),
    ]
    if not expected.composed:
        rows.append(Row("attention", "FLOP", expected.score_flop, measured.attention_flop))
    return sorted(rows, key=lambda row: -abs(math.log(row.ratio)) if row.ratio else 0.0)


def to_json(rows: Sequence[Row], measured: Measured) -> dict[str, Any]:
    figures = [
        {"what": row.what, "unit": row.unit, "expected": row.expected, "measured": row.measured, "ratio": row.ratio}
        for row in rows
    ]
    return {"figures": figures, "traced_step_seconds": measured.traced_seconds, "operators": measured.kinds}


def format_rows(rows: Sequence[Row], measured: Measured, place: Path) -> str:
    """The table, the operators that are most frequent, and where the files are."""
    lines = [f"{'of one step':<20}{'expected':>14}{'measured':>14}{'ratio':>8}"]
    for row in rows:
        expected = "not stated" if row.expected is None else format_amount(row.expected, row.unit)
        ratio = "-" if row.ratio is None else f"{row.ratio:.2f}"
        said = f"{row.what:<20}{expected:>14}{format_amount(row.measured, row.unit):>14}{ratio:>8}  {row.note}"
        lines.append(said.rstrip())
    frequent = ", ".join(f"{name} {count}" for name, count in list(measured.kinds.items())[:8])
    slower = measured.traced_seconds / measured.step_seconds
    lines += ["", f"operators: {frequent}", f"the trace slows a step {slower:.2f} times", ""]
    lines += [f"{name:<9}{place / file}" for name, file in FILES.items()]
    return "\n".join(lines)


FILES = {"trace": "trace.json", "flame": "flame.svg", "memory": "memory.svg", "figures": "profile.json"}
