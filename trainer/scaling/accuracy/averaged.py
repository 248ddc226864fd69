"""Bits per byte over parameters and tokens: Chinchilla's form, averaged over the exponents that the runs allow.

Given alpha and beta, E + A/N^alpha + B/D^beta is linear in E, A and B, which a regression finds. Few runs leave the
exponents open, and far beyond them everything hangs on these: so all pairs of a grid answer, each with the weight that
its fit has, instead of the best pair alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from trainer.scaling.fit.solver import huber

EXPONENTS = (0.05, 1.2)
STEPS = 22  # of the grid, along each exponent
LIKELY = 12.0  # a pair is far off where its log likelihood is so much below the best one's
DELTA = 3e-3  # relative residual from which on a run counts by its absolute deviation
ROUNDS = (3, 6)  # of reweighting, on the first grid and on the second
OTHERS = 0.1  # how much another task's exponents say about those of this one
SMALLEST = 1e-5  # relative residual below which a fit is as good as exact


@dataclass(frozen=True)
class Pairs:
    """Every pair of exponents [k, 2] with its constants [k, 3] (E, A, B at centred logarithms) and its fit."""

    exponents: np.ndarray
    constants: np.ndarray
    spread: np.ndarray  # [k, 3, 3], covariance of the constants at a residual variance of 1
    variance: np.ndarray  # [k], of the relative residuals
    log_likelihood: np.ndarray  # [k]
    centre: np.ndarray  # [2]


@dataclass(frozen=True)
class Averaged:
    """The pairs that count, with their weights."""

    pairs: Pairs
    weights: np.ndarray  # [k]

    def at(self, parameters: np.ndarray, tokens: np.ndarray) -> np.ndarray:
        """Bits per byte [m]: the weighted geometric mean."""
        values = powers(self.pairs.constants, self.pairs.exponents, self.pairs.centre, parameters, tokens)
        return np.asarray(np.exp(self.weights @ np.log(np.maximum(values, 1e-6))))

    def floor(self) -> float:
        """Bits per byte that no size and no number of tokens gets below."""
        return float(np.exp(self.weights @ np.log(np.maximum(self.pairs.constants[:, 0], 1e-6))))

    def draw(self, count: int, random: np.random.Generator) -> np.ndarray:
        """[count, 5]: constants E, A, B, alpha, beta at N and D themselves, as likely as the runs make them."""
        pairs = self.pairs
        chosen = random.choice(len(self.weights), size=count, p=self.weights)
        roots = np.linalg.cholesky(pairs.spread[chosen] + 1e-18 * np.eye(3))
        moved = np.einsum("rpq,rq->rp", roots, random.standard_normal((count, 3)))
        constants = pairs.constants[chosen]
        moved *= np.sqrt(pairs.variance[chosen])[:, None]
        constants = np.where(constants > 0, np.maximum(constants + moved, 0.0), 0.0)
        scale = np.exp(pairs.exponents[chosen] * pairs.centre)
        constants[:, 1:] *= scale
        return np.concatenate([constants, pairs.exponents[chosen]], axis=1)

    def noise(self) -> float:
        """Standard deviation of a run's log bits per byte around the law."""
        return float(np.sqrt(self.weights @ self.pairs.variance))


def powers(
    constants: np.ndarray, exponents: np.ndarray, centre: np.ndarray, parameters: np.ndarray, tokens: np.ndarray
) -> np.ndarray:
    """[k, m]: E + A N^-alpha + B D^-beta, with N and D around their centre."""
    n, d = np.log(parameters) - centre[0], np.log(tokens) - centre[1]
    first = constants[:, 1:2] * np.exp(-exponents[:, :1] * n)
    return np.asarray(constants[:, :1] + first + constants[:, 2:] * np.exp(-exponents[:, 1:] * d))


