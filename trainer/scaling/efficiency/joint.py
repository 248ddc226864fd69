"""One law of several groups of runs that differ in how far their compute goes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from trainer.scaling.fit.solver import DELTA, huber, minimise

EXPONENTS = (1e-3, 3.0)  # bounds of a power
FLOOR = 12.0  # E is taken for 0 below exp(-FLOOR) of the lowest loss
ROBUST = 2.0  # residuals beyond so many standard deviations pull with a constant force
SHIFTS = (-1.0, -0.3, 0.0, 0.3, 1.0)  # log factors that the search begins from
RUNS_AT_ONCE = 50_000  # runs x replicates: memory stays small


class JointLaw:
    """log L = log(E + sum of K_i / x_i^k_i), whose last x is divided by exp(columns @ phi).

    theta = (log E, log K_i ..., k_i ..., phi ...) at centred logarithms of x. `scale` multiplies what is predicted, so
    that the solver's bend between squares and absolute values stands at `ROBUST` standard deviations.
    """

    def __init__(self, logs: np.ndarray, columns: np.ndarray, loss: np.ndarray) -> None:
        """logs: [n, v] of the variables; columns: [n, f], what divides the last one; loss: [n], positive."""
        self.centre = logs.mean(axis=0)
        self.x, self.columns, self.log_loss, self.scale = logs - self.centre, columns, np.log(loss), 1.0
        v, f = logs.shape[1], columns.shape[1]
        lowest, highest = self.log_loss.min(), self.log_loss.max()
        self.low = np.array([lowest - FLOOR, *[lowest - 30] * v, *[EXPONENTS[0]] * v, *[-12.0] * f])
        self.high = np.array([highest, *[highest + 60] * v, *[EXPONENTS[1]] * v, *[12.0] * f])

    @property
    def variables(self) -> int:
        return self.x.shape[1]

    def predict(self, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """theta [B, p] -> scale x log L [B, n] and its derivatives [B, n, p]."""
        v = self.variables
        k = theta[:, None, 1 + v : 1 + 2 * v]
        x = np.broadcast_to(self.x, (len(theta), *self.x.shape)).copy()
        x[:, :, -1] -= theta[:, 1 + 2 * v :] @ self.columns.T
        lines = np.concatenate(
            [np.broadcast_to(theta[:, None, :1], (*x.shape[:2], 1)), theta[:, None, 1 : 1 + v] - k * x], axis=2
        )
        log_loss = np.logaddexp.reduce(lines, axis=2)
        shares = np.exp(lines - log_loss[:, :, None])
        shifted = (shares[:, :, -1] * k[:, :, -1])[:, :, None] * self.columns
        slopes = np.concatenate([shares, -shares[:, :, 1:] * x, shifted], axis=2)
        return self.scale * log_loss, self.scale * slopes

    def starts(self, steps: int) -> np.ndarray:
        """[S, p]: a grid over the exponents and the first shift; the rest solves relative least squares."""
        v, f = self.variables, self.columns.shape[1]
        grid = np.geomspace(0.04, 1.6, steps)
        shifts = SHIFTS if f else (0.0,)
        found = []
        for shift in shifts:
            phi = np.zeros(f)
            phi[:1] = shift
            x = self.x.copy()
            x[:, -1] -= self.columns @ phi
            k = np.stack(np.meshgrid(*[grid] * v, indexing="ij"), axis=-1).reshape(-1, v)
            terms = np.concatenate([np.ones((len(k), len(x), 1)), np.exp(-k[:, None] * x)], axis=2)
            terms /= np.exp(self.log_loss)[None, :, None]
            square = terms.transpose(0, 2, 1) @ terms
            ridge = 1e-9 * np.trace(square, axis1=1, axis2=2)[:, None, None] * np.eye(v + 1)
            solved = np.linalg.solve(square + ridge, terms.sum(axis=1)[:, :, None])[:, :, 0]
            solved = np.log(np.maximum(solved, 1e-3 * np.exp(self.log_loss.min())))
            found.append(np.concatenate([solved, k, np.broadcast_to(phi, (len(k), f))], axis=1))
        return np.concatenate(found)

    def near(self, theta: np.ndarray) -> np.ndarray:
        """[S, p]: known constants, and others beside them."""
        v = self.variables
        starts = np.repeat(theta[None], 3, axis=0)
        starts[:, 1 + v : 1 + 2 * v] *= np.array([[1.0], [0.7], [1.4]])
        return starts

    def loss_at(self, theta: np.ndarray, logs: np.ndarray) -> np.ndarray:
        """Loss [B, m] of the first group at other points [m, v] (logarithms)."""
        v = self.variables
        lines = theta[:, None, 1 : 1 + v] - theta[:, None, 1 + v : 1 + 2 * v] * (logs - self.centre)
        return np.exp(theta[:, :1]) + np.exp(lines).sum(axis=2)


@dataclass(frozen=True)
class JointFit:
    """The law fitted, and again to every replicate."""

    law: JointLaw
    theta: np.ndarray  # [p]
    replicates: np.ndarray  # [R, p]
    spread: float  # robust standard deviation of log loss around it

    @property
    def constants(self) -> int:
        return len(self.theta)

    @property
    def size(self) -> tuple[int, int]:
        """Runs and constants."""
        return len(self.law.log_loss), len(self.theta)

    @property
    def all(self) -> np.ndarray:
        """[1 + R, p]: the fit, then its replicates."""
        return np.concatenate([self.theta[None], self.replicates])

    def residuals(self) -> np.ndarray:
        """log L measured minus predicted: [n]."""
        return self.law.log_loss - self.law.predict(self.theta[None])[0][0] / self.law.scale


def fit_joint(
    logs: np.ndarray, columns: np.ndarray, loss: np.ndarray, weights: np.ndarray | None = None, spread: float = 0.0
) -> JointFit:
    """Robust fit of log loss. weights [R, n]: the replicates'; spread: of log loss, where another fit has told it."""
    law = JointLaw(logs, columns, loss)
    once = np.ones((1, len(loss)))
    theta = minimise(law, law.log_loss, once, law.starts(8 if logs.shape[1] > 1 else 16)[None]).theta[0]
    if not spread:
        residual = np.abs(law.log_loss - law.predict(theta[None])[0][0])
        free = max(1, len(loss) - len(theta))
        spread = max(1e-6, 1.4826 * float(np.median(residual)) * np.sqrt(len(loss) / free))
    law.scale = DELTA / (ROBUST * spread)
    target = law.scale * law.log_loss
    theta = minimise(law, target, once, law.near(theta)[None]).theta[0]
    near = law.near(theta)[:1]
    replicates = [np.empty((0, len(theta)))]
    size = max(1, RUNS_AT_ONCE // len(loss))
    for first in range(0, 0 if weights is None else len(weights), size):
        some = weights[first : first + size]  # type: ignore[index]
        starts = np.broadcast_to(near, (len(some), *near.shape))
        replicates.append(minimise(law, target, some, starts, keep=1).theta)
    return JointFit(law, theta, np.concatenate(replicates), spread)


def misfit(fits: list[JointFit], spread: float) -> float:
    """Sum of squares, robust as in the fit, in units of the spread."""
    residuals = np.concatenate([one.residuals() for one in fits]) / spread
    return 2 * float(huber(residuals, ROBUST).sum())
