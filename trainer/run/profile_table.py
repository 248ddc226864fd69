"""The tables of a profile: what the books expect of a step beside what was measured, and the spread over ranks."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from trainer.books import launch_floor, plan
from trainer.books.clock import wire_seconds
from trainer.books.collectives import latency_seconds
from trainer.books.formatting import format_amount
from trainer.books.links import bytes_sent
from trainer.books.machine import known_machine
from trainer.books.memory import memory
from trainer.books.step_work import work as step_work
from trainer.config import Config
from trainer.training.step_profile import Measured


class Rank(NamedTuple):
    """What one rank measured."""

    rank: int
    measured: Measured
    made_bytes: int  # that the allocator held at the most beyond the least in the traced steps
    held_at_peak: Mapping[str, int] | None  # of a GPU: bytes by the line that asked for them

    @staticmethod
    def read(file: Path) -> Rank:
        said = json.loads(file.read_text())
        measured = Measured(**{name: said[name] for name in Measured._fields})
        return Rank(said["rank"], measured, said["made_bytes"], said.get("held_at_peak"))


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


class Spread(NamedTuple):
    """A figure over all ranks: the rank that has the least of it, and the one that has the most."""

    what: str
    unit: str
    least: tuple[int, float]
    most: tuple[int, float]

    @property
    def ratio(self) -> float | None:
        """Most over least."""
        return self.most[1] / self.least[1] if self.least[1] else None


def compared(config: Config, rank: Rank) -> list[Row]:
    """What the books expect of a step beside what a rank did, the largest difference first."""
    measured = rank.measured
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
        Row("memory of a step", "bytes", passing, rank.made_bytes, "activations, logits, gradients, copies of weights"),
    ]
    if not expected.composed:
        rows.append(Row("attention", "FLOP", expected.score_flop, measured.attention_flop))
    if config.launch.ranks > 1:
        seconds = wire_seconds(known_machine(config).config)  # 0: the machine states no link
        wire = seconds + latency_seconds(config) if seconds else None
        rows.append(Row("sent", "bytes", bytes_sent(config), measured.sent_bytes, "in collectives, as rings send"))
        rows.append(Row("in collectives", "s", wire, measured.collective_seconds, "of a traced step, with waiting"))
    return sorted(rows, key=lambda row: -abs(math.log(row.ratio)) if row.ratio else 0.0)


def spread(ranks: Sequence[Rank]) -> list[Spread]:
    """What differs from rank to rank; nothing of one rank."""
    if len(ranks) == 1:
        return []
    figures = {
        ("time", "s"): [one.measured.step_seconds for one in ranks],
        ("work of its own", "s"): [one.measured.alone_seconds for one in ranks],
        ("in collectives", "s"): [one.measured.collective_seconds for one in ranks],
        ("sent", "bytes"): [one.measured.sent_bytes for one in ranks],
        ("operators", ""): [float(one.measured.operators) for one in ranks],
        ("memory", "bytes"): [float(one.measured.memory_peak_bytes) for one in ranks],
        ("memory of a step", "bytes"): [float(one.made_bytes) for one in ranks],
    }
    found = []
    for (what, unit), values in figures.items():
        least, most = min(values), max(values)
        at = (ranks[values.index(least)].rank, least), (ranks[values.index(most)].rank, most)
        found.append(Spread(what, unit, *at))
    return found


def to_json(rows: Sequence[Row], over: Sequence[Spread], ranks: Sequence[Rank]) -> dict[str, Any]:
    first = ranks[0].measured
    figures = [
        {"what": row.what, "unit": row.unit, "expected": row.expected, "measured": row.measured, "ratio": row.ratio}
        for row in rows
    ]
    found: dict[str, Any] = {"figures": figures, "traced_step_seconds": first.traced_seconds, "operators": first.kinds}
    if over:
        found["collectives"] = first.collectives
        found["spread"] = [
            {
                "what": one.what,
                "unit": one.unit,
                "least": {"rank": one.least[0], "value": one.least[1]},
                "most": {"rank": one.most[0], "value": one.most[1]},
                "ratio": one.ratio,
            }
            for one in over
        ]
        found["ranks"] = [_numbers(one) for one in ranks]
    if ranks[0].held_at_peak is not None:
        found["held_at_peak_bytes"] = dict(ranks[0].held_at_peak)
    return found


def _numbers(rank: Rank) -> dict[str, float]:
    plain = {name: value for name, value in rank.measured._asdict().items() if not isinstance(value, dict)}
    return {"rank": rank.rank, **plain, "made_bytes": rank.made_bytes}


def format_profile(
    rows: Sequence[Row], over: Sequence[Spread], ranks: Sequence[Rank], files: Mapping[str, Path]
) -> str:
    """The tables, what is most frequent, and where the files are."""
    measured = ranks[0].measured
    title = "of one step" + (" of rank 0" if over else "")
    lines = [f"{title:<20}{'expected':>14}{'measured':>14}{'ratio':>8}"]
    for row in rows:
        expected = "not stated" if row.expected is None else format_amount(row.expected, row.unit)
        said = f"{row.what:<20}{expected:>14}{format_amount(row.measured, row.unit):>14}{_times(row.ratio):>8}"
        lines.append(f"{said}  {row.note}".rstrip())
    lines += [*_spread_lines(over, len(ranks)), "", f"operators: {_most(measured.kinds)}"]
    if measured.collectives and over:
        lines.append(f"collectives: {_most(measured.collectives)}")
    if ranks[0].held_at_peak:
        held = [f"{format_amount(size, 'bytes')} {where}" for where, size in ranks[0].held_at_peak.items()]
        lines += ["held at the peak:", *(f"  {one}" for one in held)]
    slower = measured.traced_seconds / measured.step_seconds
    lines += [f"the trace slows a step {slower:.2f} times", ""]
    if over:
        lines.append(f"of rank 0; those of rank r end in -rank<r>, r to {len(ranks) - 1}:")
    return "\n".join([*lines, *(f"{name:<9}{file}" for name, file in files.items())])


def _spread_lines(over: Sequence[Spread], ranks: int) -> list[str]:
    if not over:
        return []
    lines = ["", f"{f'over {ranks} ranks':<20}{'least':>14}{'most':>14}{'ratio':>8}"]
    for one in over:
        amounts = [f"{format_amount(value, one.unit):>14}" for _, value in (one.least, one.most)]
        who = "" if one.least[1] == one.most[1] else f"  rank {one.least[0]}, rank {one.most[0]}"
        lines.append(f"{one.what:<20}{''.join(amounts)}{_times(one.ratio):>8}{who}")
    return lines


def _times(ratio: float | None) -> str:
    return "-" if ratio is None else f"{ratio:.2f}"


def _most(kinds: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in list(kinds.items())[:8])
