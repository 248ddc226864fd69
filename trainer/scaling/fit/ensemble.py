"""Near-best forms together, and intervals that are as wide as held-out predictions were wrong."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from trainer.scaling.fit.choice import Choice
from trainer.scaling.fit.parametric import Law
from trainer.scaling.fit.resampling import LEVEL, Interval, resample
from trainer.scaling.fit.rolling import Cut, Rolled, linked, reach_of, spans
from trainer.scaling.fit.solver import minimise
from trainer.scaling.fit.table import Table
from trainer.scaling.forms import FORMS
from trainer.utils.errors import UserError

DRAWS = 400
NORMAL = 1.959964  # half a 95% interval of a normal distribution, in standard deviations
CUT_REPLICATES = 16  # a cut: enough for a spread
FREEDOM = 4.0  # of Student's t, by which held-out errors are judged: outliers do not decide
GROWTHS = np.concatenate([[0.0], np.geomspace(1e-4, 0.2, 50)])  # tried, per unit of log reach
USUAL_GROWTH = 7e-4  # half-width of the prior over them
STRETCHES = np.geomspace(0.35, 3.0, 12)  # tried, of the bootstrap's spread
USUAL_STRETCH = (0.7, 0.4)  # median and deviation of the logarithm of the prior over them
NOISES = np.geomspace(1.0, 2.5, 6)  # tried, of the noise: runs beyond a fit scatter no less than those in it
USUAL_NOISE = 0.15  # deviation of the logarithm of the prior over them
MANY_PAIRS = 200  # held-out predictions from which on their own sizes widen an interval that holds too few of them
RIVALRY = 4.0  # a rival's say ~ error^-RIVALRY
LEAST_SAY = 0.02  # of a rival that is listened to
APART = 1.8  # half a 95% interval for that, in deviations of the rivals (scripts/bench/coverage.py)
RUNS_OF_A_CUT = 1.5  # its held-out runs count as this times the root of their number: their errors go together


@dataclass(frozen=True)
class Member:
    """A form with constants [1 + R, p]: the fit first, then its replicates."""

    form: str
    weight: float
    values: np.ndarray


@dataclass(frozen=True)
class Calibration:
    """What a run may miss a law by, beyond what the bootstrap says.

    Standard deviations on the scale of log loss (of the loss itself where it is normalised): `noise` of a run around
    the law, and `growth` x log(reach) for what the form itself gets wrong beyond the runs it was fitted to. `stretch`
    is the factor of the bootstrap's own spread.
    """

    noise: float
    growth: float
    stretch: float = 1.0
    checked: int = 0  # held-out predictions that it comes from, over all cuts
    pairs: tuple[tuple[float, float], ...] = ()  # (reach, error) of each

    @property
    def tested(self) -> bool:
        return self.checked > 0

    def to_json(self) -> dict[str, Any]:
        pairs = [{"reach": reach, "error": error} for reach, error in self.pairs]
        facts = {name: getattr(self, name) for name in ("noise", "growth", "stretch", "checked")}
        return {**facts, "held_out": pairs}

    def deviation(self, reach: np.ndarray) -> np.ndarray:
        return np.sqrt(self.noise**2 + (self.growth * np.log(reach)) ** 2)


@dataclass(frozen=True)
class Ensemble:
    """The chosen form first, others that predict nearly as well beside it."""

    members: tuple[Member, ...]
    calibration: Calibration
    known: Mapping[str, tuple[float, float]]  # name -> smallest and largest of the runs
    logs: bool = True  # whether errors are logarithms
    averaged: bool = False  # whether the members' weighted mean is predicted; else the chosen form alone
    flop_rate: tuple[float, float] | None = None  # log k, c of FLOP = k N^c D
    draws: int = field(default=DRAWS)
    rivals: tuple[Member, ...] = ()  # every form that was tried, without replicates; weight: against the best's 1

    def variables(self) -> tuple[str, ...]:
        """What has to be given at a point, for all members."""
        names = dict.fromkeys(name for member in self.members for name in FORMS[member.form].variables)
        if "flop" in names and self.flop_rate is not None:
            names = dict.fromkeys([*(n for n in names if n != "flop"), "parameters", "tokens"])
        return tuple(names)

    def complete(self, variables: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """With FLOPs by the table's own rule, where they are not given."""
        points = {name: np.atleast_1d(np.asarray(x, float)) for name, x in variables.items()}
        if "flop" not in points and self.flop_rate is not None and {"parameters", "tokens"} <= set(points):
            log_k, power = self.flop_rate
            points["flop"] = np.exp(log_k) * points["parameters"] ** power * points["tokens"]
        return points

    def value(self, variables: Mapping[str, np.ndarray]) -> np.ndarray:
        """[m]: the loss that is predicted: the chosen form's, or the members' mean where that erred less."""
        points = self.complete(variables)
        if not self.averaged:
            return self._of(self.members[0], points)[0]
        mean = sum(one.weight * linked(self._of(one, points)[0], self.logs) for one in self.members)
        return np.exp(mean) if self.logs else np.asarray(mean)

    def sample(self, variables: Mapping[str, np.ndarray]) -> np.ndarray:
        """[R, m]: draws of the law's loss, over replicates of each member as often as its weight says.

        They say how far the law is determined; a run's noise and what the form misses are `calibration`'s.
        """
        points, rows = self.complete(variables), []
        for member in self.members:
            losses = self._of(member, points)
            replicates = losses[1:] if len(losses) > 1 else losses
            count = max(1, round(member.weight * self.draws))
            rows.append(replicates[np.linspace(0, len(replicates) - 1, count).round().astype(int)])
        return np.concatenate(rows)

    def reach(self, variables: Mapping[str, np.ndarray]) -> np.ndarray:
        """[m], at least 1: how far beyond the runs each point lies, on its farthest axis."""
        return reach_of(self.known, self.complete(variables))

    def farthest(self, variables: Mapping[str, np.ndarray]) -> tuple[str, float]:
        """The axis on which a single point lies farthest beyond the runs, and by which factor; 1 among them."""
        points = self.complete(variables)
        alone = {name: float(reach_of({name: span}, points)[0]) for name, span in self.known.items() if name in points}
        axis = max(alone, key=lambda name: alone[name], default="")
        return (axis, alone[axis]) if axis and alone[axis] > 1 else ("", 1.0)

    def apart(self, points: Mapping[str, np.ndarray]) -> np.ndarray:
        """[m]: how far the forms that were tried lie from what is predicted, on the scale of the calibration, as a
        deviation in which a form counts by its held-out error: beyond the runs, where none of them may be right."""
        value, total = linked(self.value(points), self.logs), 0.0
        squares = np.zeros_like(value)
        for rival in self.rivals:
            if set(FORMS[rival.form].variables) <= set(points):
                loss = self._of(rival, points)[0]
                good = np.isfinite(loss) & ((loss > 0) | (not self.logs))
                away = linked(np.where(good, loss, 1.0), self.logs) - value
                squares = squares + rival.weight * np.where(good, away**2, 0.0)
                total += rival.weight
        return np.sqrt(squares / total) if total else np.zeros_like(value)

    def interval(self, variables: Mapping[str, np.ndarray], *, of_a_run: bool = True) -> list[Interval]:
        """A value and where 95% of runs like it end; without `of_a_run` where the law lies, noise left out."""
        points = self.complete(variables)
        value = linked(self.value(points), self.logs)
        draws = linked(self.sample(points), self.logs)
        low, high = np.nanpercentile(draws, [50 * (1 - LEVEL), 50 * (1 + LEVEL)], axis=0)
        calibration = self.calibration
        reach = self.reach(points)
        extra = calibration.deviation(reach) if of_a_run else calibration.growth * np.log(reach)
        extra = np.hypot(NORMAL * extra, APART * self.apart(points))
        below = np.hypot(calibration.stretch * np.maximum(value - low, 0), extra)
        above = np.hypot(calibration.stretch * np.maximum(high - value, 0), extra)
        back = np.exp if self.logs else np.asarray
        ends = zip(back(value), back(value - below), back(value + above), strict=True)
        return [Interval(float(a), float(b), float(c)) for a, b, c in ends]

    @staticmethod
    def _of(member: Member, points: Mapping[str, np.ndarray]) -> np.ndarray:
        spec = FORMS[member.form]
        if lacking := [name for name in spec.variables if name not in points]:
            raise UserError(
                f"the law ({member.form}) reads {', '.join(lacking)} as well, which the point does not give"
            )
        return spec.loss_at(member.values, [points[name] for name in spec.variables])


