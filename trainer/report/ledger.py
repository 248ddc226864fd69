"""What the runs of a root cost together, also failed and killed ones: the true cost of the research."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trainer.books.equivalents import expected_best
from trainer.books.formatting import format_amount
from trainer.report.ledger_file import read_ledger
from trainer.report.project_ledger import OF_RUNS, Entry
from trainer.report.run_data import NOT_STARTED, RUNNING
from trainer.report.sums import QUANTITIES as ALL_QUANTITIES
from trainer.report.sums import UNITS, Sum, figure
from trainer.utils.outcomes import Status

# The best finished run, the other finished ones, those that a process holds now, those that can be resumed, those that
# an error or a policy ended, those whose process could say nothing any more, and those that have not begun.
KINDS = ("final", "tuning", "running", "stopped", "failed", "lost", "not started")
UNFINISHED: dict[Any, str] = {
    Status.STOPPED: "stopped",
    Status.FAILED: "failed",
    Status.HALTED: "failed",
    Status.INTERRUPTED: "lost",
    RUNNING: "running",
    NOT_STARTED: "not started",
}


@dataclass
class Account:
    """What one experiment cost, by kind of run."""

    sums: dict[str, dict[str, Sum]] = field(default_factory=lambda: {k: defaultdict(Sum) for k in (*KINDS, "wasted")})
    scores: list[float] = field(default_factory=list)  # held-out bits per byte of the finished runs
    scored: dict[str, Sum] = field(default_factory=lambda: defaultdict(Sum))  # what those runs cost
    copies: int = 0  # runs whose readings another run already brought

    def total(self, name: str) -> Sum:
        return sum((self.sums[kind][name] for kind in KINDS), Sum())

    def expected_best(self) -> list[dict[str, float | None]]:
        """Expected lowest bits per byte of the best of 1, 2, ... finished runs, against what so many cost on average.

        Both estimators of Dodge et al. (2019, 2021): drawn with replacement (biased) and without (unbiased).
        """
        higher = [-score for score in self.scores]
        table: list[dict[str, float | None]] = []
        for n in range(1, len(higher) + 1):
            row: dict[str, float | None] = {"runs": n}
            for name in QUANTITIES:
                part = self.scored[name]
                row[name] = n * part.value / part.known if part.known else None
            row["biased"], row["unbiased"] = -expected_best(higher, n, "biased"), -expected_best(higher, n, "unbiased")
            table.append(row)
        return table


QUANTITIES = ("hours", "kwh", "kgco2e", "flop")


@dataclass(frozen=True)
class Counted:
    """One run as it counts: its line, what became of it, and the part of its energy that no other run brought."""

    line: dict[str, Any]
    kind: str  # one of KINDS
    share: float
    scored: bool

    def entry(self, unnamed: str) -> Entry:
        """Of its project's account; unnamed: the project of a run that names none."""
        line = self.line
        figures, project = line.get("measured") or {}, str(line.get("project") or unnamed)
        share = OF_RUNS[self.kind]
        return Entry(project, str(line.get("experiment")), share, figures, line.get("currency"), self.share)


def counted(lines: Iterable[dict[str, Any]]) -> dict[str, list[Counted]]:
    """The runs of a ledger's lines by experiment; a copied folder brings its readings along, which count once."""
    by_experiment: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for line in lines:
        by_experiment[str(line.get("experiment"))].append(line)
    seen: set[str] = set()
    found = {}
    for experiment, own in sorted(by_experiment.items()):
        finished = [line for line in own if line.get("status") == Status.FINISHED]
        scored = [line for line in finished if line.get("held_out_bits_per_byte") is not None]
        final = min(scored, key=lambda line: line["held_out_bits_per_byte"], default=finished[-1] if finished else None)
        kinds = ["final" if line is final else "tuning" if line in finished else _unfinished(line) for line in own]
        found[experiment] = [
            Counted(line, kind, _new_share(line, seen), line in scored) for line, kind in zip(own, kinds, strict=True)
        ]
    return found


def ledger(root: Path) -> dict[str, Account]:
    """What each experiment of a root cost: its best run, the others, the unfinished ones by what became of them, and
    steps that were replayed."""
    return accounts_of(counted(read_ledger(root).values()))


