"""An efficiency factor: how many times the compute of the first one a second one needs for the same loss."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from trainer.scaling.efficiency.budgets import factors_at
from trainer.scaling.efficiency.joint import EXPONENTS, JointFit, fit_joint, misfit
from trainer.scaling.efficiency.replicates import Replicates
from trainer.scaling.efficiency.sides import Sides
from trainer.scaling.fit.resampling import Interval
from trainer.scaling.fit.table import AXES
from trainer.scaling.statistics import fisher_tail

LEVEL = 0.05  # below which one factor for all compute is refused
UNDETERMINED = 10.0  # an interval whose ends differ by more says nothing


@dataclass(frozen=True)
class HeldOut:
    """Root mean square of log loss of the largest budget, predicted without it."""

    runs: int
    joint: float
    separate: float


@dataclass(frozen=True)
class Efficiency:
    """What the second side needs for the loss of the first, as a multiple."""

    sides: Sides
    replicates: int
    constants: dict[str, Interval]  # of the law of both
    factors: dict[str, Interval]  # by axis: flop, kwh, gco2e, money
    drift: Interval  # exponent of the FLOPs in the factor
    ends: list[tuple[float, Interval]]  # the factor at the least and the most FLOPs of both, by that drift
    separate: list[tuple[float, Interval]]  # and by two laws of their own
    f: float | None  # of the two laws against one with a factor; None where there are too few runs
    freedom: tuple[int, int]
    p: float | None
    held_out: HeldOut | None
    joint: JointFit  # the one law
    pointwise: tuple[np.ndarray, np.ndarray]  # FLOPs of the second side's runs, and the factor that each tells alone
    doubts: list[str] = field(default_factory=list)

    @property
    def flop(self) -> Interval:
        return self.factors["flop"]

    @property
    def determined(self) -> bool:
        return bool(np.isfinite(self.flop.low) and self.flop.high < UNDETERMINED * self.flop.low)

    def lines(self, side: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
        """(FLOPs, loss) along the one law for the runs that `side` marks: for each size, or all together."""
        sides, flop = self.sides, self.sides.table.column("flop")
        sizes = sides.logs[:, 0] if sides.form == "sizes" else np.zeros(len(flop))
        found = []
        for size in np.unique(sizes[side]):
            here = side & (sizes == size)
            x = np.linspace(np.log(flop[here].min()), np.log(flop[here].max()), 40)
            points = x[:, None]
            if sides.form == "sizes":
                per_token = np.log(flop[here] / sides.table.column("tokens")[here]).mean()
                points = np.stack([np.full(40, size), x - per_token], axis=1)
            points = points.copy()
            points[:, -1] -= self.joint.theta[-1] * sides.second[here][0]
            found.append((np.exp(x), self.joint.law.loss_at(self.joint.theta[None], points)[0]))
        return found

    @property
    def one_factor(self) -> bool:
        """Whether nothing speaks against one factor for all compute."""
        drifts = np.isfinite(self.drift.low) and not self.drift.low <= 0 <= self.drift.high
        return not drifts and (self.p is None or self.p >= LEVEL)


def efficiency(found: Sides, *, replicates: int = 400, seed: int = 0) -> Efficiency:
    """Fit one law to both sides with a factor between them, once more with a drift of it, and each side alone."""
    logs, loss, mark = found.logs, found.table.column("loss"), found.second.astype(float)[:, None]
    again = Replicates(found.clusters, replicates, seed)
    weights = again.weights
    joint = fit_joint(logs, mark, loss, weights)
    middle = np.log(found.table.column("flop")).mean()
    distance = (np.log(found.table.column("flop")) - middle)[:, None]
    drifting = fit_joint(logs, np.concatenate([mark, mark * distance], axis=1), loss, weights, joint.spread)
    alone = [
        fit_joint(logs[side], np.empty((side.sum(), 0)), loss[side], weights[:, side], joint.spread)
        for side in (~found.second, found.second)
        if side.sum() > logs.shape[1] * 2 + 1
    ]
    f, freedom, p = _f_test(joint, alone, len(loss))
    factors = _by_axis(found, joint, again)
    flop_ratio = _log_ratio(found, "flop", weights)
    level, slope = drifting.all[:, -2] + flop_ratio, drifting.all[:, -1]
    ends = [
        (budget, _exp(again.interval(level + slope * (np.log(budget) - middle), *drifting.size)))
        for budget in found.common
    ]
    separate = factors_at(found, alone, again) if len(alone) == 2 else []
    result = Efficiency(
        sides=found,
        replicates=replicates,
        constants=_constants(found, joint, again),
        factors=factors,
        drift=again.interval(slope, *drifting.size),
        ends=ends,
        separate=separate,
        f=f,
        freedom=freedom,
        p=p,
        held_out=_held_out(found),
        joint=joint,
        pointwise=_pointwise(found, joint, float(flop_ratio[0])),
    )
    result.doubts.extend(_doubts(result, joint))
    return result


def _f_test(joint: JointFit, alone: list[JointFit], runs: int) -> tuple[float | None, tuple[int, int], float | None]:
    """Whether two laws of their own fit better than chance against one law with a factor."""
    if len(alone) < 2:
        return None, (0, 0), None
    more, rest = sum(one.constants for one in alone) - joint.constants, runs - sum(one.constants for one in alone)
    if rest < 1:
        return None, (more, rest), None
    together, apart = misfit([joint], joint.spread), misfit(alone, joint.spread)
    f = max(0.0, (together - apart) / more) / max(apart / rest, 1e-12)
    return f, (more, rest), fisher_tail(f, more, rest)


def _exp(figure: Interval) -> Interval:
    return Interval(*(float(np.exp(value)) for value in figure))


def _by_axis(found: Sides, joint: JointFit, again: Replicates) -> dict[str, Interval]:
    """The factor in FLOPs, and in each other amount that runs of both sides state."""
    factors = {}
    for axis in AXES:
        ratio = _log_ratio(found, axis, again.weights)
        if np.isfinite(ratio[0]):
            factors[axis] = _exp(again.interval(joint.all[:, -1] + ratio, *joint.size))
    return factors


def _log_ratio(found: Sides, axis: str, weights: np.ndarray) -> np.ndarray:
    """[1 + R]: log of what a token (or a FLOP) costs the second against the first, at the same size (or FLOPs).

    nan where a side has fewer than two runs that state it.
    """
    amount, base = found.table.column(axis), found.table.column(found.base)
    known = np.isfinite(amount) & (amount > 0)
    if min(known[found.second].sum(), known[~found.second].sum()) < 2:
        return np.full(1 + len(weights), np.nan)
    y = np.log(amount[known] / base[known])
    size = found.logs[known, 0]
    x = np.stack([np.ones(len(y)), size - size.mean(), found.second[known].astype(float)], axis=1)
    w = np.concatenate([np.ones((1, len(amount))), weights])[:, known]
    square = np.einsum("rn,np,nq->rpq", w, x, x) + 1e-9 * len(y) * np.eye(3)
    return np.linalg.solve(square, np.einsum("rn,np,n->rp", w, x, y)[:, :, None])[:, 2, 0]


def _constants(found: Sides, joint: JointFit, again: Replicates) -> dict[str, Interval]:
    """E, exponents and the rest of the first side's law, as papers print them."""
    theta, v = joint.all, joint.law.variables
    k = theta[:, 1 + v : 1 + 2 * v]
    names = ("E", "A", "B", "alpha", "beta") if found.form == "sizes" else ("E", "K", "k")
    log_k = theta[:, 1 : 1 + v] + k * joint.law.centre
    figures = [_exp(again.interval(column, *joint.size)) for column in (theta[:, 0], *log_k.T)]
    figures += [again.interval(column, *joint.size) for column in k.T]
    if theta[0, 0] <= joint.law.low[0] + 1e-6:
        figures[0] = Interval(0.0, 0.0, figures[0].high)
    return dict(zip(names, figures, strict=True))


