"""Doubts from what a law misses: against seed noise, in one direction, by single runs, and which runs decide it."""

from __future__ import annotations

import math

import numpy as np

from trainer.scaling.fit.doubt import Doubt, number, percent
from trainer.scaling.fit.parametric import Law
from trainer.scaling.fit.resampling import interval
from trainer.scaling.fit.solver import minimise
from trainer.scaling.fit.table import Table, named
from trainer.scaling.statistics import fisher_tail

RARE = 1e-3  # probability by chance below which a misfit is a doubt
FAR = 5.0  # spreads from the law beyond which a run is an outlier
WORTH = 2e-3  # of the loss: what is missed by less is not spoken of
GROUPS = 8  # along a variable of more values
TRIED = 8  # runs that are left out one by one
MOST_OUT = 20  # outliers that are left out one after the other
NEARLY = 0.85  # share of the way that constants move
MUCH = 0.5  # of the width of a constant's interval
SHOWN = 3  # constants in one line


def misses(law: Law, table: Table) -> np.ndarray:
    """[n]: measured minus predicted, in what the form fits: log loss, or the loss where it is normalised."""
    return law.model.target(table.column("loss")) - law.model.predict(law.theta)[0][0]


def spread(missed: np.ndarray, constants: int) -> float:
    """A standard deviation that outliers do not move; as many runs as there are constants are fitted exactly.

    By the median and by the 80th percentile of the sizes, the larger: of few runs one of them alone is often too small.
    """
    rest = np.sort(np.abs(missed))[min(constants, len(missed) - 1) :]
    return float(max(np.median(rest) / 0.6745, np.quantile(rest, 0.8) / 1.2816))


def lack_of_fit(law: Law, table: Table) -> list[Doubt]:
    """The F test of what the law misses at places against what seeds differ within them (Draper and Smith, 2.1)."""
    missed, places, constants = misses(law, table), table.places, law.theta.shape[1]
    count = np.bincount(places)
    means = np.bincount(places, missed) / count
    within, freedom = float(((missed - means[places]) ** 2).sum()), len(missed) - len(count)
    rest = len(count) - constants
    if freedom < 2 or rest < 1 or within <= 0:
        return []
    between = float((count * means**2).sum())
    f = between / rest / (within / freedom)
    p, off = fisher_tail(f, rest, freedom), math.sqrt(between / len(missed))
    if p > RARE or off < WORTH / 2:
        return []
    noise = math.sqrt(within / freedom)
    said = (
        f"lack of fit: {law.form} misses the means of the places by {100 * off:.2g}%, where seeds differ by "
        f"{100 * noise:.2g}% (F {f:.3g} of {rest} and {freedom} degrees of freedom)"
    )
    return [Doubt("lack_of_fit", said, {"f": f, "p": p, "missed": off, "seed_noise": noise})]


def one_sign(law: Law, table: Table, skip: np.ndarray) -> list[Doubt]:
    """A law of another shape misses in waves: neighbours along a variable lie on one side of it.

    For each variable an F test of the means of groups of neighbours, and a runs test of the signs (Wald and Wolfowitz
    1940), which also sees waves within a group. skip: bool [n], outliers, which are no wave.
    """
    missed, table = misses(law, table)[~skip], table.only(~skip)
    places = table.places
    first = np.unique(places, return_index=True)[1]
    means = np.bincount(places, missed) / np.bincount(places)
    columns = {name: np.round(np.log(table.column(name)[first]), 6) for name in law.model.variables}
    if len(means) < 12 or np.abs(means).max() < WORTH / 2:
        return []
    tests = []
    for name, x in columns.items():
        others = [other for key, other in columns.items() if key != name]
        signs = means[np.lexsort([*others, x])] > 0
        tests.append((*_signs(signs), *_groups(x, means), name))
    rare = RARE / len(tests)
    p, changes, expected, q, groups, name = min(tests, key=lambda test: min(test[0], test[3]))
    if min(p, q) > rare:
        return []
    words, off = name.replace("_", " "), [mean for _, mean in groups]
    ends = [groups[k] for k in sorted({int(np.argmax(off)), int(np.argmin(off))})]
    waves = ", ".join(f"{percent(mean)} about {np.exp(x):.3g}" for x, mean in ends)
    said = (
        f"misses of one sign: along {words} the runs lie {waves} off the law, and the residuals change sign "
        f"{changes} times, {expected:.0f} by chance"
    )
    numbers = {"along": name, "changes": changes, "expected": expected, "p_signs": p, "p_groups": q}
    numbers["groups"] = [{"at": float(np.exp(x)), "off": mean} for x, mean in groups]
    return [Doubt("one_sign", said, numbers)]