def accounts_of(runs: Mapping[str, Sequence[Counted]]) -> dict[str, Account]:
    """The account of each experiment."""
    accounts = {}
    for experiment, own in runs.items():
        account = accounts[experiment] = Account()
        account.scores = sorted(one.line["held_out_bits_per_byte"] for one in own if one.scored)
        for one in own:
            account.copies += one.share < 1
            _add(account, one.kind, one.line, one.share)
            if one.scored:
                for name in QUANTITIES:
                    account.scored[name].add(figure(one.line.get("measured") or {}, name))
    return accounts


def _unfinished(line: dict[str, Any]) -> str:
    """The kind of a run that has not finished. What an old line calls running and has no folder any more is lost."""
    return UNFINISHED.get(line.get("status"), "lost")


def _new_share(line: dict[str, Any], seen: set[str]) -> float:
    """Share of a run's energy that no other run brought: a copied folder brings its readings along."""
    segments: dict[str, float] = line.get("segments") or {}
    total = sum(segments.values())
    fresh = sum(joules for name, joules in segments.items() if name not in seen)
    seen.update(segments)
    return fresh / total if total else 1.0


def _add(account: Account, kind: str, line: dict[str, Any], share: float) -> None:
    figures = line.get("measured") or {}
    for name in ALL_QUANTITIES:
        account.sums[kind][name].add(figure(figures, name), share)
    if line.get("currency"):
        account.sums[kind][line["currency"]].add((figures.get("cost") or {}).get("amount"), share)
    wasted = (figures.get("energy") or {}).get("wasted_kwh")
    if line.get("replayed_steps"):
        account.sums["wasted"]["kwh"].add(wasted, share)


def ledger_json(accounts: dict[str, Account], names: Sequence[str] = QUANTITIES) -> dict[str, Any]:
    """The accounts as plain data, of these quantities; a sum over runs of which none had a figure is null."""

    for account in accounts.values():
        for name in names:  # who reads `failed` finds it, also where nothing failed
            account.sums["failed"][name] = account.sums["failed"][name]
    return {
        experiment: {
            **{
                kind.replace(" ", "_"): {name: part.to_json() for name, part in _of(sums, names).items()}
                for kind, sums in account.sums.items()
            },
            "total": {name: account.total(name).to_json() for name in names},
            "expected_best_bits_per_byte": account.expected_best(),
            "copied_runs": account.copies,
        }
        for experiment, account in accounts.items()
    }


def _of(sums: Mapping[str, Sum], names: Sequence[str]) -> dict[str, Sum]:
    """Those of these quantities, and of currencies."""
    return {name: part for name, part in sums.items() if name in names or name not in ALL_QUANTITIES}


def format_ledger(accounts: dict[str, Account]) -> str:
    """The accounts as text: one block an experiment."""
    lines = []
    for experiment, account in accounts.items():
        lines.append(experiment)
        for kind in (*KINDS, "wasted", "total"):
            whole = {name: account.total(name) for name in QUANTITIES}
            sums = whole if kind == "total" else _of(account.sums[kind], QUANTITIES)
            runs = max((part.runs for part in sums.values()), default=0)
            if runs:
                cells = [_cell(part, UNITS.get(name, name)) for name, part in sums.items()]
                lines.append(f"  {kind:<11} {runs:>4} run{' ' if runs == 1 else 's'}  " + "  ".join(cells))
        if account.copies:
            lines.append(f"  {account.copies} run(s) are copies; what they brought along counts once")
        if len(account.scores) > 1:
            lines += _expected(account)
    return "\n".join(lines) if lines else "no runs"


def _expected(account: Account) -> list[str]:
    """Expected best result against budget, for the first ten numbers of runs and the last."""
    rows = account.expected_best()
    rows = rows if len(rows) <= 11 else [*rows[:10], rows[-1]]
    known = [name for name in ("hours", "kwh", "kgco2e") if rows[0][name] is not None]
    head = "".join(f"{UNITS[name]:>12}" for name in known)
    lines = ["  expected best bits per byte against budget (Dodge et al. 2019; unbiased 2021)"]
    lines.append(f"  {'runs':>6}{head}{'biased':>10}{'unbiased':>10}")
    for row in rows:
        costs = "".join(f"{row[name]:>12.4g}" for name in known)
        lines.append(f"  {row['runs']:>6}{costs}{row['biased']:>10.4f}{row['unbiased']:>10.4f}")
    return lines


def _cell(part: Sum, unit: str) -> str:
    if not part.known:
        return f"{'not stated':>14}"
    text = format_amount(part.value, unit)
    return f"{text:>14}" + ("" if part.known == part.runs else f" ({part.known} of {part.runs} runs)")
