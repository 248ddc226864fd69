"""What commands spent outside of the ranks of runs, read from their records (`trainer/meter/costs.py` writes them).

<root>/costs/cost-<verb>-<UTC>-<pid>.jsonl              work for many runs: data, tokenizer, calibrate, sweep, fit
<root>/<experiment>/<id>/cost-<verb>-<UTC>-<pid>.jsonl  work on one run: its start, its report, eval, generate, export
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainer.books.energy import fold
from trainer.books.energy_account import EnergyAccount
from trainer.books.quantity import Quantity
from trainer.books.records import read_lines
from trainer.utils.errors import UserError, left_out

VERSION = 1  # of the lines' form
FOLDER = "costs"
PATTERN = "cost-*.jsonl"
PREPARATION = "preparation"  # the phase of a record in which text is made ready
SET_UP, OTHER = "set-up", "other"
# What a command's work is for, by its verb; of what starts runs the phase of preparation is data too.
PARTS = {
    **dict.fromkeys(("train", "launch", "sweep", "finetune", "grid", "preflight"), SET_UP),
    **dict.fromkeys(("eval", "generate", "compare"), "evaluation"),
    **dict.fromkeys(("fit", "transfer"), "tuning"),  # they choose sizes and settings of further runs
    **dict.fromkeys(("data", "tokenizer"), "data"),
    "calibrate": "calibration",
    "report": "report",
    **dict.fromkeys(("import", "export", "merge"), "weights"),
}


@dataclass(frozen=True)
class CostRecord:
    """One command. A process that was killed left no end: its energy counts up to its last reading."""

    file: Path
    verb: str
    command: tuple[str, ...]
    project: str | None
    run: str | None  # <experiment>/<id> of the run that it worked on; None: work for many
    start: str  # UTC, as 2026-11-30T07:15:02Z
    end: str | None
    seconds: float
    outcome: str  # done, failed, stopped, lost
    account: EnergyAccount  # joules
    stated: Mapping[str, Any]  # keys of `site` and `meter` that its configuration stated

    @property
    def part(self) -> str:
        return PARTS.get(self.verb, OTHER)

    @property
    def parts(self) -> dict[str, float]:
        """Shares of the energy by what it was for; they add up to 1."""
        total = sum(self.phases.values())
        prepared = self.phases.get(PREPARATION, 0.0) / total if total and self.part == SET_UP else 0.0
        return {name: share for name, share in ((self.part, 1 - prepared), ("data", prepared)) if share}

    @property
    def cpu_seconds(self) -> float:
        return self.account.cpu_seconds

    @property
    def components(self) -> dict[str, Quantity]:
        return self.account.components

    @property
    def phases(self) -> dict[str, float]:
        return self.account.phases

    @property
    def segments(self) -> dict[str, float]:
        return self.account.segments

    @property
    def coverage(self) -> float:
        return self.account.covered().value or 0.0

    def total(self) -> Quantity:
        return self.account.total()


def cost_records(root: Path) -> list[CostRecord]:
    """Those of a root, by their start. Of each that cannot be read a line on standard error says why."""
    found = []
    for file in _files(root):
        try:
            if (record := read_cost_record(file)) is not None:
                found.append(record)
        except (UserError, OSError) as error:
            left_out(str(file), error)
        except (KeyError, TypeError, ValueError) as error:
            left_out(str(file), UserError(f"{file}: {type(error).__name__}: {error}"))
    return sorted(found, key=lambda one: (one.start, str(one.file)))


def _files(root: Path) -> Iterator[Path]:
    yield from sorted((root / FOLDER).glob(PATTERN))
    yield from sorted(root.glob(f"*/*/{PATTERN}"))


def read_cost_record(file: Path) -> CostRecord | None:
    """One record; None where the command was killed before its first line was whole."""
    lines = read_lines(file)
    first = next((line for line in lines if line.get("kind") == "open" and "verb" in line), None)
    if first is None:
        return None
    last: dict[str, Any] = next((line for line in reversed(lines) if line.get("kind") == "end"), {})
    times = [float(line["time"]) for line in lines if "time" in line]
    project = first.get("project")
    return CostRecord(
        file=file,
        verb=str(first["verb"]),
        command=tuple(str(word) for word in first["command"]),
        project=None if project is None else str(project),
        run=None if file.parent.name == FOLDER else f"{file.parent.parent.name}/{file.parent.name}",
        start=str(first["start"]),
        end=last.get("end"),
        seconds=float(last.get("seconds", times[-1] - times[0])),
        outcome=str(last.get("outcome", "lost")),
        account=fold(lines).account(),
        stated=dict(first.get("stated") or {}),
    )


def totals(account: EnergyAccount) -> dict[str, Any]:
    """What the last line of a record says, for whoever reads it without these books."""
    components = {
        name: {
            "joules": quantity.value,
            "low": quantity.low,
            "high": quantity.high,
            "provenance": quantity.provenance,
            "method": quantity.source,
            "coverage": round(account.coverage.get(name, 0.0), 4),
        }
        for name, quantity in account.components.items()
    }
    return {"cpu_seconds": round(account.cpu_seconds, 3), "components": components}
