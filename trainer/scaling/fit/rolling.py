"""Held-out error: a form fitted to the smaller runs, asked for the larger ones, at several cuts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from trainer.scaling.fit.parametric import missing
from trainer.scaling.fit.solver import minimise
from trainer.scaling.fit.table import PLACE, SAME_BUDGET, Table
from trainer.scaling.forms import FORMS, Form

SHARES = (0.5, 0.35, 0.25, 0.15, 0.08, 0.04)  # of the runs held out, the largest ones
MORE_SHARES = (0.42, 0.3, 0.2, 0.11)  # besides, where runs are few and each cut tells little
FEW_RUNS = 100
NEAR = 0.08  # of the runs: how far a cut is moved to the widest gap of the scale
LARGEST_BUDGET = 0.3  # of the runs; beyond it budgets have run into one another
MOST_RUNS = 600  # beyond which a part of the runs, evenly over the scale, is enough to choose a form by
KEPT_STARTS = 4


@dataclass(frozen=True)
class Cut:
    """Runs up to a scale, which are fitted, and the larger ones, which are predicted."""

    kept: np.ndarray  # bool [runs]
    reach: np.ndarray  # [held out]: extrapolation factor of each

    @property
    def out(self) -> np.ndarray:
        return ~self.kept


@dataclass(frozen=True)
class Rolled:
    """A form at each cut: its constants there, and what it predicted for all runs."""

    model: Form
    theta: np.ndarray  # [cuts, p]
    fitted: np.ndarray  # bool [cuts]: whether the runs below the cut allow the form
    error: np.ndarray  # [cuts, runs]: predicted - measured, on the scale of `linked`; held-out runs count alone

    def score(self, cuts: Sequence[Cut], which: np.ndarray) -> float:
        """Mean size of the error over the held-out runs of a cut, averaged over the cuts in `which` (bool)."""
        sizes = [np.abs(self.error[k, cut.out]).mean() for k, cut in enumerate(cuts) if which[k]]
        return float(np.mean(sizes)) if sizes else np.inf

    def bias(self, cuts: Sequence[Cut], which: np.ndarray) -> float:
        means = [self.error[k, cut.out].mean() for k, cut in enumerate(cuts) if which[k]]
        return float(np.mean(means)) if means else np.nan


def scale_of(table: Table) -> tuple[str, np.ndarray]:
    """What runs are ordered by, in words and [runs] of it: FLOPs, or where a table does not state them the nearest."""
    if np.isfinite(table.column("flop")).all():
        return "flop", table.amount
    characters = np.isfinite(table.column("characters")).all()
    return "parameters x characters" if characters else "parameters", table.amount


def reach_of(known: Mapping[str, tuple[float, float]], points: Mapping[str, np.ndarray]) -> np.ndarray:
    """[m], at least 1: how far points lie beyond what is known (name -> smallest, largest), on the farthest axis."""
    factors = [np.ones(len(next(iter(points.values()))))]
    for name, (low, high) in known.items():
        if name in points and np.isfinite(points[name]).all():
            factors += [points[name] / high, low / points[name]]
    return np.max(factors, axis=0)


def spans(table: Table, keep: np.ndarray | None = None) -> dict[str, tuple[float, float]]:
    """Smallest and largest of FLOPs and of what places a run, where all runs state it."""
    columns = {name: table.column(name) for name in ("flop", *PLACE)}
    rows = slice(None) if keep is None else keep
    return {name: (float(x[rows].min()), float(x[rows].max())) for name, x in columns.items() if np.isfinite(x).all()}


def linked(loss: np.ndarray, logs: bool) -> np.ndarray:
    """The scale of errors: logarithms of the loss; the loss itself where it is normalised and may be negative."""
    return np.log(np.maximum(loss, 1e-300)) if logs else loss


def thinned(table: Table) -> Table:
    """At most MOST_RUNS runs, evenly over the scale."""
    count = len(table.runs)
    if count <= MOST_RUNS:
        return table
    order = np.argsort(scale_of(table)[1], kind="stable")
    keep = np.zeros(count, bool)
    keep[order[np.linspace(0, count - 1, MOST_RUNS).round().astype(int)]] = True
    return table.only(keep)


def cuts_of(table: Table) -> list[Cut]:
    """Cuts along the scale, farthest first; none divides a budget, or where budgets jitter into one another a cut is
    moved to the widest gap nearby."""
    _, scale = scale_of(table)
    order = np.argsort(scale, kind="stable")
    count, found = len(scale), set()
    for share in (*SHARES, *(MORE_SHARES if count <= FEW_RUNS else ())):
        if at := _below(np.diff(np.log(scale[order])), share):
            found.add(at)
    cuts = []
    for at in sorted(found):
        kept = np.zeros(count, bool)
        kept[order[:at]] = True
        out = table.only(~kept)
        cuts.append(Cut(kept, reach_of(spans(table, kept), {name: out.column(name) for name in ("flop", *PLACE)})))
    return cuts


def _below(gaps: np.ndarray, share: float) -> int:
    """How many runs lie below a cut that holds out about this share of them; 0 where there is none. gaps: [runs - 1],
    of the logarithms of the sorted scale."""
    count = len(gaps) + 1
    ends = np.flatnonzero(gaps > SAME_BUDGET) + 1  # behind which a budget begins
    wanted = max(1, round(share * count))
    largest = np.diff([0, *ends, count]).max()
    if len(ends) + 1 <= count / 2 and largest <= LARGEST_BUDGET * count:
        return int(ends[np.argmin(np.abs(np.log((count - ends) / wanted)))])
    window = max(1, round(min(NEAR, share / 2) * count))
    near = np.arange(max(1, count - wanted - window), min(count - 1, count - wanted + window) + 1)
    if not len(near):
        return 0
    at = near[np.argmax(gaps[near - 1] - 1e-9 * np.abs(near - count + wanted))]
    return int(at) if gaps[at - 1] > 0 else 0


def roll(table: Table, form: str, cuts: Sequence[Cut]) -> Rolled:
    """Fit a form below each cut. The cuts are rows of weights of one problem, so that all are fitted at once."""
    loss = table.column("loss")
    spec = FORMS[form]
    columns = [table.column(name) for name in spec.variables]
    model = spec(columns, loss)
    fitted = np.array([not missing(table.only(cut.kept), form) for cut in cuts], bool)
    theta, logs = np.full((len(cuts), len(spec.constants)), np.nan), bool((loss > 0).all())
    error = np.full((len(cuts), len(loss)), np.nan)
    if fitted.any():
        weights = np.stack([cut.kept for cut in cuts])[fitted].astype(float)
        starts = model.starts(max(4, model.steps // 2), weights)
        theta[fitted] = minimise(model, model.target(loss), weights, starts, KEPT_STARTS, model.delta).theta
        predicted = spec.loss_at(model.values(theta[fitted]), columns)
        error[fitted] = linked(predicted, logs) - linked(loss, logs)
    return Rolled(model, theta, fitted, error)
