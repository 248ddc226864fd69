"""Mixtures of experts: laws of the size and the number of experts, which saturates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from trainer.scaling.forms.form import EXPONENTS, Form, side_by_side, soft_maximum
from trainer.scaling.forms.powers import FLOOR, relative_squares

START = (1.0, 20.0)  # bounds of E_start: what one expert counts as
MOST = (30.0, 1e5)  # bounds of E_max: what no number of experts exceeds


def saturated(experts: np.ndarray, start: np.ndarray, most: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """log of the saturated expert count (Clark et al. 2022, equation 14) of experts [n] for log E_start and log E_max
    [B, 1]: [B, n], and its derivatives by both.

    1/E' = 1/(E - 1 + (1/E_start - 1/E_max)^-1) + 1/E_max: E_start at one expert, E_max at infinitely many.
    """
    low, high = np.exp(start), np.exp(most)
    base = 1 / (1 / low - 1 / high)
    grown = experts - 1 + base
    count = 1 / (1 / grown + 1 / high)
    by_start = count / grown**2 * base**2 / low
    by_most = count * (1 / high - base**2 / high / grown**2)
    return np.log(count), by_start, by_most


class Experts(Form):
    """theta = (d, a, b, c, log E_start, log E_max) at centred log N and log E'.

    For runs of one number of tokens, or trained until nothing more is gained: tokens are no variable.
    """

    name = "experts"
    title = "log L = a log N + b log E' + c log N log E' + d, E' the saturated number of experts"
    source = "Clark et al. 2022, equations 13 and 14; natural logarithms"
    constants = ("a", "b", "c", "d", "E_start", "E_max")
    units: ClassVar[dict[str, str]] = {"E_start": "experts", "E_max": "experts"}
    variables = ("parameters", "experts")
    needs: ClassVar[dict[str, int]] = {"parameters": 3, "experts": 3}
    delta = 0.03  # the paper's squares, but for runs that failed
    by_run = ("n", "experts", "log_loss")
    steps = 6

    def __init__(self, variables: Sequence[np.ndarray], loss: np.ndarray) -> None:
        """variables: parameters (of the dense model that holds one expert) and experts, [n] each; loss: [n]."""
        n, self.experts = np.log(variables[0]), variables[1]
        self.centre = np.array([n.mean(), np.log(self.experts).mean()])
        self.n, self.log_loss = n - self.centre[0], np.log(loss)
        self.low = np.array([self.log_loss.min() - 5, -2.0, -2.0, -1.0, *np.log([START[0], MOST[0]])])
        self.high = np.array([self.log_loss.max() + 5, 0.5, 0.5, 1.0, *np.log([START[1], MOST[1]])])

    def predict(self, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """theta [B, 6] -> log L [B, n] and its derivatives [B, n, 6]."""
        level, a, b, c, start, most = (theta[:, i, None] for i in range(6))
        count, by_start, by_most = saturated(self.experts, start, most)
        e = count - self.centre[1]
        n = np.broadcast_to(self.n, e.shape)
        by_count = b + c * n
        slopes = [np.ones_like(e), n, e, n * e, by_count * by_start, by_count * by_most]
        return level + a * n + by_count * e, side_by_side(slopes)

    def starts(self, steps: int, weights: np.ndarray) -> np.ndarray:
        """[B, S, 6]: a grid over E_start and E_max; the rest, in which log L is linear, by least squares."""
        grids = np.meshgrid(np.linspace(0.05, 2.5, steps), np.log([60.0, 300.0, 2e3, 2e4]), indexing="ij")
        start, most = (grid.ravel()[:, None] for grid in grids)
        e = saturated(self.experts, start, most)[0] - self.centre[1]
        n = np.broadcast_to(self.n, e.shape)
        columns = np.stack([np.ones_like(e), n, e, n * e], axis=2)
        square = np.einsum("bn,snp,snq->bspq", weights, columns, columns, optimize=True)
        right = np.einsum("bn,snp,n->bsp", weights, columns, self.log_loss, optimize=True)
        ridge = 1e-9 * np.einsum("bspp->bs", square)[..., None, None] * np.eye(4)
        solved = np.linalg.solve(square + ridge, right[..., None])[..., 0]
        rest = np.concatenate([start, most], axis=1)
        return np.concatenate([solved, np.broadcast_to(rest, (*solved.shape[:2], 2))], axis=2)

    def near(self, theta: np.ndarray) -> np.ndarray:
        return theta[None]

    def values(self, theta: np.ndarray) -> np.ndarray:
        """[B, 6]: a, b, c, d of N and E' themselves, E_start, E_max."""
        level, a, b, c = theta[:, :4].T
        n, e = self.centre
        moved = [a - c * e, b - c * n, c, level - a * n - b * e + c * n * e]
        return np.concatenate([np.stack(moved, axis=1), np.exp(theta[:, 4:])], axis=1)

    @classmethod
    def loss_at(cls, values: np.ndarray, variables: Sequence[np.ndarray]) -> np.ndarray:
        n, experts = np.log(variables[0]), variables[1]
        a, b, c, d = (values[:, i, None] for i in range(4))
        e = saturated(experts, np.log(values[:, 4, None]), np.log(values[:, 5, None]))[0]
        return np.exp(np.clip(a * n + b * e + c * n * e + d, -60, 60))

    def unseen(self, theta: np.ndarray) -> list[str]:
        found = []
        if theta[5] > np.log(MOST[1] * 0.99):
            found.append("E_max ran to its bound: in these runs more experts still help, and no end of it is seen")
        if theta[1] > -1e-3:
            found.append("loss does not fall with parameters in these runs: a means nothing")
        return found