def _pointwise(found: Sides, joint: JointFit, flop_ratio: float) -> tuple[np.ndarray, np.ndarray]:
    """The factor under which the law would go through each run of the second side, to first order."""
    slope = joint.law.predict(joint.theta[None])[1][0, :, -1] / joint.law.scale
    side = found.second
    logs = joint.theta[-1] + joint.residuals()[side] / np.maximum(slope[side], 1e-9)
    return found.table.column("flop")[side], np.exp(np.clip(logs + flop_ratio, -5, 5))


def _held_out(found: Sides) -> HeldOut | None:
    """Without the largest budget of either side: one law of both against two. None where the rest is too poor."""
    budgets, logs, loss = found.table.budgets, found.logs, found.table.column("loss")
    out = np.zeros(len(loss), bool)
    for side in (~found.second, found.second):
        out |= side & (budgets == budgets[side].max())
    least = 2 * logs.shape[1] + 2
    if any((~out & side).sum() < least for side in (~found.second, found.second)):
        return None
    if len(np.unique(budgets[~out & found.second])) < 2 or len(np.unique(budgets[~out & ~found.second])) < 2:
        return None
    mark = found.second.astype(float)
    joint = fit_joint(logs[~out], mark[~out, None], loss[~out])
    moved = logs[out].copy()
    moved[:, -1] -= joint.theta[-1] * mark[out]
    errors = {"joint": np.log(joint.law.loss_at(joint.theta[None], moved)[0] / loss[out])}
    own = np.empty(out.sum())
    for side in (~found.second, found.second):
        here = ~out & side
        one = fit_joint(logs[here], np.empty((here.sum(), 0)), loss[here], spread=joint.spread)
        own[side[out]] = np.log(one.law.loss_at(one.theta[None], logs[out & side])[0] / loss[out & side])
    errors["separate"] = own
    return HeldOut(int(out.sum()), **{name: float(np.sqrt(np.mean(error**2))) for name, error in errors.items()})