def ensemble_of(
    table: Table, choice: Choice, laws: Mapping[str, Law], flop_rate: tuple[float, float] | None, seed: int = 0
) -> Ensemble:
    """The laws of the near-best forms, calibrated on what they predicted for runs held out. laws: of these forms, and
    of others, which say how far apart forms lie."""
    weights = choice.weights()
    members = tuple(Member(form, share, laws[form].constants()) for form, share in weights.items())
    logs = bool((table.column("loss") > 0).all())
    noise = run_noise(laws[choice.chosen], table)
    averaged, errors = better(choice, weights)
    calibration = calibrate(choice, weights, errors, noise, logs, seed)
    rivals = rivals_of(choice, laws)
    return Ensemble(members, calibration, spans(table), logs, averaged, flop_rate, rivals=rivals)


def rivals_of(choice: Choice, laws: Mapping[str, Law]) -> tuple[Member, ...]:
    """The forms that were tried and are not far worse than the best, each with its say."""
    errors = {one.form: one.error for one in choice.candidates if one.error > 0 and one.form in laws}
    says = {form: (min(errors.values()) / error) ** RIVALRY for form, error in errors.items()}
    return tuple(Member(form, say, laws[form].constants()[:1]) for form, say in says.items() if say >= LEAST_SAY)


