"""What a project cost: every run and every other command of a root that names it (`run.project`), in one account.

A project is one number for a paper: all its experiments with their failed runs, evaluations and data. Runs that name
none are of the project that is called as the folder of the root.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from trainer.report.sums import QUANTITIES, Sum, figure

# What became of a run -> the share of the project that it is in.
OF_RUNS = {
    "final": "final",
    "tuning": "tuning",
    "failed": "failed",
    "lost": "failed",
    "running": "unfinished",
    "stopped": "unfinished",
    "not started": "unfinished",
}
SHARES = ("final", "tuning", "evaluation", "data", "failed", "unfinished", "other")


@dataclass(frozen=True)
class Entry:
    """One run or one other command, as it counts: `part` of its figures was brought by no other entry."""

    project: str
    experiment: str | None
    share: str  # one of SHARES
    figures: Mapping[str, Any]  # nested, as `PriceTag.values`
    currency: str | None = None
    part: float = 1.0

    def amount(self, name: str) -> float | None:
        """One of QUANTITIES, of this entry alone."""
        value = figure(self.figures, name)
        return None if value is None else self.part * value


@dataclass
class ProjectAccount:
    """What a project cost, by share."""

    sums: dict[str, dict[str, Sum]] = field(default_factory=lambda: {share: defaultdict(Sum) for share in SHARES})
    money: dict[str, dict[str, Sum]] = field(default_factory=lambda: {share: defaultdict(Sum) for share in SHARES})
    entries: dict[str, int] = field(default_factory=lambda: dict.fromkeys(SHARES, 0))
    wasted_kwh: float = 0.0  # of steps that were trained twice, within the shares above
    experiments: set[str] = field(default_factory=set)

    def add(self, entry: Entry) -> None:
        self.entries[entry.share] += 1
        if entry.experiment is not None:
            self.experiments.add(entry.experiment)
        for name in QUANTITIES:
            self.sums[entry.share][name].add(entry.amount(name))
        if entry.currency:
            amount = (entry.figures.get("cost") or {}).get("amount")
            self.money[entry.share][entry.currency].add(amount, entry.part)
        self.wasted_kwh += entry.part * ((entry.figures.get("energy") or {}).get("wasted_kwh") or 0.0)

    @property
    def currencies(self) -> list[str]:
        return sorted({currency for sums in self.money.values() for currency in sums})

    def of(self, share: str, name: str) -> Sum:
        """The sum of one of QUANTITIES or of a currency in one share, or in `total`."""
        shares = SHARES if share == "total" else (share,)
        table = self.sums if name in QUANTITIES else self.money
        return sum((table[one][name] for one in shares if name in table[one]), Sum())

    def count(self, share: str) -> int:
        return sum(self.entries.values()) if share == "total" else self.entries[share]

    @property
    def names(self) -> list[str]:
        """Of the quantities that any entry has a figure of; then the currencies."""
        known = [name for name in QUANTITIES if self.of("total", name).known]
        return known + self.currencies

    def to_json(self) -> dict[str, Any]:
        """Plain data: each share and `total` with its quantities, an unknown sum null, and its part of the total."""
        return {
            "experiments": sorted(self.experiments),
            "wasted_kwh": self.wasted_kwh,
            **{share: self._share(share) for share in (*SHARES, "total")},
        }

    def _share(self, share: str) -> dict[str, Any]:
        return {
            "entries": self.count(share),
            **{name: self.of(share, name).to_json() for name in QUANTITIES},
            "money": {currency: self.of(share, currency).to_json() for currency in self.currencies},
            "share_of_kwh": self.part_of_total(share),
        }

    def part_of_total(self, share: str, name: str = "kwh") -> float | None:
        """Which part of the project's known total this share is."""
        total, part = self.of("total", name), self.of(share, name)
        return part.value / total.value if total.value and part.known else None


def projects(entries: Iterable[Entry]) -> dict[str, ProjectAccount]:
    """The accounts of all projects, by name."""
    accounts: dict[str, ProjectAccount] = {}
    for entry in entries:
        accounts.setdefault(entry.project, ProjectAccount()).add(entry)
    return {name: accounts[name] for name in sorted(accounts)}
