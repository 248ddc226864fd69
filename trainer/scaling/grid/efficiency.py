"""How many times the compute of the first objective the others need for the same score on the same tasks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from trainer.config import GridConfig
from trainer.scaling.efficiency.replicates import Replicates
from trainer.scaling.fit.resampling import Interval
from trainer.scaling.grid.results import Point, Results
from trainer.scaling.statistics import fisher_tail, holm

AXES = {"flop": "FLOP", "kwh": "kWh", "money": "money"}
FEWEST_SIZES = 2
UNDETERMINED = 10.0  # an interval whose ends differ by more says nothing
LEAST = 0.005  # nearer to 0 or 1 a share is taken for this
LEVEL = 0.05  # of slopes that are not one
REPLICATES = 1000


@dataclass(frozen=True)
class Factor:
    """Of one objective on one task, or on all of them: times the first objective's compute, by axis."""

    figures: dict[str, Interval]
    why: str = ""  # it is not determined

    @property
    def determined(self) -> bool:
        return not self.why


@dataclass(frozen=True)
class ObjectiveEfficiency:
    """An objective against the first one."""

    objective: str
    tasks: dict[str, Factor]
    whole: Factor  # over all tasks
    doubts: tuple[str, ...]


@dataclass(frozen=True)
class TaskCurve:
    """Score over compute, one curve of all objectives: transformed score = level + slope (log FLOP - shift)."""

    task: str
    objectives: list[str]  # that have scores; the first one's shift is 0
    slope: np.ndarray  # [1 + R]
    shifts: np.ndarray  # [1 + R, objectives]: log factors
    level: float  # of the first objective at 1 FLOP
    refused: dict[str, str]  # objective -> why one shift does not say it
    fitted: tuple[int, int]  # scores and constants


def transformed(values: np.ndarray, score: str) -> np.ndarray:
    """What rises in proportion to the logarithm of compute: of shares the logit, of perplexity minus the log of the
    loss (a power of compute), of a correlation Fisher's z."""
    if score == "perplexity":
        return -np.log(np.log(np.maximum(values, 1.001)))
    if score == "matthews":
        return np.arctanh(np.clip(values, LEAST - 1, 1 - LEAST))
    share = np.clip(values, LEAST, 1 - LEAST)
    return np.log(share / (1 - share))


def untransformed(values: np.ndarray, score: str) -> np.ndarray:
    """The scores again."""
    if score == "perplexity":
        return np.exp(np.exp(-values))
    return np.tanh(values) if score == "matthews" else 1 / (1 + np.exp(-values))


def task_curves(results: Results, replicates: int = REPLICATES) -> tuple[dict[str, TaskCurve], Replicates | None]:
    """For each task that the first objective has scores on, and the replicates that all share. A size and seed is drawn
    as a whole, over objectives and tasks: its runs read the same data in the same order."""
    points = [point for point in results.points if point.costs["flop"]]
    if len(results.sizes) < FEWEST_SIZES or not points:
        return {}, None
    numbers: dict[Any, int] = {}
    clusters = np.array([numbers.setdefault((point.size, point.seed), len(numbers)) for point in points])
    again = Replicates(clusters, replicates, 0)
    curves = {}
    for task in results.grid.tasks:
        here = np.array([point.task == task for point in points])
        first = next(iter(results.grid.objectives))
        if any(point.objective == first for point, one in zip(points, here, strict=True) if one):
            own = [point for point, one in zip(points, here, strict=True) if one]
            curves[task] = _curve(results.grid, task, own, again.weights[:, here])
    return curves, again