def better(choice: Choice, weights: Mapping[str, float]) -> tuple[bool, np.ndarray]:
    """Whether the members' mean erred less at the cuts than the chosen form, and [cuts, runs] what the better erred."""
    rolled = choice.rolled
    alone = rolled[choice.chosen].error if rolled else np.empty((0, len(choice.table.runs)))
    if len(weights) < 2 or not rolled:
        return False, alone
    together = np.sum([share * rolled[form].error for form, share in weights.items()], axis=0)
    apart, mean = ([np.abs(x[k, cut.out]).mean() for k, cut in enumerate(choice.cuts)] for x in (alone, together))
    return (True, together) if np.mean(mean) < np.mean(apart) else (False, alone)


def run_noise(law: Law, table: Table) -> float:
    """Standard deviation of runs around their law, by the middle of the residuals: outliers do not widen it.

    A fit of absolute values passes through as many runs as it has constants; these residuals are left out.
    """
    logs = bool((table.column("loss") > 0).all())
    predicted = law.model.loss_at(law.model.values(law.theta), [table.column(name) for name in law.model.variables])[0]
    sizes = np.sort(np.abs(linked(predicted, logs) - linked(table.column("loss"), logs)))
    rest = sizes[min(law.theta.shape[1], len(sizes) - 1) :]
    return float(np.quantile(rest, 0.75) / 1.1503)  # three quarters of a normal distribution


