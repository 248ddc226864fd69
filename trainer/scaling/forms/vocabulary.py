"""Vocabularies: losses that are normalised over them, and may be negative."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from trainer.scaling.forms.form import Form, side_by_side

POWERS = (0.03, 3.0)  # bounds of the exponents: below, a power is a constant with the floor
WIDTH = 1.75  # width = WIDTH x N^(1/3): 12 layers x 768 at 85M, as the paper's own models about follow
SPREAD = 30.0  # a power's factor is at most exp(SPREAD) of the losses' range


class Vocabulary(Form):
    """The loss less that of unigrams: comparable over vocabularies, and mostly negative. It is fitted itself.

    theta = (E, log A1, log A2, log B, alpha1, alpha2, beta), factors at centred logarithms.
    """

    name = "vocabulary"
    title = "L = E + A1/N^alpha1 + A2/(V d)^alpha2 + B/H^beta, d = 1.75 N^(1/3) the width"
    source = "Tao et al. 2024, equation 7, N without vocabulary, H characters"
    constants = ("E", "A1", "A2", "B", "alpha1", "alpha2", "beta")
    units: ClassVar[dict[str, str]] = {"E": "nats/token less the unigrams'"}
    variables = ("parameters", "vocabulary", "characters")
    needs: ClassVar[dict[str, int]] = {"parameters": 3, "vocabulary": 3, "characters": 3}
    by_run = ("x", "loss")
    steps = 6
    normalised = True
    delta = 0.05

    def __init__(self, variables: Sequence[np.ndarray], loss: np.ndarray) -> None:
        """variables: parameters without vocabulary, vocabulary and characters, [n] each; loss: [n]."""
        logs = _logs(variables)
        self.centre = logs.mean(axis=0)
        self.x, self.loss = logs - self.centre, loss  # [n, 3]
        self.range = max(float(np.ptp(loss)), 1e-6)
        least = np.log(self.range) - SPREAD
        self.low = np.array([loss.min() - 10 * self.range, *[least] * 3, *[POWERS[0]] * 3])
        self.high = np.array([loss.max(), *[least + 2 * SPREAD] * 3, *[POWERS[1]] * 3])

    def predict(self, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """theta [B, 7] -> L [B, n] and its derivatives [B, n, 7]."""
        terms = [np.exp(theta[:, 1 + i, None] - theta[:, 4 + i, None] * self.x[:, i]) for i in range(3)]
        bends = [-term * self.x[:, i] for i, term in enumerate(terms)]
        return theta[:, :1] + sum(terms), side_by_side([np.ones_like(terms[0]), *terms, *bends])

    def starts(self, steps: int, weights: np.ndarray) -> np.ndarray:
        """[B, S, 7]: a grid over the exponents; E, A1, A2, B are least squares."""
        grid = np.geomspace(0.06, 1.2, steps)
        powers = np.stack(np.meshgrid(grid, grid, grid, indexing="ij"), axis=-1).reshape(-1, 3)
        columns = np.exp(-powers[:, None, :] * self.x)
        columns = np.concatenate([np.ones_like(columns[:, :, :1]), columns], axis=2)
        square = np.einsum("bn,snp,snq->bspq", weights, columns, columns, optimize=True)
        right = np.einsum("bn,snp,n->bsp", weights, columns, self.loss, optimize=True)
        ridge = 1e-9 * np.einsum("bspp->bs", square)[..., None, None] * np.eye(4)
        solved = np.linalg.solve(square + ridge, right[..., None])[..., 0]
        solved[..., 1:] = np.log(np.maximum(solved[..., 1:], 1e-3 * self.range))
        return np.concatenate([solved, np.broadcast_to(powers, (*solved.shape[:2], 3))], axis=2)

    def near(self, theta: np.ndarray) -> np.ndarray:
        return theta[None]

    def values(self, theta: np.ndarray) -> np.ndarray:
        """[B, 7]: constants at N, V d and H themselves."""
        powers = theta[:, 4:]
        return np.concatenate([theta[:, :1], np.exp(theta[:, 1:4] + powers * self.centre), powers], axis=1)

    @classmethod
    def loss_at(cls, values: np.ndarray, variables: Sequence[np.ndarray]) -> np.ndarray:
        logs = _logs(variables)
        terms = values[:, None, 1:4] * np.exp(-values[:, None, 4:] * logs)
        return values[:, :1] + terms.sum(axis=2)

    def unseen(self, theta: np.ndarray) -> list[str]:
        whats = (("alpha1", "parameters"), ("alpha2", "the vocabulary"), ("beta", "characters"))
        return [
            f"{name} ran to its bound: these runs do not say how loss falls with {what}"
            for (name, what), value in zip(whats, theta[4:], strict=True)
            if not POWERS[0] * 1.01 < value < POWERS[1] * 0.99
        ]


def _logs(variables: Sequence[np.ndarray]) -> np.ndarray:
    """[n, 3]: logarithms of N, of V d and of H."""
    n, vocabulary, characters = (np.log(x) for x in variables)
    return np.stack([n, vocabulary + np.log(WIDTH) + n / 3, characters], axis=1)
