"""Sums of powers with a floor: L = E + sum of K_i / x_i^k_i.

log L is a soft maximum (log-sum-exp) of straight lines in the logarithms of the x_i.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from trainer.scaling.forms.form import EXPONENTS, Form, side_by_side, soft_maximum

FLOOR = 12.0  # E is taken for 0 below exp(-FLOOR) of the lowest loss
SEEN = 1e-3  # a term that moves the loss by less than this share of it cannot be seen


def relative_squares(columns: np.ndarray, loss: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """[B, S, q]: factors of columns [S, n, q] whose sums miss loss [n] by the least squares of relative errors, for
    each row of weights [B, n]."""
    relative = columns / loss[None, :, None]
    square = np.einsum("bn,snp,snq->bspq", weights, relative, relative, optimize=True)
    right = np.einsum("bn,snp->bsp", weights, relative, optimize=True)
    ridge = 1e-9 * np.einsum("bspp->bs", square)[..., None, None] * np.eye(columns.shape[2])
    solved: np.ndarray = np.linalg.solve(square + ridge, right[..., None])[..., 0]
    return solved


class SumOfPowers(Form):
    """theta = (log E, log K_i ..., k_i ...) at centred logarithms of x; values E, K_i ..., k_i ..."""

    by_run = ("x", "loss")
    whats: ClassVar[dict[str, str]]  # exponent -> what the loss falls with

    def __init__(self, variables: Sequence[np.ndarray], loss: np.ndarray) -> None:
        """variables: [n] each, positive; loss: [n], positive."""
        logs = [np.log(x) for x in variables]
        self.centre = np.array([log.mean() for log in logs])
        self.x = np.stack(logs, axis=1) - self.centre  # [n, v]
        self.loss = loss
        self.variables_read = len(logs)
        lowest, highest = np.log(loss.min()), np.log(loss.max())
        v = self.variables_read
        self.low = np.array([lowest - FLOOR, *[lowest - 30] * v, *[EXPONENTS[0]] * v])
        self.high = np.array([highest, *[highest + 60] * v, *[EXPONENTS[1]] * v])

    def predict(self, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """theta [B, 1 + 2 v] -> log L [B, n] and its derivatives [B, n, 1 + 2 v]."""
        v = self.variables_read
        lines = [theta[:, 1 + i, None] - theta[:, 1 + v + i, None] * self.x[:, i] for i in range(v)]
        log_loss, shares = soft_maximum(theta[:, :1], *lines)
        bends = [-share * self.x[:, i] for i, share in enumerate(shares[1:])]
        return log_loss, side_by_side([*shares, *bends])

    def starts(self, steps: int, weights: np.ndarray) -> np.ndarray:
        """[B, S, p]: a grid over the exponents; the other constants solve relative least squares for each pair.

        Hoffmann et al. start from 4,500 points of a grid over all constants. Given the exponents, the law is linear in
        the rest, so that a grid over the exponents alone covers the whole space.
        """
        grid = np.geomspace(0.04, 1.6, steps)
        v = self.variables_read
        exponents = np.stack(np.meshgrid(*[grid] * v, indexing="ij"), axis=-1).reshape(-1, v)
        columns = np.exp(-exponents[:, None, :] * self.x)  # [S, n, v]
        columns = np.concatenate([np.ones_like(columns[:, :, :1]), columns], axis=2)
        solved = np.log(np.maximum(relative_squares(columns, self.loss, weights), 1e-3 * self.loss.min()))
        rest = np.broadcast_to(exponents, (*solved.shape[:2], v))
        return np.concatenate([solved, rest], axis=2)

    def near(self, theta: np.ndarray) -> np.ndarray:
        """[S, p]: known constants, and others beside them."""
        starts = np.repeat(theta[None], 3, axis=0)
        starts[:, 1 + self.variables_read :] *= np.array([[1.0], [0.7], [1.4]])
        return starts

    def values(self, theta: np.ndarray) -> np.ndarray:
        """[B, p]: E, K_i ..., k_i ... at x itself; a floor at its bound is 0."""
        v = self.variables_read
        powers = theta[:, 1 + v :]
        floor = np.where(theta[:, :1] <= self.low[:1] + 1e-6, 0.0, np.exp(theta[:, :1]))
        return np.concatenate([floor, np.exp(theta[:, 1 : 1 + v] + powers * self.centre), powers], axis=1)

    def falls(self, theta: np.ndarray) -> np.ndarray:
        """[v]: by which share of the loss each term falls over the runs, for the first row of theta."""
        v = self.variables_read
        terms = np.exp(theta[0, 1 : 1 + v] - theta[0, 1 + v :] * self.x)
        return np.ptp(terms, axis=0) / self.loss.mean()

    @classmethod
    def loss_at(cls, values: np.ndarray, variables: Sequence[np.ndarray]) -> np.ndarray:
        v = len(variables)
        logs = np.log(np.stack(variables, axis=1))
        powers = values[:, None, 1 : 1 + v] * np.exp(-values[:, None, 1 + v :] * logs)
        return values[:, :1] + powers.sum(axis=2)

    def unseen(self, theta: np.ndarray) -> list[str]:
        found = []
        names = self.constants[1 + self.variables_read :]
        for name, value in zip(names, theta[1 + self.variables_read :], strict=True):
            if not EXPONENTS[0] * 1.01 < value < EXPONENTS[1] * 0.99:
                found.append(f"{name} ran to its bound: these runs do not say how loss falls with {self.whats[name]}")
        for name, fall in zip(names, self.falls(theta[None]), strict=True):
            if fall < SEEN:
                found.append(f"loss does not fall with {self.whats[name]} in these runs: {name} means nothing")
        return found
