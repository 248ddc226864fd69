"""What the faults did, for a person and for a program."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from typing import Any

from scripts.chaos_driver.plan import KINDS, PHASES
from scripts.chaos_driver.strike import Struck


def line(struck: Struck, of: int) -> str:
    """One fault as it is over."""
    fault = struck.fault
    verdict = "missed" if struck.hit is None else "BROKE" if struck.problems else "survived"
    where = fault.phase if struck.hit in (None, fault.phase) else f"{fault.phase}->{struck.hit}"
    code = "" if struck.code is None else f"exit {struck.code}"
    what = f"{where:<11} {fault.kind:<6} {struck.target:<26} {fault.layout!s:<32}"
    return f"{fault.number:>4}/{of} {what} {code:<8} {struck.seconds:5.1f} s  {verdict}"


def table(strikes: list[Struck]) -> str:
    """Phase x kind: of so many faults, how many the run survived."""
    hits, survived = Counter[tuple[str, str]](), Counter[tuple[str, str]]()
    for struck in strikes:
        if struck.hit is not None:
            hits[struck.hit, struck.fault.kind] += 1
            survived[struck.hit, struck.fault.kind] += not struck.problems
    phases = [*PHASES, *sorted({phase for phase, _ in hits} - set(PHASES))]
    phases = [phase for phase in phases if any(hits[phase, kind] for kind in KINDS)]
    kinds = [kind for kind in KINDS if any(hits[phase, kind] for phase in phases)]
    rows = [["phase", *kinds, "all"]]
    for phase in [*phases, "all"]:
        within = phases if phase == "all" else [phase]
        cells = [_cell(hits, survived, within, [kind]) for kind in kinds]
        rows.append([phase, *cells, _cell(hits, survived, within, kinds)])
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in rows
    ]
    return "\n".join([lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]])


def _cell(hits: Counter[Any], survived: Counter[Any], phases: list[str], kinds: list[str]) -> str:
    places = [(phase, kind) for phase in phases for kind in kinds]
    total = sum(hits[place] for place in places)
    return f"{sum(survived[place] for place in places)}/{total}" if total else ""


def as_json(seed: int, strikes: list[Struck], runs: list[dict[str, Any]], seconds: float) -> dict[str, Any]:
    """Everything, for a program."""
    return {
        "seed": seed,
        "seconds": round(seconds, 1),
        "survived": all(not struck.problems for struck in strikes) and all(not run["problems"] for run in runs),
        "faults": [asdict(struck) for struck in strikes],
        "runs": runs,
    }
