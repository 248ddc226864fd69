"""Accuracy over bits per byte: a sigmoid between about chance and 1."""

from __future__ import annotations

import numpy as np

from trainer.scaling.fit.solver import DELTA, minimise

NOISE = 0.02  # of an accuracy; larger deviations count by their absolute value
AROUND_CHANCE = (0.8, 1.1)  # x chance: bounds of the lower end
STEEP = (0.3, 20.0)  # bounds of the steepness, per bit per byte
# Accuracy of a guess, in tasks whose number of answers is known; by the beginning of their name.
CHANCE = {
    "hellaswag": 1 / 4,
    "arc": 1 / 4,
    "openbookqa": 1 / 4,
    "obqa": 1 / 4,
    "mmlu": 1 / 4,
    "piqa": 1 / 2,
    "csqa": 1 / 5,
    "commonsense": 1 / 5,
    "siqa": 1 / 3,
    "social": 1 / 3,
    "winogrande": 1 / 2,
    "boolq": 1 / 2,
    "copa": 1 / 2,
    "rte": 1 / 2,
    "wic": 1 / 2,
    "wsc": 1 / 2,
    "cb": 1 / 3,
    "multirc": 1 / 2,
    "sciq": 1 / 4,
    "blimp": 1 / 2,
    "minimal_pairs": 1 / 2,
}


def chance(task: str) -> float | None:
    """Accuracy of a guess; None where it is not known."""
    name = task.lower().replace("-", "_")
    return next((value for start, value in CHANCE.items() if name.startswith(start)), None)


class Sigmoid:
    """accuracy = 1 - (1 - floor) / (1 + exp(-k (bits - middle))); theta = (floor, log k, middle).

    The upper end is 1: runs say nothing about a lower one as long as all of them are far below it, and one that is
    fitted costs more than it gives. Values are in units of NOISE / DELTA: the solver's Huber loss then turns at NOISE.
    """

    def __init__(self, bits: np.ndarray, floor: tuple[float, float]) -> None:
        """bits: [n]; floor: bounds of the lower end."""
        self.bits = bits
        self.low = np.array([floor[0], np.log(STEEP[0]), -2.0])
        self.high = np.array([floor[1] + 1e-9, np.log(STEEP[1]), float(bits.max()) + 2.0])

    def predict(self, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """theta [B, 3] -> scaled accuracy [B, n] and its derivatives [B, n, 3]."""
        floor, log_k, middle = (theta[:, i, None] for i in range(3))
        k = np.exp(log_k)
        z = np.clip(k * (self.bits - middle), -500, 500)
        share = 1 / (1 + np.exp(-z))
        slope = (1 - floor) * share * (1 - share)
        return SCALE * (1 - (1 - floor) * share), SCALE * np.stack([share, -slope * z, slope * k], axis=2)

    def starts(self) -> np.ndarray:
        """[S, 3]."""
        middles = np.linspace(0.2, self.bits.max() + 0.5, 6)
        floor = np.array([(self.low[0] + self.high[0]) / 2])
        grid = np.meshgrid(floor, np.log([1.5, 3.0, 6.0, 12.0]), middles, indexing="ij")
        return np.stack([one.ravel() for one in grid], axis=1)


SCALE = DELTA / NOISE


def fit_sigmoid(bits: np.ndarray, accuracy: np.ndarray, weights: np.ndarray, guess: float | None) -> np.ndarray:
    """theta [B, 3] for each row of weights [B, n]. guess: the accuracy of chance, None where it is not known."""
    low, high = (guess * AROUND_CHANCE[0], guess * AROUND_CHANCE[1]) if guess else (0.0, float(accuracy.min()))
    model = Sigmoid(bits, (low, high))
    once = minimise(model, SCALE * accuracy, weights[:1], model.starts()[None], keep=4).theta
    if len(weights) == 1:
        return once
    starts = np.broadcast_to(once, (len(weights) - 1, *once.shape))
    return np.concatenate([once, minimise(model, SCALE * accuracy, weights[1:], starts, keep=1).theta])


def accuracy_at(theta: np.ndarray, bits: np.ndarray) -> np.ndarray:
    """Accuracy [B, m] by constants [B, 3], at bits [m] or [B, m]."""
    floor, log_k, middle = (theta[:, i, None] for i in range(3))
    z = np.clip(np.exp(log_k) * (bits - middle), -500, 500)
    return np.asarray(1 - (1 - floor) / (1 + np.exp(-z)))


def bits_for(theta: np.ndarray, accuracy: float) -> np.ndarray:
    """Bits per byte [B] at which an accuracy is reached; nan below the lower end, 0 or less where none are enough."""
    floor, log_k, middle = theta.T
    share = (1 - accuracy) / (1 - floor)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.where(share < 1, middle + np.log(share / (1 - share)) / np.exp(log_k), np.nan))