def _curve(grid: GridConfig, task: str, points: Sequence[Point], weights: np.ndarray) -> TaskCurve:
    objectives = [name for name in grid.objectives if any(point.objective == name for point in points)]
    whose = np.array([objectives.index(point.objective) for point in points])
    x = np.log([point.costs["flop"] for point in points])  # type: ignore[arg-type]
    y = transformed(np.array([point.value for point in points]), grid.tasks[task].score)
    middle = x.mean()
    dummies = np.eye(len(objectives))[whose]
    design = np.concatenate([dummies, (x - middle)[:, None]], axis=1)
    solved = _least_squares(design, y, np.concatenate([np.ones((1, len(y))), weights]))
    levels, slope = solved[:, :-1], solved[:, -1]
    with np.errstate(divide="ignore", invalid="ignore"):
        shifts = (levels[:, :1] - levels) / slope[:, None]
    residual = y - design @ solved[0]
    tests = {
        name: _slope_test(x, y, whose, number, residual, len(objectives) + 1)
        for number, name in enumerate(objectives[1:], 1)
    }
    known = {name: p for name, p in tests.items() if p is not None}
    refused = {
        name: f"on {task} its score rises otherwise with compute than that of the others (p = {p:.2g})"
        for name, p in zip(known, holm(list(known.values())), strict=True)
        if p < LEVEL
    }
    level = float(levels[0, 0] - slope[0] * middle)
    return TaskCurve(task, objectives, slope, shifts, level, refused, (len(y), len(objectives) + 1))