def _signs(signs: np.ndarray) -> tuple[float, int, float]:
    """Probability of so few changes of sign by chance, how many there are, and how many are expected."""
    above, count = int(signs.sum()), len(signs)
    changes = int((signs[1:] != signs[:-1]).sum())
    product = 2 * above * (count - above)
    expected = product / count
    variance = product * (product - count) / (count**2 * max(count - 1, 1))
    if variance <= 0:
        return 1.0, changes, expected
    return 0.5 * math.erfc((expected - changes) / math.sqrt(2 * variance)), changes, expected


def _groups(x: np.ndarray, means: np.ndarray) -> tuple[float, list[tuple[float, float]]]:
    """Probability by chance that groups along x differ so much, and (mean of x, mean miss) of each."""
    values = np.unique(x)
    edges = values if len(values) <= GROUPS else np.quantile(x, np.arange(GROUPS) / GROUPS)
    group = np.unique(np.searchsorted(edges, x, side="right"), return_inverse=True)[1]
    count = np.bincount(group)
    centre = np.bincount(group, means) / count
    between = float((count * (centre - means.mean()) ** 2).sum())
    within, above, below = float(((means - centre[group]) ** 2).sum()), len(count) - 1, len(means) - len(count)
    p = fisher_tail(between / above / (within / below), above, below) if above > 0 and below > 1 and within > 0 else 1.0
    return p, list(zip((np.bincount(group, x) / count).tolist(), centre.tolist(), strict=True))


def outliers(law: Law, table: Table) -> tuple[list[Doubt], np.ndarray]:
    """Runs far from the law that the others make, furthest first, and what the constants are without them.

    Also bool [n]: which they are.
    """
    missed, constants = misses(law, table), law.theta.shape[1]
    out, theta = np.zeros(len(missed), bool), law.theta
    for _ in range(4):
        few = 1 + 4 / max(len(missed) - constants, 1)  # of few runs the spread itself is uncertain
        far = np.abs(missed) > max(FAR * few * spread(missed, constants), WORTH)
        if (far == out).all() or len(np.unique(table.places[~far])) < constants + 3:
            break
        out = far
        theta = _without(law, table, out[None])
        missed = law.model.target(table.column("loss")) - law.model.predict(theta)[0][0]
    if not out.any():
        return [], out
    order = np.flatnonzero(out)[np.argsort(-np.abs(missed[out]), kind="stable")]
    width, moved, steps = spread(missed, constants), _moved(law, theta[0]), _deciding(law, table, order)
    shown = named(f"{table.runs[k].name} {percent(missed[k])}" for k in order)
    said = (
        f"outliers: {len(order)} of {len(missed)} runs, more than {FAR:.0f} spreads ({100 * width:.2g}%) off the law "
        f"of the others: {shown}"
    )
    if steps:
        first, fewer = steps
        said += (
            f"; without the first {first} {_arrows(fewer)}" if first > 1 else f"; without the first {_arrows(fewer)}"
        )
    if moved:
        said += f"; without {'all of them' if steps else 'them' if len(order) > 1 else 'it'} {_arrows(moved)}"
    numbers = {
        "runs": [{"run": table.runs[k].name, "off": float(missed[k])} for k in order],
        "spread": width,
        "constants": _plain(moved),
        "deciding": steps and {"runs": steps[0], "constants": _plain(steps[1])},
    }
    return [Doubt("outliers", said, numbers)], out


def _deciding(law: Law, table: Table, order: np.ndarray) -> tuple[int, list[tuple[str, float, float]]] | None:
    """How many of the furthest outliers alone move the constants nearly as far as all, and where; None if all do."""
    out = np.zeros((len(order), len(table.runs)), bool)
    for k in range(len(order)):
        out[k, order[: k + 1]] = True
    out = out[:MOST_OUT]
    thetas = _without(law, table, out)
    final = _without(law, table, np.isin(np.arange(len(table.runs)), order)[None])
    values, last = law.model.values(thetas), law.model.values(final)[0]
    moved = _moved(law, final[0])
    if not moved or len(order) < 2:
        return None
    at = law.model.constants.index(moved[0][0])
    begin = law.constants()[0, at]
    near = np.abs(values[:, at] - last[at]) < (1 - NEARLY) * abs(last[at] - begin)
    first = next((k + 1 for k in range(len(near)) if near[k:].all()), len(order))
    return (first, _moved(law, thetas[first - 1])) if first < len(order) else None