def calibrate(
    choice: Choice, weights: Mapping[str, float], errors: np.ndarray, noise: float, logs: bool, seed: int
) -> Calibration:
    """How errors at the cuts grow with reach, and by which factors the bootstrap's spread there and the noise within
    the fit are too wide or too narrow.

    All are averaged over their posterior, so that few held-out runs leave the usual values, and many decide.
    """
    if not choice.cuts:
        return Calibration(noise, 3 * USUAL_GROWTH)
    spread = _spread(choice, weights, errors, logs, seed)
    pairs: list[tuple[float, float]] = []
    centre, width = USUAL_STRETCH
    prior = np.log(np.gradient(GROWTHS)) - np.log1p((GROWTHS / USUAL_GROWTH) ** 2)
    evidence = (
        prior[:, None, None]
        - 0.5 * (np.log(STRETCHES[:, None] / centre) / width) ** 2
        - 0.5 * (np.log(NOISES) / USUAL_NOISE) ** 2
    )  # [growths, stretches, noises]
    for k, cut in enumerate(choice.cuts):
        error = errors[k, cut.out]
        pairs += zip(cut.reach.tolist(), error.tolist(), strict=True)
        grown = (GROWTHS[:, None, None, None] * np.log(cut.reach)) ** 2
        stretched = (STRETCHES[:, None, None] * spread[k, cut.out]) ** 2
        variance = grown + stretched + (NOISES[:, None] * noise) ** 2
        likelihood = -0.5 * np.log(variance) - 0.5 * (FREEDOM + 1) * np.log1p(error**2 / variance / FREEDOM)
        counted = RUNS_OF_A_CUT * (len(error) / len(choice.cuts)) ** 0.5
        evidence = evidence + counted * likelihood.mean(axis=3)
    posterior = np.exp(evidence - evidence.max())
    posterior /= posterior.sum()
    growth = float(np.sqrt(posterior.sum(axis=(1, 2)) @ GROWTHS**2))
    stretch = float(np.sqrt(posterior.sum(axis=(0, 2)) @ STRETCHES**2))
    noise *= float(np.sqrt(posterior.sum(axis=(0, 1)) @ NOISES**2))
    wider = _widening(choice, errors, spread, Calibration(noise, growth, stretch)) if len(pairs) >= MANY_PAIRS else 1.0
    return Calibration(noise * wider, growth * wider, stretch * wider, len(pairs), tuple(pairs))


def _widening(choice: Choice, errors: np.ndarray, spread: np.ndarray, found: Calibration) -> float:
    """By which factor, at least 1, intervals must be wider to hold 95% of the held-out runs."""
    sizes = []
    for k, cut in enumerate(choice.cuts):
        grown, stretched = found.growth * np.log(cut.reach), found.stretch * spread[k, cut.out]
        sizes.append(np.abs(errors[k, cut.out]) / np.sqrt(grown**2 + stretched**2 + found.noise**2))
    return float(np.clip(np.quantile(np.concatenate(sizes), LEVEL) / NORMAL, 1.0, 2.0))


def _spread(choice: Choice, weights: Mapping[str, float], centre: np.ndarray, logs: bool, seed: int) -> np.ndarray:
    """[cuts, runs]: the ensemble's deviation around what it predicts (`centre`), by a few replicates a cut."""
    table, cuts = choice.table, choice.cuts
    drawn = np.concatenate([_resampled(table, cut, seed) for cut in cuts])
    squares = np.zeros((len(cuts), len(table.runs)))
    loss = table.column("loss")
    for form, share in weights.items():
        rolled = choice.rolled[form]
        theta = _replicates(rolled, drawn, loss)
        columns = [table.column(name) for name in FORMS[form].variables]
        predicted = linked(rolled.model.loss_at(rolled.model.values(theta), columns), logs) - linked(loss, logs)
        apart = predicted.reshape(len(cuts), CUT_REPLICATES, -1) - centre[:, None]
        squares += share * np.mean(apart**2, axis=1)
    return np.sqrt(squares)


def _replicates(rolled: Rolled, drawn: np.ndarray, loss: np.ndarray) -> np.ndarray:
    near = np.concatenate([np.repeat(rolled.model.near(row)[None], CUT_REPLICATES, axis=0) for row in rolled.theta])
    return minimise(rolled.model, rolled.model.target(loss), drawn, near, 1, rolled.model.delta).theta


def _resampled(table: Table, cut: Cut, seed: int) -> np.ndarray:
    weights = np.zeros((CUT_REPLICATES, len(table.runs)))
    weights[:, cut.kept] = resample(table.only(cut.kept), CUT_REPLICATES, seed)
    return weights