def average(series: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]]) -> list[Averaged]:
    """A law for each task, from (parameters, tokens, bits per byte), [n] each.

    The grid is drawn once more over the pairs that some task finds likely, so that exact tables are met exactly.
    """
    low, high = np.full(2, EXPONENTS[0]), np.full(2, EXPONENTS[1])
    for last in (False, True):
        axes = [np.geomspace(one, other, STEPS) for one, other in zip(low, high, strict=True)]
        grid = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 2)
        fits = [_fit(grid, *one, ROUNDS[last]) for one in series]
        scores = np.stack([fit.log_likelihood for fit in fits])
        others = OTHERS * (scores.sum(axis=0) - scores) / max(1.0, OTHERS * (len(scores) - 1))
        scores = scores + others
        scores -= scores.max(axis=1, keepdims=True)
        if not last:
            likely = grid[(scores > -LIKELY).any(axis=0)]
            step = (EXPONENTS[1] / EXPONENTS[0]) ** (1 / (STEPS - 1))
            low = np.maximum(likely.min(axis=0) / step, EXPONENTS[0])
            high = np.minimum(likely.max(axis=0) * step, EXPONENTS[1])
    found = []
    for fit, score in zip(fits, scores, strict=True):
        kept = np.flatnonzero(score > -LIKELY)
        weights = np.exp(score[kept])
        names = ("exponents", "constants", "spread", "variance", "log_likelihood")
        some = replace(fit, **{name: getattr(fit, name)[kept] for name in names})
        found.append(Averaged(some, weights / weights.sum()))
    return found


def _fit(grid: np.ndarray, parameters: np.ndarray, tokens: np.ndarray, bits: np.ndarray, rounds: int) -> Pairs:
    """Relative residuals, weighed again until large ones count by their absolute value; no constant is negative."""
    logs = np.log(np.stack([parameters, tokens]))
    centre = logs.mean(axis=1)
    powers_of = np.exp(-grid[:, :, None] * (logs - centre[:, None])[None])  # [k, 2, n]
    columns = np.concatenate([np.ones_like(powers_of[:, :1]), powers_of], axis=1).transpose(0, 2, 1) / bits[:, None]
    weights = np.ones(columns.shape[:2])
    for _ in range(rounds):
        constants, square = _positive(columns, weights)
        residual = np.einsum("knp,kp->kn", columns, constants) - 1
        weights = np.minimum(1.0, DELTA / np.maximum(np.abs(residual), 1e-12))
    count = len(bits)
    objective = 2 * huber(residual, DELTA).sum(axis=1) + count * SMALLEST**2
    freedom = max(1, count - 5)
    ridge = 1e-12 * np.trace(square, axis1=1, axis2=2)[:, None, None] * np.eye(3)
    variance = ((weights * residual**2).sum(axis=1) + count * SMALLEST**2) / freedom
    return Pairs(grid, constants, np.linalg.inv(square + ridge), variance, -0.5 * count * np.log(objective), centre)


def _positive(columns: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Least squares of `columns @ constants = 1` with constants of at least 0; and the normal matrix [k, 3, 3]."""
    weighed = columns * weights[:, :, None]
    square, right = weighed.transpose(0, 2, 1) @ columns, weighed.sum(axis=1)
    ridge = 1e-12 * np.trace(square, axis1=1, axis2=2)[:, None, None] * np.eye(3)
    constants = np.linalg.solve(square + ridge, right[:, :, None])[:, :, 0]
    wrong = np.flatnonzero((constants < 0).any(axis=1))
    best = np.full(len(wrong), np.inf)
    for free in map(np.array, ([1, 2], [0, 2], [0, 1], [0], [1], [2])):
        some, inner = np.ix_(wrong, free, free), np.ix_(wrong, free)
        tried = np.linalg.solve(square[some] + ridge[some], right[inner][:, :, None])[:, :, 0]
        # Of two minima with equal weights the lower has the larger product with the right side.
        value = np.where((tried >= 0).all(axis=1), -(tried * right[inner]).sum(axis=1), np.inf)
        lower = value < best
        best = np.where(lower, value, best)
        rows = wrong[lower]
        constants[rows] = 0.0
        constants[np.ix_(rows, free)] = tried[lower]
    return constants, square
