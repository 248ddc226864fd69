"""Mixtures of experts over active parameters, tokens and experts at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from trainer.scaling.forms.experts import MOST, START, saturated
from trainer.scaling.forms.form import EXPONENTS, Form, side_by_side, soft_maximum
from trainer.scaling.forms.powers import FLOOR, relative_squares

BENDS = (-0.3, 0.3)  # bounds of gamma and zeta, of which the paper finds -0.01 and 0.03
LEVELS = (-3.0, 3.0)  # bounds of delta and omega


class Mixture(Form):
    """Chinchilla's form whose factors and exponents depend on the number of experts.

    theta = (log c, log a, alpha, delta, gamma, log b, beta, omega, zeta, log E_start, log E_max) at centred log N, log
    D and log E'; exponents are printed as the paper does, negative where the loss falls.
    """

    name = "mixture"
    title = "L = a E'^delta N^(alpha + gamma log E') + b E'^omega D^(beta + zeta log E') + c, N active, E' saturated"
    source = "Ludziejewski et al. 2025 (joint MoE scaling laws), equation 5"
    constants = ("a", "alpha", "delta", "gamma", "b", "beta", "omega", "zeta", "c", "E_start", "E_max")
    units: ClassVar[dict[str, str]] = {"c": "nats/token", "E_start": "experts", "E_max": "experts"}
    variables: ClassVar[tuple[str, ...]] = ("active", "tokens", "experts")
    needs: ClassVar[dict[str, int]] = {"active": 3, "tokens": 3, "experts": 3}
    by_run = ("n", "d", "experts", "loss")
    steps = 6

    def __init__(self, variables: Sequence[np.ndarray], loss: np.ndarray) -> None:
        """variables: active parameters, tokens and experts, [n] each; loss: [n], positive."""
        n, d, self.experts = self.read(variables)
        self.centre = np.array([n.mean(), d.mean(), np.log(self.experts).mean()])
        self.n, self.d, self.loss = n - self.centre[0], d - self.centre[1], loss
        lowest, highest = np.log(loss.min()), np.log(loss.max())
        low, high = np.log([START, MOST]).T
        one = [(lowest - 30, highest + 60), EXPONENTS, LEVELS, BENDS]
        self.low, self.high = (
            np.array([[lowest - FLOOR, highest][end], *[pair[end] for pair in one * 2], *[low, high][end]])
            for end in (0, 1)
        )

    @classmethod
    def read(cls, variables: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """log N, log D and experts."""
        return np.log(variables[0]), np.log(variables[1]), variables[2]

    def predict(self, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """theta [B, 11] -> log L [B, n] and its derivatives [B, n, 11]."""
        floor, a, alpha, delta, gamma, b, beta, omega, zeta, start, most = (theta[:, i, None] for i in range(11))
        count, by_start, by_most = saturated(self.experts, start, most)
        e = count - self.centre[2]
        first = a + delta * e - (alpha - gamma * e) * self.n
        second = b + omega * e - (beta - zeta * e) * self.d
        log_loss, (flat, p, q) = soft_maximum(floor, first, second)
        by_count = p * (delta + gamma * self.n) + q * (omega + zeta * self.d)
        slopes = [flat, p, -p * self.n, p * e, p * e * self.n, q, -q * self.d, q * e, q * e * self.d]
        return log_loss, side_by_side([*slopes, by_count * by_start, by_count * by_most])

    def starts(self, steps: int, weights: np.ndarray) -> np.ndarray:
        """[B, S, 11]: a grid over the exponents and levels; c, a, b solve relative least squares."""
        grid, levels = np.geomspace(0.08, 0.8, steps), [-0.3, -0.05]
        grids = np.meshgrid(grid, grid, levels, levels, np.log([100.0, 1000.0]), indexing="ij")
        alpha, beta, delta, omega, most = (one.ravel()[:, None] for one in grids)
        start, none = np.full_like(most, 0.5), np.zeros_like(most)
        e = saturated(self.experts, start, most)[0] - self.centre[2]
        first, second = np.exp(delta * e - alpha * self.n), np.exp(omega * e - beta * self.d)
        solved = relative_squares(np.stack([np.ones_like(first), first, second], axis=2), self.loss, weights)
        solved = np.log(np.maximum(solved, 1e-3 * self.loss.min()))
        alone = [alpha, delta, none, beta, omega, none, start, most]
        rest = np.broadcast_to(np.concatenate(alone, axis=1), (*solved.shape[:2], 8))
        parts = [solved[..., :2], rest[..., :3], solved[..., 2:], rest[..., 3:]]
        return np.concatenate(parts, axis=2)

    def near(self, theta: np.ndarray) -> np.ndarray:
        return theta[None]

    def values(self, theta: np.ndarray) -> np.ndarray:
        """[B, 11]: the paper's constants; a floor at its bound is 0."""
        n, d, e = self.centre
        floor, a, alpha, delta, gamma, b, beta, omega, zeta, start, most = theta.T
        pairs = []
        for level, power, by_count, bend, x in ((a, alpha, delta, gamma, n), (b, beta, omega, zeta, d)):
            factor = np.exp(level - by_count * e + power * x + bend * e * x)
            pairs += [factor, -power - bend * e, by_count - bend * x, bend]
        floor = np.where(floor <= self.low[0] + 1e-6, 0.0, np.exp(floor))
        return np.stack([*pairs, floor, np.exp(start), np.exp(most)], axis=1)

    @classmethod
    def loss_at(cls, values: np.ndarray, variables: Sequence[np.ndarray]) -> np.ndarray:
        n, d, experts = cls.read(variables)
        a, alpha, delta, gamma, b, beta, omega, zeta, c = (values[:, i, None] for i in range(9))
        e = saturated(experts, np.log(values[:, 9, None]), np.log(values[:, 10, None]))[0]
        first = np.log(a) + delta * e + (alpha + gamma * e) * n
        second = np.log(b) + omega * e + (beta + zeta * e) * d
        return c + np.exp(np.clip(first, -60, 60)) + np.exp(np.clip(second, -60, 60))

    def unseen(self, theta: np.ndarray) -> list[str]:
        return [
            f"{name} ran to its bound: these runs do not say how loss falls with {what}"
            for name, value, what in (("alpha", theta[2], "parameters"), ("beta", theta[6], "tokens"))
            if not EXPONENTS[0] * 1.01 < value < EXPONENTS[1] * 0.99
        ]


class Sparsity(Mixture):
    """The same over total and active parameters, where a table states no experts: their ratio in place of the count."""

    name = "sparsity"
    title = "L as of `mixture` with total/active parameters in place of the experts"
    variables: ClassVar[tuple[str, ...]] = ("active", "tokens", "parameters")
    needs: ClassVar[dict[str, int]] = {"active": 3, "tokens": 3, "parameters": 3}

    @classmethod
    def read(cls, variables: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """log N, log D and how many times the active parameters there are in all."""
        return np.log(variables[0]), np.log(variables[1]), np.maximum(variables[2] / variables[0], 1.0)
