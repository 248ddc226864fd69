"""Shares of a machine's peaks from a user's own runs: `isoflop calibrate runs=<root>`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path
from statistics import median

from trainer.books.clock import step_seconds
from trainer.books.efficiency import Efficiency, efficiency, known, own_file
from trainer.books.kernels import device
from trainer.books.layout import world_size
from trainer.books.records import STEP_PHASES, read_ranks, read_steps
from trainer.books.refit import Timed, fit_shares, ratio, spread, timed
from trainer.config import Config, load
from trainer.utils.errors import UserError, nearest
from trainer.utils.files import write_atomic

WARM = 3  # first steps of an attempt that are left out: kernels are tuned and compiled in them
ENOUGH = 4  # runs from which on single shares are fitted; of fewer, one factor of all
LEAST = 1.1  # no interval is narrower: the same run takes so much longer on another day


def fit_runs(root: Path, config: Config) -> list[tuple[Efficiency, list[tuple[Timed, float]], Path]]:
    """For each machine that runs below `root` state: its shares, each run with planned over measured time, and the file
    that they were written to, in the cache of `config`; plans of that machine read it.

    Raises UserError where there is no run to learn from, and where a machine states too little, or is nobody's.
    """
    if not root.is_dir():
        raise UserError(f"calibrate: runs={root}: no such folder")
    measured: dict[str, list[Timed]] = {}
    for file in sorted(root.glob("*/*/config.yaml")):
        row = _timed(file.parent)
        if row is not None:
            measured.setdefault(row.config.machine.name, []).append(row)
    if not measured:
        raise UserError(
            f"calibrate: runs={root}: no run there has {WARM + 1} steps on a GPU with its machine stated (machine=...)"
        )
    found = []
    for name, rows in sorted(measured.items()):
        _check(name, rows)
        own = _fitted(rows)
        file = own_file(config.model_copy(update={"machine": rows[0].config.machine}))
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(file, json.dumps(own.to_json(), indent=1) + "\n")
        found.append((own, [(row, ratio(row, own)) for row in rows], file))
    return found


def _timed(run: Path) -> Timed | None:
    """The median step of a run of one shape of steps; None where there is nothing to learn from it."""
    try:
        config, steps, ranks = load(run / "config.yaml"), read_steps(run), read_ranks(run)
    except UserError:
        return None
    if config.machine.name == "unstated" or device(config) != "cuda" or len(config.curriculum.shapes) > 1:
        return None
    attempts: dict[int, list[float]] = {}
    for one in steps.kept:
        if ranks.get(attempt := one.get("attempt", 0), 0) == world_size(config):
            seconds = one.get("seconds") or {}
            attempts.setdefault(attempt, []).append(sum(seconds.get(name, 0.0) for name in STEP_PHASES))
    taken = [seconds for of_it in attempts.values() for seconds in of_it[WARM:]]
    return timed(config, median(taken), f"{run.parent.name}/{run.name}") if taken and median(taken) > 0 else None


def _check(name: str, rows: Sequence[Timed]) -> None:
    """Raises UserError where the machine is not known and does not state what shares are of."""
    seconds = step_seconds(rows[0].config)
    if seconds.value is None:
        meant = nearest(name, [one.machine for one in known()])
        raise UserError(f"calibrate: machine {name!r} states no {seconds.source}{meant}")


def _fitted(rows: Sequence[Timed]) -> Efficiency:
    start = efficiency(rows[0].config)
    if len(rows) < ENOUGH:
        factor = median(ratio(row, start) for row in rows)
        scaled = {name: getattr(start, name) * factor for name in ("products", "scores", "memory")}
        fitted = replace(start, **scaled)
        missed = [ratio(row, fitted) for row in rows]
    else:
        fitted = fit_shares(rows, start)
        missed = [ratio(row, fit_shares([*rows[:at], *rows[at + 1 :]], start)) for at, row in enumerate(rows)]
    faster, slower = spread(missed)
    return replace(
        fitted,
        machine=rows[0].config.machine.name,
        software=date.today().year,
        faster=max(LEAST, faster),
        slower=max(LEAST, slower),
        source=f"{len(rows)} own runs",
        rows=len(rows),
    )
