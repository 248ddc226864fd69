"""Repeated data: a token read again, and a parameter too many for the data, are worth less each time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from trainer.scaling.forms.form import EXPONENTS, Form, side_by_side, soft_maximum
from trainer.scaling.forms.powers import FLOOR, relative_squares

WORTH = (1e-2, 1e4)  # bounds of R_D and R_N
CUT = 700.0  # logarithms beyond this are cut


class DataConstrained(Form):
    """Chinchilla's form over effective parameters and tokens.

        D' = U + U R_D (1 - exp(-(D/U - 1) / R_D)), U the unique tokens
        N' likewise, with U_N = min(N, the compute-optimal size for U tokens) in place of U

    Both equal N and D where nothing is repeated and no parameter is in excess. theta = (log E, log A, log B, alpha,
    beta, log R_D, log R_N), A and B at centred logarithms.
    """

    name = "data-constrained"
    title = "L = E + A/N'^alpha + B/D'^beta, D' = U + U R_D (1 - exp(-(D/U - 1)/R_D)), N' likewise with R_N"
    source = "Muennighoff et al. 2023, equations 5 and 6, all constants at once"
    constants = ("E", "A", "B", "alpha", "beta", "R_D", "R_N")
    units: ClassVar[dict[str, str]] = {"E": "nats/token", "R_D": "repetitions", "R_N": "repetitions"}
    variables = ("parameters", "tokens", "unique_tokens")
    needs: ClassVar[dict[str, int]] = {"parameters": 3, "tokens": 3, "unique_tokens": 1}
    by_run = ("n", "d", "unique", "loss")
    steps = 6

    def __init__(self, variables: Sequence[np.ndarray], loss: np.ndarray) -> None:
        """variables: parameters, tokens and unique tokens, [n] each; loss: [n], positive."""
        self.n, self.d, self.unique = _logs(variables)
        self.centre = np.array([self.n.mean(), self.d.mean()])
        self.loss = loss
        lowest, highest = np.log(loss.min()), np.log(loss.max())
        worth = np.log(WORTH)
        powers = EXPONENTS
        self.low = np.array([lowest - FLOOR, lowest - 30, lowest - 30, powers[0], powers[0], worth[0], worth[0]])
        self.high = np.array([highest, highest + 60, highest + 60, powers[1], powers[1], worth[1], worth[1]])

    def predict(self, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """theta [B, 7] -> log L [B, n] and its derivatives [B, n, 7]."""
        e, a, b, alpha, beta, worth_d, worth_n = (theta[:, i, None] for i in range(7))
        more = self.unique - self.centre[1]
        best = (np.log(alpha / beta) + a - b + beta * more) / alpha  # log of the optimal size for U, centred
        n = self.n - self.centre[0]
        fewer = best < n
        n_used, by_best, by_worth_n = _worth(np.where(fewer, best, n), n, worth_n)
        by_best = np.where(fewer, by_best, 0.0)
        d_used, _, by_worth_d = _worth(self.unique, self.d, worth_d)
        d_used = d_used - self.centre[1]
        log_loss, (floor, first, second) = soft_maximum(e, a - alpha * n_used, b - beta * d_used)
        slopes = [
            floor,
            first * (1 - by_best),
            second + first * by_best,
            -first * (n_used + by_best * (1 / alpha - best)),
            -second * d_used - first * by_best * (more - 1 / beta),
            -second * beta * by_worth_d,
            -first * alpha * by_worth_n,
        ]
        return log_loss, side_by_side(slopes)

    def starts(self, steps: int, weights: np.ndarray) -> np.ndarray:
        """[B, S, 7]: a grid over the exponents and worths; E, A, B solve relative least squares, with N' = N."""
        grid = np.geomspace(0.08, 1.2, steps)
        grids = np.meshgrid(grid, grid, np.log([3.0, 15.0, 60.0]), np.log([3.0, 30.0]), indexing="ij")
        alpha, beta, worth_d, worth_n = (one.ravel()[:, None] for one in grids)
        used = _worth(self.unique, self.d, worth_d)[0] - self.centre[1]
        falls = np.exp(-alpha * (self.n - self.centre[0]))
        columns = np.stack([np.ones_like(falls), falls, np.exp(-beta * used)], axis=2)
        solved = np.log(np.maximum(relative_squares(columns, self.loss, weights), 1e-3 * self.loss.min()))
        rest = np.concatenate([alpha, beta, worth_d, worth_n], axis=1)
        return np.concatenate([solved, np.broadcast_to(rest, (*solved.shape[:2], 4))], axis=2)

    def near(self, theta: np.ndarray) -> np.ndarray:
        """[2, 7]: the fit, and less steep powers beside it."""
        starts = np.repeat(theta[None], 2, axis=0)
        starts[1, 3:5] *= 0.8
        return starts

    def values(self, theta: np.ndarray) -> np.ndarray:
        """[B, 7]: constants at N and D themselves; a floor at its bound is 0."""
        floor = np.where(theta[:, :1] <= self.low[:1] + 1e-6, 0.0, np.exp(theta[:, :1]))
        powers = theta[:, 3:5]
        return np.concatenate([floor, np.exp(theta[:, 1:3] + powers * self.centre), powers, np.exp(theta[:, 5:])], 1)

    @classmethod
    def loss_at(cls, values: np.ndarray, variables: Sequence[np.ndarray]) -> np.ndarray:
        n, d, unique = _logs(variables)
        e, a, b, alpha, beta, worth_d, worth_n = (values[:, i, None] for i in range(7))
        best = (np.log(alpha * a / (beta * b)) + beta * unique) / alpha
        n_used = _worth(np.minimum(best, n), n, np.log(worth_n))[0]
        d_used = _worth(unique, d, np.log(worth_d))[0]
        return e + a * np.exp(-alpha * n_used) + b * np.exp(-beta * d_used)

    def unseen(self, theta: np.ndarray) -> list[str]:
        found = []
        for name, value, what in (("alpha", theta[3], "parameters"), ("beta", theta[4], "tokens")):
            if not EXPONENTS[0] * 1.01 < value < EXPONENTS[1] * 0.99:
                found.append(f"{name} ran to its bound: these runs do not say how loss falls with {what}")
        low, high = np.log(WORTH[0] * 1.01), np.log(WORTH[1] * 0.99)
        for name, value, what in (
            ("R_D", theta[5], "a repeated token"),
            ("R_N", theta[6], "a parameter in excess of the optimum"),
        ):
            if not low < value < high:
                found.append(f"{name} ran to its bound: these runs do not say what {what} is worth")
        return found


def _logs(variables: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Logarithms; a run that states no unique tokens repeats none, and none has more of them than tokens."""
    n, d, unique = (np.log(x) for x in variables)
    return [n, d, np.fmin(unique, d)]


def _worth(unique: np.ndarray, whole: np.ndarray, worth: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """log U' of log U [.., n] read D/U times, log D [n], for log R [B, 1]; its derivatives by log U and by log R."""
    again = np.expm1(np.clip(whole - unique, 0, CUT))
    r = np.exp(worth)
    left = np.exp(-again / r)
    more = r * (1 - left)
    used = unique + np.log1p(more)
    return used, 1 - left * (again + 1) / (1 + more), (more - again * left) / (1 + more)
