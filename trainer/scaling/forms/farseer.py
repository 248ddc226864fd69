"""Farseer's form: floor, factor and exponent of the tokens' power all depend on the size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from trainer.scaling.forms.form import EXPONENTS, Form, side_by_side
from trainer.scaling.forms.powers import FLOOR, relative_squares

UNIT = 1e9  # of N and D; D's belongs to the form: its exponent depends on N
POWERS = (-0.4, 0.4)  # bounds of a, b, g (the paper finds -0.1 to 0.2): steeper bends explode outside of the runs
SLOPES = (-1.0, 1.0)  # bounds of the slopes of log E, log B and log k by log N
SERIES = 1e-4  # powers nearer to 0 than this are taken by their series
FARTHEST = 60.0  # logarithms beyond this are cut: no overflow however far a law is carried


class Farseer(Form):
    """theta = (e0, e1, g, b0, b1, b, k0, k1, a) at x = log N, centred:

        log E = e0 + e1 h(x, g)    log B = b0 + b1 h(x, b)    log k = k0 + k1 h(x, a)    h(x, p) = (exp(p x) - 1) / p

    Levels and slopes at the middle of the sizes are well scaled where the paper's a_i and b_i run off together as a
    power nears 0. b0 is taken at the middle of the tokens too. The floor does not rise with N: e1 <= 0.
    """

    name = "farseer"
    title = "L = exp(a3 N^g + b3) + exp(a2 N^b + b2) D^-exp(a1 N^a + b1)"
    source = "Li et al. 2025 (Farseer), equation 6; N and D in 1e9"
    constants = ("a3", "b3", "g", "a2", "b2", "b", "a1", "b1", "a")
    variables = ("parameters", "tokens")
    needs: ClassVar[dict[str, int]] = {"parameters": 4, "tokens": 4}
    by_run = ("x", "d", "loss")
    steps = 7

    def __init__(self, variables: Sequence[np.ndarray], loss: np.ndarray) -> None:
        """variables: parameters and tokens, [n] each; loss: [n], positive."""
        n, self.d = (np.log(x / UNIT) for x in variables)
        self.centre = float(n.mean())
        self.middle = float(self.d.mean())
        self.x, self.loss = n - self.centre, loss
        lowest, highest = np.log(loss.min()), np.log(loss.max())
        exponent = np.log([0.03, EXPONENTS[1]])
        self.low = np.array(
            [lowest - FLOOR, SLOPES[0], POWERS[0], lowest - 30, SLOPES[0], POWERS[0], exponent[0], SLOPES[0], POWERS[0]]
        )
        self.high = np.array(
            [highest, 0.0, POWERS[1], highest + 60, SLOPES[1], POWERS[1], exponent[1], SLOPES[1], POWERS[1]]
        )

    def predict(self, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """theta [B, 9] -> log L [B, n] and its derivatives [B, n, 9]."""
        e0, e1, g, b0, b1, b, k0, k1, a = (theta[:, i, None] for i in range(9))
        (h, dh), (i, di), (j, dj) = (box_cox(self.x, power) for power in (g, b, a))
        log_k = k0 + k1 * j
        k = np.exp(np.clip(log_k, -FARTHEST, np.log(FARTHEST)))
        first = e0 + e1 * h
        second = b0 + b1 * i + np.exp(k0) * self.middle - k * self.d
        log_loss = np.logaddexp(first, second)
        floor, falls = np.exp(first - log_loss), np.exp(second - log_loss)
        by_k = -falls * self.d * k
        slopes = [floor, floor * h, floor * e1 * dh, falls, falls * i, falls * b1 * di]
        slopes += [by_k + falls * np.exp(k0) * self.middle, by_k * j, by_k * k1 * dj]
        return log_loss, side_by_side(slopes)

    def starts(self, steps: int, weights: np.ndarray) -> np.ndarray:
        """[B, S, 9]: a grid over the tokens' exponent, its slope and that one's bend; given these, floor and factor
        are taken for parabolas of x, in whose constants the loss is linear."""
        grids = np.meshgrid(np.geomspace(0.15, 1.2, steps), np.linspace(-0.3, 0.3, 5), [-0.3, 0.3], indexing="ij")
        k, k1, a = (grid.ravel()[:, None] for grid in grids)
        at = k * np.exp(np.clip(k1 * box_cox(self.x, a)[0], -3, 3))  # [S, n]
        falls = np.exp(np.clip(k * self.middle - at * self.d, -FARTHEST, FARTHEST))
        bends = np.stack([np.ones_like(self.x), self.x, self.x**2], axis=1)
        columns = np.concatenate([np.broadcast_to(bends, (len(at), *bends.shape)), bends * falls[:, :, None]], axis=2)
        solved = relative_squares(columns, self.loss, weights)
        starts = np.empty((*solved.shape[:2], 9))
        for to, at_first in ((0, 0), (3, 3)):
            level = np.maximum(solved[..., at_first], 1e-2 * self.loss.min())
            slope = np.clip(solved[..., at_first + 1] / level, -1, 1)
            slope = np.minimum(slope, -1e-3) if to == 0 else np.where(np.abs(slope) < 1e-3, 1e-3, slope)
            bend = 2 * solved[..., at_first + 2] / level - slope**2
            starts[..., to], starts[..., to + 1] = np.log(level), slope
            starts[..., to + 2] = np.clip(bend / slope, *POWERS)
        starts[..., 6:] = np.concatenate([np.log(k), k1, a], axis=1)
        return starts

    def near(self, theta: np.ndarray) -> np.ndarray:
        """[1, 9]: a replicate begins at the fit."""
        return theta[None]

    def values(self, theta: np.ndarray) -> np.ndarray:
        """[B, 9]: the paper's constants, N and D in 1e9."""
        found = []
        for i in (0, 3, 6):
            level, slope, power = theta[:, i], theta[:, i + 1], theta[:, i + 2]
            power = np.where(np.abs(power) < 1e-6, 1e-6, power)  # the paper's a runs to infinity at 0
            if i == 3:
                level = level + np.exp(theta[:, 6]) * self.middle
            found += [slope / power * np.exp(-power * self.centre), level - slope / power, power]
        return np.stack(found, axis=1)

    @classmethod
    @np.errstate(invalid="ignore", over="ignore", divide="ignore")  # replicates may overflow: their loss is nan
    def loss_at(cls, values: np.ndarray, variables: Sequence[np.ndarray]) -> np.ndarray:
        n, d = (np.log(x / UNIT) for x in variables)
        curves = []
        for i in (0, 3, 6):
            factor, level, power = (values[:, i + m, None] for m in range(3))
            curves.append(factor * np.exp(np.clip(power * n, -FARTHEST, FARTHEST)) + level)
        log_e, log_b, log_k = curves
        second = log_b - np.exp(np.clip(log_k, -FARTHEST, np.log(FARTHEST))) * d
        return np.exp(np.clip(np.logaddexp(log_e, second), -FARTHEST, FARTHEST))

    def unseen(self, theta: np.ndarray) -> list[str]:
        found = []
        if not np.log(0.031) < theta[6] < np.log(EXPONENTS[1] * 0.99):
            found.append("the exponent of tokens ran to its bound: these runs do not say how loss falls with tokens")
        fall = np.ptp(self.predict(theta[None])[0])
        if fall < 1e-3:
            found.append("loss falls with nothing in these runs: its constants mean nothing")
        return found


def box_cox(x: np.ndarray, power: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(exp(p x) - 1) / p for x [n] and powers [B, 1]: [B, n], and its derivative by p; x itself where p is 0."""
    small = np.abs(power) < SERIES
    p = np.where(small, 1.0, power)
    grown = np.exp(np.clip(p * x, -FARTHEST, FARTHEST))
    value = np.where(small, x + power * x**2 / 2 + power**2 * x**3 / 6, (grown - 1) / p)
    slope = np.where(small, x**2 / 2 + power * x**3 / 3, (x * grown - (grown - 1) / p) / p)
    return value, slope
