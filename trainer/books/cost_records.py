"""What verbs spent outside of a run's ranks: `cost-<verb>-<time>-<pid>.jsonl`, one file a command, read again.

They lie in the folder of the run that a verb worked on, else in `<root>/costs`. Their readings have the form of
`energy-<host>.jsonl` (`trainer.books.energy`); a last line `end` is missing where the process was killed.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainer.books.energy import EnergyAccount, fold
from trainer.books.quantity import Quantity
from trainer.books.records import read_lines
from trainer.utils.errors import UserError, left_out

PARTS = {
    **dict.fromkeys(("eval", "generate"), "evaluation"),
    **dict.fromkeys(("data", "tokenizer"), "data"),
    **{"calibrate": "calibration", "train": "set-up", "report": "report"},
}


@dataclass(frozen=True)
class CostRecord:
    """One command."""

    file: Path
    verb: str
    command: tuple[str, ...]
    project: str | None
    run: str | None  # <experiment>/<id>, where it lies in a run's folder
    start: str
    end: str | None
    outcome: str  # done, failed, stopped, or lost: no last line
    account: EnergyAccount

    @property
    def part(self) -> str:
        """What it was for."""
        return PARTS.get(self.verb, "analysis")

    @property
    def segments(self) -> dict[str, float]:
        """Joules by segment; a copied file brings the same ones along."""
        return self.account.segments

    @property
    def phases(self) -> dict[str, float]:
        """Joules by phase."""
        return self.account.phases

    def total(self) -> Quantity:
        """Joules of all components."""
        return self.account.total()


def cost_records(root: Path) -> list[CostRecord]:
    """The records of a root, by start; a damaged file is left out with a line."""
    found = []
    for file in [*root.glob("costs/cost-*.jsonl"), *root.glob("*/*/cost-*.jsonl")]:
        try:
            if (record := _read(file, root)) is not None:
                found.append(record)
        except (UserError, OSError, TypeError) as error:
            left_out(str(file), error)
    return sorted(found, key=lambda record: record.start)


def _read(file: Path, root: Path) -> CostRecord | None:
    lines = read_lines(file)
    head: dict[str, Any] = next((line for line in lines if line.get("kind") == "open" and "cost" in line), {})
    if not head:
        return None
    last: dict[str, Any] = next((line for line in lines if line.get("kind") == "end"), {})
    place = file.parent.relative_to(root).as_posix()
    return CostRecord(
        file=file,
        verb=str(head.get("verb")),
        command=tuple(map(str, head.get("command") or ())),
        project=head.get("project"),
        run=None if place == "costs" else place,
        start=str(head.get("start")),
        end=last.get("end"),
        outcome=str(last.get("outcome", "lost")),
        account=fold(lines).account(),
    )