def _doubts(found: Efficiency, joint: JointFit) -> list[str]:
    """What must be read with the factor."""
    doubts = []
    if not found.determined:
        doubts.append("not determined: these runs do not tell the factor to within ten times")
    if found.p is not None and found.p < LEVEL:
        doubts.append(
            f"one law with a factor misses what two laws fit (F = {found.f:.2f}, p = {found.p:.2g}): read the factors "
            "at stated budgets"
        )
    if np.isfinite(found.drift.low) and not found.drift.low <= 0 <= found.drift.high:
        at = ", ".join(f"{figure.value:.3g} at {budget:.3g} FLOP" for budget, figure in found.ends)
        doubts.append(f"the factor drifts with scale (C^{found.drift.value:+.3f}): {at}; one number does not say it")
    if found.held_out is not None and found.held_out.joint > 1.5 * found.held_out.separate:
        doubts.append(
            f"without the largest budget one law of both predicts it within {100 * found.held_out.joint:.2g}%, two "
            f"laws within {100 * found.held_out.separate:.2g}%"
        )
    low, high = found.sides.common
    if high < 3 * low:
        doubts.append(f"both cover {low:.3g} to {high:.3g} FLOP only: how the factor goes on is not known")
    v = joint.law.variables
    bound = [value for value in joint.theta[1 + v : 1 + 2 * v] if not 1.01 * EXPONENTS[0] < value < 0.99 * EXPONENTS[1]]
    if bound:
        doubts.append("an exponent of the law ran to its bound: these runs do not say how loss falls")
    if not found.sides.pairs:
        doubts.append("no two runs are of one place and seed: nothing is taken as a pair")
    return doubts
