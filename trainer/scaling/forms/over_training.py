"""Over-training: the loss in FLOPs and in tokens per parameter, one power of FLOPs whatever their ratio."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from trainer.scaling.forms.form import EXPONENTS, Form, side_by_side, soft_maximum
from trainer.scaling.forms.powers import FLOOR, relative_squares

FLOP_PER_PARAMETER_TOKEN = 6  # C = 6 N D, as the paper counts


class OverTraining(Form):
    """Chinchilla's form with one exponent for both: (a M^eta + b M^-eta) C^-eta = A/N^(2 eta) + B/D^(2 eta).

    Every ratio M falls by the same power of C, so that a law of few ratios carries to others. theta = (log E, log A,
    log B, 2 eta), A and B at centred logarithms.
    """

    name = "over-training"
    title = "L = E + (a M^eta + b M^-eta) / C^eta, M = D/N, C = 6 N D"
    source = "Gadre et al. 2024, equation 4"
    constants = ("E", "a", "b", "eta")
    units: ClassVar[dict[str, str]] = {"E": "nats/token"}
    variables = ("parameters", "tokens")
    needs: ClassVar[dict[str, int]] = {"parameters": 2, "tokens": 3}
    by_run = ("x", "loss")
    steps = 24

    def __init__(self, variables: Sequence[np.ndarray], loss: np.ndarray) -> None:
        """variables: parameters and tokens, [n] each; loss: [n], positive."""
        logs = np.log(np.stack(variables, axis=1))
        self.centre = logs.mean(axis=0)
        self.x, self.loss = logs - self.centre, loss  # [n, 2]
        lowest, highest = np.log(loss.min()), np.log(loss.max())
        self.low = np.array([lowest - FLOOR, lowest - 30, lowest - 30, EXPONENTS[0]])
        self.high = np.array([highest, highest + 60, highest + 60, EXPONENTS[1]])

    def predict(self, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """theta [B, 4] -> log L [B, n] and its derivatives [B, n, 4]."""
        lines = [theta[:, 1 + i, None] - theta[:, 3:] * self.x[:, i] for i in range(2)]
        log_loss, shares = soft_maximum(theta[:, :1], *lines)
        by_power = -shares[1] * self.x[:, 0] - shares[2] * self.x[:, 1]
        return log_loss, side_by_side([*shares, by_power])

    def starts(self, steps: int, weights: np.ndarray) -> np.ndarray:
        """[B, S, 4]: a grid over the exponent; E, A, B solve relative least squares."""
        power = np.geomspace(0.04, 1.6, steps)[:, None]
        columns = np.exp(-power[:, None] * self.x)
        columns = np.concatenate([np.ones_like(columns[:, :, :1]), columns], axis=2)
        solved = np.log(np.maximum(relative_squares(columns, self.loss, weights), 1e-3 * self.loss.min()))
        return np.concatenate([solved, np.broadcast_to(power, (*solved.shape[:2], 1))], axis=2)

    def near(self, theta: np.ndarray) -> np.ndarray:
        """[3, 4]: known constants, and other exponents beside them."""
        starts = np.repeat(theta[None], 3, axis=0)
        starts[:, 3] *= (1.0, 0.7, 1.4)
        return starts

    def values(self, theta: np.ndarray) -> np.ndarray:
        """[B, 4]: E, a, b, eta; a floor at its bound is 0."""
        floor = np.where(theta[:, :1] <= self.low[:1] + 1e-6, 0.0, np.exp(theta[:, :1]))
        power = theta[:, 3:]
        per_flop = np.log(FLOP_PER_PARAMETER_TOKEN) * power / 2
        return np.concatenate([floor, np.exp(theta[:, 1:3] + power * self.centre + per_flop), power / 2], axis=1)

    @classmethod
    def loss_at(cls, values: np.ndarray, variables: Sequence[np.ndarray]) -> np.ndarray:
        n, d = (np.log(x) for x in variables)
        e, a, b, eta = (values[:, i, None] for i in range(4))
        flop, ratio = np.log(FLOP_PER_PARAMETER_TOKEN) + n + d, d - n
        return e + a * np.exp(eta * (ratio - flop)) + b * np.exp(-eta * (ratio + flop))

    def unseen(self, theta: np.ndarray) -> list[str]:
        if EXPONENTS[0] * 1.01 < theta[3] < EXPONENTS[1] * 0.99:
            return []
        return ["eta ran to its bound: these runs do not say how loss falls with FLOPs"]