def newton_steps(law: Law, table: Table) -> np.ndarray:
    """By how much the constants would move if a run were left out, by one Newton step from the fit without it: [n, p].
    Those at a bound stay there."""
    missed, delta = misses(law, table), law.model.delta
    free = (law.theta[0] > law.model.low) & (law.theta[0] < law.model.high)
    slopes = law.model.predict(law.theta)[1][0][:, free]
    pull = np.minimum(1.0, delta / np.maximum(np.abs(missed), 1e-12))
    curvature = (slopes * pull[:, None]).T @ slopes
    curvature += 1e-9 * np.trace(curvature) * np.eye(len(curvature))
    steps = np.zeros((len(missed), len(free)))
    solved = np.linalg.solve(curvature, (slopes * pull[:, None]).T).T  # [n, free]
    leverage = np.minimum((solved * slopes).sum(axis=1), 0.9)  # share of the curvature that goes with the run
    steps[:, free] = -solved * (missed / (1 - leverage))[:, None]
    return steps


def influence(law: Law, table: Table, skip: np.ndarray) -> list[Doubt]:
    """Single runs without which a constant moves by half of its interval. skip: bool [n], those named already.

    One Newton step at the fit tells which runs to try; those are left out and the law is fitted again.
    """
    if len(law.replicates) < 20:
        return []
    steps = newton_steps(law, table)
    strength = np.where(skip, 0, np.abs(steps / np.maximum(law.replicates.std(axis=0), 1e-12)).max(axis=1))
    tried = np.argsort(-strength, kind="stable")[:TRIED]
    left_out = np.zeros((len(tried), len(table.runs)), bool)
    left_out[np.arange(len(tried)), tried] = True
    values = law.model.values(_without(law, table, left_out))
    columns = law.constants()
    bounds = [interval(column[0], column[1:]) for column in columns.T]
    found = []
    for k, row in zip(tried, values, strict=True):
        beyond = [
            (abs(new - old.value) / max(old.high - old.low, 1e-12), name, old, float(new))
            for name, old, new in zip(law.model.constants, bounds, row, strict=True)
            if tells(name) and np.isfinite(old.low)
        ]
        beyond = [one for one in beyond if one[0] > MUCH]
        if beyond:
            found.append((max(beyond)[0], int(k), max(beyond, key=lambda one: one[0])))
    if not found:
        return []
    found.sort(key=lambda one: -one[0])
    parts = [
        f"{table.runs[k].name} {name} {number(old.value)} -> {number(new)} ({number(old.low)} to {number(old.high)})"
        for _, k, (_, name, old, new) in found[:SHOWN]
    ]
    numbers = [
        {"run": table.runs[k].name, "constant": name, "all": old.value, "without": new}
        for _, k, (_, name, old, new) in found
    ]
    said = "influence: single runs move a constant by half of its interval or more: without " + "; without ".join(parts)
    return [Doubt("influence", said, {"runs": numbers})]


def _without(law: Law, table: Table, out: np.ndarray) -> np.ndarray:
    """theta [B, p] fitted without the runs that out (bool [B, n]) marks, from the law's own on."""
    weights = (~out).astype(float)
    starts = np.broadcast_to(law.model.near(law.theta[0]), (len(out), *law.model.near(law.theta[0]).shape))
    target = law.model.target(table.column("loss"))
    return minimise(law.model, target, weights, starts, keep=1, delta=law.model.delta).theta


def _moved(law: Law, theta: np.ndarray) -> list[tuple[str, float, float]]:
    """(constant, with all runs, with theta) of the constants that tell how the loss falls, those moved most first."""
    old, new = law.constants()[0], law.model.values(theta[None])[0]
    pairs = [
        (name, float(a), float(b)) for name, a, b in zip(law.model.constants, old, new, strict=True) if tells(name)
    ]
    return sorted(pairs, key=lambda one: -abs(one[2] - one[1]) / max(abs(one[1]), 1e-9))


def tells(name: str) -> bool:
    """Whether a constant tells how the loss falls: the floor and the exponents, not the amplitudes."""
    return name == "E" or name[0].islower()


def _plain(moved: list[tuple[str, float, float]]) -> dict[str, dict[str, float]]:
    return {name: {"all": old, "without": new} for name, old, new in moved}


def _arrows(moved: list[tuple[str, float, float]]) -> str:
    return ", ".join(f"{name} {number(old)} -> {number(new)}" for name, old, new in moved[:SHOWN])
