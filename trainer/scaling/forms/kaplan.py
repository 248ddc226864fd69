"""Kaplan's form: parameters and tokens under one power."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from trainer.scaling.forms.form import Form, side_by_side, soft_maximum


class Kaplan(Form):
    """No floor.

    theta = (aD, p, q, s) with log L = aD log(exp(p - q log N) + exp(s - log D)) at centred logarithms.
    """

    name = "kaplan"
    title = "L = [(N_c/N)^(alpha_N/alpha_D) + D_c/D]^alpha_D"
    source = "Kaplan et al. 2020, equation 1.5"
    constants = ("alpha_N", "alpha_D", "N_c", "D_c")
    units: ClassVar[dict[str, str]] = {"N_c": "parameters", "D_c": "tokens"}
    variables = ("parameters", "tokens")
    needs: ClassVar[dict[str, int]] = {"parameters": 2, "tokens": 2}
    by_run = ("n", "d")
    steps = 6

    def __init__(self, variables: Sequence[np.ndarray], loss: np.ndarray) -> None:
        """variables: parameters and tokens, [n] each; loss: [n]."""
        logs = [np.log(x) for x in variables]
        self.centre = np.array([log.mean() for log in logs])
        self.n, self.d = (log - middle for log, middle in zip(logs, self.centre, strict=True))
        self.middle = float(np.log(loss).mean())
        self.low = np.array([1e-3, -1e5, 1e-2, -1e5])
        self.high = np.array([3.0, 1e5, 1e2, 1e5])

    def predict(self, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """theta [B, 4] -> log L [B, n] and its derivatives [B, n, 4]."""
        power, p, q, s = (theta[:, k, None] for k in range(4))
        soft, (first, second) = soft_maximum(p - q * self.n, s - self.d)
        return power * soft, side_by_side([soft, power * first, -power * first * self.n, power * second])

    def starts(self, steps: int, weights: np.ndarray) -> np.ndarray:
        """[B, S, 4]: a grid over the exponents and over which of the two terms weighs more."""
        grids = np.meshgrid(
            np.geomspace(0.02, 1, steps), np.geomspace(0.2, 5, steps), np.array([0.1, 0.5, 0.9]), indexing="ij"
        )
        power, q, share = (grid.ravel() for grid in grids)
        level = self.middle / power
        starts = np.stack([power, level + np.log(share), q, level + np.log(1 - share)], axis=1)
        return np.broadcast_to(starts, (len(weights), *starts.shape))

    def near(self, theta: np.ndarray) -> np.ndarray:
        return theta[None]

    def values(self, theta: np.ndarray) -> np.ndarray:
        """[B, 4]: alpha_N, alpha_D, N_c, D_c."""
        power, p, q, s = theta.T
        with np.errstate(over="ignore"):
            return np.stack([q * power, power, np.exp(p / q + self.centre[0]), np.exp(s + self.centre[1])], axis=1)

    @classmethod
    @np.errstate(invalid="ignore", over="ignore", divide="ignore")  # replicates may overflow: their loss is nan
    def loss_at(cls, values: np.ndarray, variables: Sequence[np.ndarray]) -> np.ndarray:
        n, d = (np.log(one) for one in variables)
        alpha_n, alpha_d, n_c, d_c = (values[:, k, None] for k in range(4))
        return np.exp(alpha_d * np.logaddexp((np.log(n_c) - n) * alpha_n / alpha_d, np.log(d_c) - d))