def _least_squares(design: np.ndarray, y: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """[R, p] for weights [R, n]; a tiny ridge stands for what no run tells."""
    square = np.einsum("rn,np,nq->rpq", weights, design, design, optimize=True)
    right = np.einsum("rn,np,n->rp", weights, design, y, optimize=True)
    return np.linalg.solve(square + 1e-9 * len(y) * np.eye(design.shape[1]), right[:, :, None])[:, :, 0]


def _slope_test(
    x: np.ndarray, y: np.ndarray, whose: np.ndarray, number: int, residual: np.ndarray, constants: int
) -> float | None:
    """p of a slope of its own for this objective: an F-test against the curve of all. None with too few runs."""
    own = np.where(whose == number, x - x[whose == number].mean(), 0.0)
    rest = len(y) - constants - 1
    if rest < 1 or np.ptp(x[whose == number]) < 1e-9:
        return None
    dummies = np.concatenate([np.eye(whose.max() + 1)[whose], (x - x.mean())[:, None], own[:, None]], axis=1)
    left = y - dummies @ np.linalg.lstsq(dummies, y, rcond=None)[0]
    before, after = float(residual @ residual), float(left @ left)
    return fisher_tail((before - after) / max(after / rest, 1e-300), 1, rest)


def efficiencies(results: Results, replicates: int = REPLICATES) -> list[ObjectiveEfficiency]:
    """Each objective but the first; empty for a grid of fewer than two sizes."""
    curves, again = task_curves(results, replicates)
    if again is None or not curves:
        return []
    points = [point for point in results.points if point.costs["flop"]]
    prices = {axis: _price_ratios(results.grid, points, axis, again) for axis in AXES if axis != "flop"}
    found = []
    for name in list(results.grid.objectives)[1:]:
        own = {task: curve for task, curve in curves.items() if name in curve.objectives}
        price = {axis: ratios[name] for axis, ratios in prices.items() if name in ratios}
        tasks = {task: _factor(curve, name, price, again) for task, curve in own.items()}
        doubts = [curve.refused[name] for curve in own.values() if name in curve.refused]
        whole, apart = _over_tasks(own, tasks, name, price, again)
        found.append(ObjectiveEfficiency(name, tasks, whole, tuple([*doubts, *apart])))
    return found


def _factor(curve: TaskCurve, name: str, prices: dict[str, np.ndarray], again: Replicates) -> Factor:
    logs = curve.shifts[:, curve.objectives.index(name)]
    falls = np.mean(curve.slope[1 : 1 + again.count] <= 0)
    if curve.slope[0] <= 0 or falls > LEVEL / 2:
        return Factor(
            _figures(logs, {}, again, curve.fitted), f"scores do not surely rise with compute on {curve.task}"
        )
    return _checked(_figures(logs, prices, again, curve.fitted))


def _checked(figures: dict[str, Interval]) -> Factor:
    flop = figures["flop"]
    if not np.isfinite(flop.low):
        return Factor(figures, "it has no interval")
    if flop.high > UNDETERMINED * flop.low:
        return Factor(figures, f"{flop.low:.2g} to {flop.high:.2g} is all that these runs tell")
    return Factor(figures)


def _figures(
    logs: np.ndarray, prices: dict[str, np.ndarray], again: Replicates, fitted: tuple[int, int]
) -> dict[str, Interval]:
    of_axes = {"flop": np.zeros(len(logs)), **prices}
    found = {}
    for axis, ratio in of_axes.items():
        figure = again.interval(logs + ratio, *fitted)
        found[axis] = Interval(*(float(np.exp(np.clip(value, -50, 50))) for value in figure))
    return found


def _over_tasks(
    curves: dict[str, TaskCurve],
    tasks: dict[str, Factor],
    name: str,
    prices: dict[str, np.ndarray],
    again: Replicates,
) -> tuple[Factor, list[str]]:
    """The mean of the log factors of all tasks on which it is determined, the surer ones weighing more; and where
    those exclude each other."""
    known = [task for task in curves if tasks[task].determined]
    if not known:
        return Factor(
            {"flop": Interval(np.nan, np.nan, np.nan)}, "; ".join(tasks[task].why for task in curves) or "no score"
        ), []
    logs = np.stack([curves[task].shifts[:, curves[task].objectives.index(name)] for task in known])
    widths = np.array([np.log(tasks[task].figures["flop"].high / tasks[task].figures["flop"].low) for task in known])
    share = 1 / np.maximum(widths, 1e-6) ** 2
    mean = (share / share.sum()) @ logs
    figures = _figures(mean, prices, again, min(curves[task].fitted for task in known))
    flops = [tasks[task].figures["flop"] for task in known]
    apart = []
    if max(one.low for one in flops) > min(one.high for one in flops):
        each = ", ".join(f"{one.value:.2f} on {task}" for task, one in zip(known, flops, strict=True))
        apart.append(f"the tasks contradict each other: {each}")
    return _checked(figures), apart


def _price_ratios(grid: GridConfig, points: Sequence[Point], axis: str, again: Replicates) -> dict[str, np.ndarray]:
    """Objective -> [1 + R]: log of what a FLOP costs it against the first objective; none that does not state it."""
    known = np.array([bool(point.costs.get(axis)) for point in points])
    objectives = [
        name for name in grid.objectives if any(k and p.objective == name for k, p in zip(known, points, strict=True))
    ]
    if not objectives or objectives[0] != next(iter(grid.objectives)) or len(objectives) < 2:
        return {}
    stated = [point for point, one in zip(points, known, strict=True) if one]
    x = np.log([point.costs["flop"] for point in stated])  # type: ignore[arg-type]
    y = np.log([point.costs[axis] for point in stated]) - x  # type: ignore[arg-type]
    whose = np.array([objectives.index(point.objective) for point in stated])
    design = np.concatenate([np.eye(len(objectives))[whose], (x - x.mean())[:, None]], axis=1)
    weights = np.concatenate([np.ones((1, len(y))), again.weights[:, known]])
    levels = _least_squares(design, y, weights)[:, :-1]
    return {name: levels[:, number] - levels[:, 0] for number, name in enumerate(objectives)}


def efficiencies_json(results: Results, found: Sequence[ObjectiveEfficiency]) -> dict[str, Any] | None:
    """The same as plain data; None where a grid has no sizes."""
    if not results.sizes:
        return None

    def plain(factor: Factor) -> dict[str, Any]:
        return {
            "determined": factor.determined,
            "why": factor.why or None,
            **{axis: figure.to_json() for axis, figure in factor.figures.items()},
        }

    return {
        "against": next(iter(results.grid.objectives)),
        "objectives": {
            one.objective: {
                "tasks": {task: plain(factor) for task, factor in one.tasks.items()},
                "all_tasks": plain(one.whole),
                "doubts": list(one.doubts),
            }
            for one in found
        },
    }