class ExpertsFloor(Form):
    """A floor in place of the product: carried to larger sizes it misses by less than Clark et al.'s form, whose loss
    falls for ever. theta = (log E, log K, alpha, beta, log E_start, log E_max), K at centred log N and log E'.
    """

    name = "experts-floor"
    title = "L = E + K/(N^alpha E'^beta), E' the saturated number of experts"
    source = "Clark et al. 2022, equation 14, under one power with a floor"
    constants = ("E", "K", "alpha", "beta", "E_start", "E_max")
    units: ClassVar[dict[str, str]] = {"E": "nats/token", "E_start": "experts", "E_max": "experts"}
    variables = ("parameters", "experts")
    needs: ClassVar[dict[str, int]] = {"parameters": 3, "experts": 3}
    delta = 0.03
    by_run = ("n", "experts", "loss")
    steps = 6

    def __init__(self, variables: Sequence[np.ndarray], loss: np.ndarray) -> None:
        """variables: parameters (of the dense model that holds one expert) and experts, [n] each; loss: [n]."""
        n, self.experts = np.log(variables[0]), variables[1]
        self.centre = np.array([n.mean(), np.log(self.experts).mean()])
        self.n, self.loss = n - self.centre[0], loss
        lowest, highest = np.log(loss.min()), np.log(loss.max())
        low, high = np.log([START, MOST]).T
        self.low = np.array([lowest - FLOOR, lowest - 30, EXPONENTS[0], 0.0, *low])
        self.high = np.array([highest, highest + 60, EXPONENTS[1], EXPONENTS[1], *high])

    def predict(self, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """theta [B, 6] -> log L [B, n] and its derivatives [B, n, 6]."""
        floor, level, alpha, beta, start, most = (theta[:, i, None] for i in range(6))
        count, by_start, by_most = saturated(self.experts, start, most)
        e = count - self.centre[1]
        log_loss, (flat, falls) = soft_maximum(floor, level - alpha * self.n - beta * e)
        slopes = [
            flat,
            falls,
            -falls * self.n,
            -falls * e,
            -falls * beta * by_start,
            -falls * beta * by_most,
        ]
        return log_loss, side_by_side(slopes)

    def starts(self, steps: int, weights: np.ndarray) -> np.ndarray:
        """[B, S, 6]: a grid over the exponents, E_start and E_max; E and K solve relative least squares."""
        grid = np.geomspace(0.06, 0.8, steps)
        grids = np.meshgrid(grid, np.geomspace(0.02, 0.5, steps), [0.5, 1.5], np.log([100.0, 500.0]), indexing="ij")
        alpha, beta, start, most = (one.ravel()[:, None] for one in grids)
        e = saturated(self.experts, start, most)[0] - self.centre[1]
        falls = np.exp(-alpha * self.n - beta * e)
        solved = relative_squares(np.stack([np.ones_like(falls), falls], axis=2), self.loss, weights)
        solved = np.log(np.maximum(solved, 1e-3 * self.loss.min()))
        rest = np.concatenate([alpha, beta, start, most], axis=1)
        return np.concatenate([solved, np.broadcast_to(rest, (*solved.shape[:2], 4))], axis=2)

    def near(self, theta: np.ndarray) -> np.ndarray:
        return theta[None]

    def values(self, theta: np.ndarray) -> np.ndarray:
        """[B, 6]: constants at N and E' themselves; a floor at its bound is 0."""
        floor = np.where(theta[:, :1] <= self.low[:1] + 1e-6, 0.0, np.exp(theta[:, :1]))
        factor = np.exp(theta[:, 1] + theta[:, 2:4] @ self.centre)
        return np.concatenate([floor, factor[:, None], theta[:, 2:4], np.exp(theta[:, 4:])], axis=1)

    @classmethod
    def loss_at(cls, values: np.ndarray, variables: Sequence[np.ndarray]) -> np.ndarray:
        n, experts = np.log(variables[0]), variables[1]
        floor, factor, alpha, beta = (values[:, i, None] for i in range(4))
        e = saturated(experts, np.log(values[:, 4, None]), np.log(values[:, 5, None]))[0]
        return floor + factor * np.exp(-alpha * n - beta * e)

    def unseen(self, theta: np.ndarray) -> list[str]:
        found = []
        if not EXPONENTS[0] * 1.01 < theta[2] < EXPONENTS[1] * 0.99:
            found.append("alpha ran to its bound: these runs do not say how loss falls with parameters")
        if theta[3] < 1e-3:
            found.append("loss does not fall with experts in these runs: beta means nothing")
        elif theta[5] > np.log(MOST[1] * 0.99):
            found.append("E_max ran to its bound: in these runs more experts still help, and no end of it is seen")
        return found
