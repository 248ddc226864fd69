"""Everything that a publication tells, read from the copied files alone: no clock, no host, no other folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import reduce
from operator import add
from pathlib import Path
from typing import Any

from trainer.books import parameters
from trainer.books.quantity import Quantity, not_stated
from trainer.books.records import read_json
from trainer.publish.manifest import Fingerprint, claim_of
from trainer.publish.sources import GRID, LAW
from trainer.report.ledger import ledger, ledger_json
from trainer.report.run_data import RunData, read_run
from trainer.report.sums import QUANTITIES
from trainer.report.whole_ledger import whole_ledger
from trainer.run_folder import find_runs, readable
from trainer.scaling.compare import Comparison, compare, read_groups
from trainer.utils.errors import UserError, nearest
from trainer.utils.outcomes import Status

UNNAMED = "without a name (run.project)"
# Of a quantity of the ledger its row in a price tag.
KEYS = {name: f"{group}.{leaf}" for name, (group, leaf) in QUANTITIES.items()}


@dataclass(frozen=True)
class Facts:
    """What is published."""

    root: Path  # of the copied files
    claim: str
    sources: Mapping[str, Fingerprint]
    settings: Mapping[str, Any]
    runs: tuple[RunData, ...]
    model: RunData  # the run that the forms are about
    ledger: dict[str, Any]  # by experiment, as `isoflop ledger --json`
    projects: dict[str, Any]  # with other commands than training, as `isoflop ledger --json` has them
    law: dict[str, Any] | None = None
    grids: dict[str, dict[str, Any]] = field(default_factory=dict)  # by experiment
    comparisons: dict[str, Comparison] = field(default_factory=dict)

    def hash_of(self, *names: str) -> str:
        """A sha256 that stands for the source files whose names begin so."""
        return claim_of({name: one for name, one in self.sources.items() if name.startswith(names)}, {})

    @property
    def parameters(self) -> int:
        return int(parameters(self.model.config).total)

    def figure(self, key: str) -> Quantity:
        """What the model's run took, measured; not stated where nothing says it."""
        return measured_of(self.model, key)

    def whole(self, name: str) -> Quantity:
        """A quantity over all runs, as good as the worst of them; a lower bound where one is one, or says nothing."""
        value, known, runs = self.total(name)
        said = f"{known} of {runs} runs"
        figures = [measured_of(run, KEYS[name]) for run in self.runs]
        stated_ones = [one for one in figures if one.value is not None]
        if value is None or not stated_ones:
            return not_stated(said)
        added = reduce(add, stated_ones)
        scale = value / added.value if added.value else 1.0  # what copies brought along counts once
        low, high = (None if end is None else end * scale for end in (added.low, added.high))
        if known < runs:
            low, high = value if low is None else low, None
        return Quantity(value, added.provenance, said, low, high)

    def total(self, name: str) -> tuple[float | None, int, int]:
        """A quantity over all runs of all experiments: its sum, of how many of how many runs."""
        parts = [one["total"][name] for one in self.ledger.values() if name in one["total"]]
        known = [part["value"] for part in parts if part["value"] is not None]
        counts = (sum(part[word] for part in parts) for word in ("known", "runs"))
        return (sum(known) if known else None, *counts)  # type: ignore[return-value]


def name_of(run: RunData) -> str:
    """`<experiment>/<run id>`."""
    return f"{run.run.parent.name}/{run.run.name}"


def measured_of(run: RunData, key: str) -> Quantity:
    """One row of the measured column; not stated where the run has no such row."""
    try:
        row = run.tag[key]
    except KeyError:
        return not_stated(key)
    return row.measured or not_stated(key)


def read_facts(root: Path, sources: Mapping[str, Fingerprint], settings: Mapping[str, Any]) -> Facts:
    """Raises UserError where no run can be read, and where none is called as the settings name the model."""
    runs = tuple(readable(find_runs(root), read_run))
    if not runs:
        raise UserError(f"{root}: none of its runs can be read")
    law = read_json(root / LAW)
    return Facts(
        root=root,
        claim=claim_of(sources, settings),
        sources=sources,
        settings=settings,
        runs=runs,
        model=_model(runs, settings.get("run")),
        ledger=ledger_json(ledger(root), list(QUANTITIES)),
        projects=_projects(root),
        law=law if isinstance(law, dict) else None,
        grids={
            path.parent.name: facts
            for path in sorted(root.glob(f"*/{GRID}"))
            if isinstance(facts := read_json(path), dict)
        },
        comparisons=_comparisons(root, runs),
    )


def _projects(root: Path) -> dict[str, Any]:
    """Accounts of projects. One that nobody named is called as the folder, which says nothing of a copy."""
    found = whole_ledger(root).projects_json()
    return {UNNAMED if name == root.absolute().name else name: account for name, account in found.items()}


def _model(runs: tuple[RunData, ...], named: str | None) -> RunData:
    """The run that is named, else the finished one of most training compute."""
    names = {name_of(run): run for run in runs}
    if named:
        found = [run for name, run in names.items() if named in (name, run.run.name)]
        if len(found) != 1:
            what = "several runs" if found else f"no such run{nearest(named, names)}"
            raise UserError(f"run: {named}: {what}; name one of {', '.join(list(names)[:8])}")
        return found[0]
    finished = [run for run in runs if run.status == Status.FINISHED] or list(runs)
    return max(finished, key=lambda run: measured_of(run, "flop.total").value or 0.0)


def _comparisons(root: Path, runs: tuple[RunData, ...]) -> dict[str, Comparison]:
    """Of every experiment with runs that can be compared."""
    found = {}
    for experiment in dict.fromkeys(run.run.parent for run in runs):
        of_it = [run for run in runs if run.run.parent == experiment and run.steps.kept]
        if len(of_it) > 1:
            try:
                found[experiment.name] = compare(read_groups([str(experiment)], str(root)))
            except UserError:  # runs that nothing compares
                continue
    return found


def plain(facts: Any) -> str:
    """JSON text as it is published."""
    return json.dumps(facts, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
