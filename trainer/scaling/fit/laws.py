"""The forms that a loss may take, in constants that are easy to fit and in constants as papers print them.

All work on logarithms: log L is a soft maximum (log-sum-exp) of straight lines in log N and log D.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

EXPONENTS = (1e-3, 3.0)  # bounds of a power
FLOOR = 12.0  # E is taken for 0 below exp(-FLOOR) of the lowest loss


def _soft_maximum(lines: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """log-sum-exp over the last axis, and each line's share in it."""
    top = lines.max(axis=-1, keepdims=True)
    parts = np.exp(lines - top)
    total = parts.sum(axis=-1, keepdims=True)
    return (top + np.log(total))[..., 0], parts / total


class SumOfPowers:
    """L = E + sum of K_i / x_i^k_i. One x: a power law with a floor; N and D: Chinchilla's approach 3.

    Constants theta = (log E, log K_i ..., k_i ...) at centred logarithms of x.
    """

    def __init__(self, variables: Sequence[np.ndarray], loss: np.ndarray) -> None:
        """variables: [n] each, positive; loss: [n], positive."""
        logs = [np.log(x) for x in variables]
        self.centre = np.array([log.mean() for log in logs])
        self.x = np.stack(logs, axis=1) - self.centre  # [n, v]
        self.loss = loss
        self.variables = len(logs)
        lowest, highest = np.log(loss.min()), np.log(loss.max())
        v = self.variables
        self.low = np.array([lowest - FLOOR, *[lowest - 30] * v, *[EXPONENTS[0]] * v])
        self.high = np.array([highest, *[highest + 60] * v, *[EXPONENTS[1]] * v])

    def predict(self, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """theta [B, 1 + 2 v] -> log L [B, n] and its derivatives [B, n, 1 + 2 v]."""
        v = self.variables
        powers = theta[:, None, 1 : 1 + v] - theta[:, None, 1 + v :] * self.x
        floor = np.broadcast_to(theta[:, None, :1], (*powers.shape[:2], 1))
        log_loss, shares = _soft_maximum(np.concatenate([floor, powers], axis=2))
        return log_loss, np.concatenate([shares, -shares[:, :, 1:] * self.x], axis=2)

    def starts(self, steps: int, weights: np.ndarray) -> np.ndarray:
        """[B, S, p]: a grid over the exponents; the other constants solve relative least squares for each pair.

        Hoffmann et al. start from 4,500 points of a grid over all constants. Given the exponents, the law is linear in
        the rest, so that a grid over the exponents alone covers the whole space.
        """
        grid = np.geomspace(0.04, 1.6, steps)
        v = self.variables
        exponents = np.stack(np.meshgrid(*[grid] * v, indexing="ij"), axis=-1).reshape(-1, v)
        columns = np.exp(-exponents[:, None, :] * self.x)  # [S, n, v]
        columns = np.concatenate([np.ones_like(columns[:, :, :1]), columns], axis=2) / self.loss[None, :, None]
        square = np.einsum("bn,snp,snq->bspq", weights, columns, columns, optimize=True)
        right = np.einsum("bn,snp->bsp", weights, columns)
        ridge = 1e-9 * np.einsum("bspp->bs", square)[..., None, None] * np.eye(v + 1)
        solved = np.linalg.solve(square + ridge, right[..., None])[..., 0]
        solved = np.log(np.maximum(solved, 1e-3 * self.loss.min()))
        rest = np.broadcast_to(exponents, (*solved.shape[:2], v))
        return np.concatenate([solved, rest], axis=2)

    def near(self, theta: np.ndarray) -> np.ndarray:
        """[S, p]: known constants, and others beside them."""
        starts = np.repeat(theta[None], 3, axis=0)
        starts[:, 1 + self.variables :] *= np.array([[1.0], [0.7], [1.4]])
        return starts

    def constants(self, theta: np.ndarray) -> np.ndarray:
        """[B, p]: E, K_i ..., k_i ... at x itself; a floor at its bound is 0."""
        v = self.variables
        powers = theta[:, 1 + v :]
        floor = np.where(theta[:, :1] <= self.low[:1] + 1e-6, 0.0, np.exp(theta[:, :1]))
        return np.concatenate([floor, np.exp(theta[:, 1 : 1 + v] + powers * self.centre), powers], axis=1)

    def falls(self, theta: np.ndarray) -> np.ndarray:
        """[v]: by which share of the loss each term falls over the runs, for the first row of theta."""
        v = self.variables
        terms = np.exp(theta[0, 1 : 1 + v] - theta[0, 1 + v :] * self.x)
        return np.ptp(terms, axis=0) / self.loss.mean()

    def at(self, theta: np.ndarray, variables: Sequence[np.ndarray]) -> np.ndarray:
        """Loss [B, m] at other points, [m] each."""
        v = self.variables
        x = np.stack([np.log(values) for values in variables], axis=1) - self.centre
        powers = np.exp(theta[:, None, 1 : 1 + v] - theta[:, None, 1 + v :] * x)
        return np.exp(theta[:, :1]) + powers.sum(axis=2)


class Kaplan:
    """L = [(Nc / N)^(aN / aD) + Dc / D]^aD (Kaplan et al. 2020, equation 1.5): no floor.

    Constants theta = (aD, p, q, s) with log L = aD log(exp(p - q log N) + exp(s - log D)) at centred logarithms.
    """

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
        soft, shares = _soft_maximum(np.stack([p - q * self.n, s - self.d], axis=2))
        first, second = shares[:, :, 0], shares[:, :, 1]
        return power * soft, np.stack([soft, power * first, -power * first * self.n, power * second], axis=2)

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

    def constants(self, theta: np.ndarray) -> np.ndarray:
        """[B, 4]: alpha_N, alpha_D, N_c, D_c."""
        power, p, q, s = theta.T
        with np.errstate(over="ignore"):
            return np.stack([q * power, power, np.exp(p / q + self.centre[0]), np.exp(s + self.centre[1])], axis=1)

    def at(self, theta: np.ndarray, variables: Sequence[np.ndarray]) -> np.ndarray:
        """Loss [B, m] at other parameters and tokens, [m] each."""
        n, d = (np.log(values) - middle for values, middle in zip(variables, self.centre, strict=True))
        power, p, q, s = (theta[:, k, None] for k in range(4))
        return np.exp(power * np.logaddexp(p - q * n, s - d))
