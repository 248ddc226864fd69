"""runs/ledger.jsonl: every run of a root, also failed and killed ones: the true cost of the research.

The last line of a run wins. Runs that have not finished are read from their folders where these still lie there: one
that was killed could write no line, one that runs again has an old one.
"""

from __future__ import annotations

import json
import math
import os
from collections import defaultdict
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from trainer.books.equivalents import expected_best
from trainer.books.formatting import format_amount
from trainer.books.records import read_lines
from trainer.report.run_data import NOT_STARTED, RUNNING, read_run, state_of
from trainer.run_folder import readable, runs_of
from trainer.utils.errors import UserError, left_out
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


def append_ledger(run: Path) -> None:
    """Add (or renew) this run's line in the ledger of its root, the folder above the experiment.

    One write to a file opened for appending, so that runs that end together do not mix their lines.
    """
    ledger = run.parent.parent / "ledger.jsonl"
    text = json.dumps(_line(run), ensure_ascii=False, allow_nan=False) + "\n"
    # A crash of another process may have left half a line: begin a new one.
    if ledger.is_file() and ledger.stat().st_size and not ledger.read_bytes().endswith(b"\n"):
        text = "\n" + text
    descriptor = os.open(ledger, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(descriptor, text.encode())
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _line(run: Path, *, looked_at: bool = False) -> dict[str, Any]:
    """looked_at: from outside, where whoever holds the folder runs; else its own process says how it ended."""
    run_data = read_run(run)
    best = run_data.best
    return {
        "run": _name(run),
        "experiment": run.parent.name,
        "science_hash": run_data.config.science_hash(),
        "numerics": run_data.numerics,
        "status": state_of(run_data) if looked_at else run_data.status,
        "time": run_data.events[-1].get("time") if run_data.events else None,
        "steps": run_data.steps.kept[-1]["step"] if run_data.steps.kept else 0,
        "replayed_steps": len(run_data.steps.replayed),
        "held_out_bits_per_byte": best.get("bits_per_byte") if best and math.isfinite(best["loss"]) else None,
        "measured": run_data.tag.values("measured"),
        "currency": run_data.config.site.currency,
        "segments": run_data.energy.segments,
    }


@dataclass
class Sum:
    """Total of one quantity over runs, and how many of them had a figure."""

    value: float = 0.0
    known: int = 0
    runs: int = 0

    def add(self, value: float | None, share: float = 1.0) -> None:
        self.runs += 1
        if value is not None:
            self.value, self.known = self.value + share * value, self.known + 1


@dataclass
class Account:
    """What one experiment cost, by kind of run."""

    sums: dict[str, dict[str, Sum]] = field(default_factory=lambda: {k: defaultdict(Sum) for k in (*KINDS, "wasted")})
    scores: list[float] = field(default_factory=list)  # held-out bits per byte of the finished runs
    scored: dict[str, Sum] = field(default_factory=lambda: defaultdict(Sum))  # what those runs cost
    copies: int = 0  # runs whose readings another run already brought

    def total(self, name: str) -> Sum:
        total = Sum()
        for kind in KINDS:
            part = self.sums[kind][name]
            total.value, total.known, total.runs = (
                total.value + part.value,
                total.known + part.known,
                total.runs + part.runs,
            )
        return total

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


QUANTITIES = {
    "hours": ("machine", "device_hours"),
    "kwh": ("energy", "kwh"),
    "kgco2e": ("carbon", "kgco2e"),
    "flop": ("flop", "total"),
}


def is_root(root: Path) -> bool:
    """Whether runs lie below this folder: its ledger tells of some, or there are folders of killed ones."""
    return (root / "ledger.jsonl").is_file() or bool(runs_of(root))


def read_ledger(root: Path) -> dict[str, dict[str, Any]]:
    """The last line of every run of a root, by `<experiment>/<run id>`; of unfinished runs what their folders say."""
    lines = {line["run"]: line for line in read_lines(root / "ledger.jsonl") if isinstance(line.get("run"), str)}
    for name, line in list(lines.items()):
        if wrong := _misfit(line):
            left_out(name, UserError(f"{root / 'ledger.jsonl'}: {wrong}"))
            del lines[name]
    unfinished = [run for run in runs_of(root) if lines.get(_name(run), {}).get("status") != Status.FINISHED]
    return lines | {line["run"]: line for line in readable(unfinished, partial(_line, looked_at=True))}


def _name(run: Path) -> str:
    return f"{run.parent.name}/{run.name}"


def _misfit(line: dict[str, Any]) -> str | None:
    """A word about a figure of a line that is no number, or null."""
    tables = {"measured": line.get("measured") or {}, "segments": line.get("segments") or {}}
    if wrong := next((name for name, table in tables.items() if not isinstance(table, dict)), None):
        return f"{wrong}: {tables[wrong]!r} given, numbers by name wanted"
    figures = {"held_out_bits_per_byte": line.get("held_out_bits_per_byte"), **tables["segments"]}
    for group, part in tables["measured"].items():
        figures |= (
            {f"{group}.{name}": value for name, value in part.items()} if isinstance(part, dict) else {group: part}
        )
    for name, value in figures.items():
        if value is not None and not (isinstance(value, int | float) and math.isfinite(value)):
            return f"{name}: {value!r} given, a number wanted"
    return None


def ledger(root: Path) -> dict[str, Account]:
    """What each experiment of a root cost: its best run, the others, the unfinished ones by what became of them, and
    steps that were replayed."""
    by_experiment: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for line in read_ledger(root).values():
        by_experiment[str(line.get("experiment"))].append(line)
    seen: set[str] = set()
    accounts = {}
    for experiment, lines in sorted(by_experiment.items()):
        account = accounts[experiment] = Account()
        finished = [line for line in lines if line.get("status") == Status.FINISHED]
        scored = [line for line in finished if line.get("held_out_bits_per_byte") is not None]
        account.scores = sorted(line["held_out_bits_per_byte"] for line in scored)
        final = min(scored, key=lambda line: line["held_out_bits_per_byte"], default=finished[-1] if finished else None)
        for line in lines:
            kind = "final" if line is final else "tuning" if line in finished else _unfinished(line)
            share = _new_share(line, seen)
            account.copies += share < 1
            _add(account, kind, line, share)
            if line in scored:
                for name, (group, leaf) in QUANTITIES.items():
                    account.scored[name].add(((line.get("measured") or {}).get(group) or {}).get(leaf))
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
    for name, (group, leaf) in QUANTITIES.items():
        account.sums[kind][name].add((figures.get(group) or {}).get(leaf), share)
    if line.get("currency"):
        account.sums[kind][line["currency"]].add((figures.get("cost") or {}).get("amount"), share)
    wasted = (figures.get("energy") or {}).get("wasted_kwh")
    if line.get("replayed_steps"):
        account.sums["wasted"]["kwh"].add(wasted, share)


def ledger_json(accounts: dict[str, Account]) -> dict[str, Any]:
    """The accounts as plain data; a sum over runs of which none had a figure is null."""

    def plain(part: Sum) -> dict[str, Any]:
        return {"value": part.value if part.known else None, "known": part.known, "runs": part.runs}

    for account in accounts.values():
        for name in QUANTITIES:  # who reads `failed` finds it, also where nothing failed
            account.sums["failed"][name] = account.sums["failed"][name]
    return {
        experiment: {
            **{
                kind.replace(" ", "_"): {name: plain(part) for name, part in sums.items()}
                for kind, sums in account.sums.items()
            },
            "total": {name: plain(account.total(name)) for name in QUANTITIES},
            "expected_best_bits_per_byte": account.expected_best(),
            "copied_runs": account.copies,
        }
        for experiment, account in accounts.items()
    }


UNITS = {"hours": "h", "kwh": "kWh", "kgco2e": "kg CO2e", "flop": "FLOP"}


def format_ledger(accounts: dict[str, Account]) -> str:
    """The accounts as text: one block an experiment."""
    lines = []
    for experiment, account in accounts.items():
        lines.append(experiment)
        for kind in (*KINDS, "wasted", "total"):
            sums = account.sums[kind] if kind != "total" else {name: account.total(name) for name in QUANTITIES}
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
