"""Which runs tell most about a question for their price (arXiv 2604.22753).

Draws of laws that the runs so far allow say what each candidate run would show and what the answer would then be. Where
the two vary together, the run is worth its price. A normal approximation over the draws makes that one matrix: after a
run is chosen, the matrix is conditioned on it, and the next one is chosen.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

PRICE_POWERS = (0.0, 0.25, 0.5, 0.75, 1.0)


@dataclass(frozen=True)
class Choice:
    """One chosen run: its number among the candidates, and the answer's standard deviation after it."""

    candidate: int
    spread: float


def choose(
    answers: np.ndarray, shown: np.ndarray, prices: np.ndarray, noise: np.ndarray, count: int, within: float
) -> list[Choice]:
    """Up to `count` runs of `within` in all that shrink the spread of the answers most, one after another.

    answers: [R, q], of every draw to q questions whose variances are added; shown: [R, m], log loss of every candidate;
    prices: [m], positive; noise: [m], standard deviation of
    each candidate's log loss around the law. A candidate may be chosen again: another seed.
    Greedy choice by gain for the price wastes a small count on cheap runs, by gain alone a budget on one dear run; so
    both are tried, and what lies between, and the best is taken.
    """
    covariance = np.cov(np.concatenate([answers, shown], axis=1), rowvar=False)
    tries = [greedy(covariance, answers.shape[1], prices, noise, count, within, power) for power in PRICE_POWERS]
    return min(tries, key=lambda chosen: (chosen[-1].spread if chosen else np.inf, len(chosen)))


def greedy(
    covariance: np.ndarray, questions: int, prices: np.ndarray, noise: np.ndarray, count: int, left: float, power: float
) -> list[Choice]:
    """By gain / price^power."""
    chosen: list[Choice] = []
    for _ in range(count):
        variance = np.diag(covariance)[questions:] + noise**2
        gain = (covariance[:questions, questions:] ** 2).sum(axis=0) / variance
        worth = np.where(prices <= left, gain / prices**power, -np.inf)
        best = int(np.argmax(worth))
        if not worth[best] > 0:
            break
        column = covariance[:, questions + best]
        covariance = covariance - np.outer(column, column) / variance[best]
        left -= float(prices[best])
        spread = np.trace(covariance[:questions, :questions])
        chosen.append(Choice(best, float(np.sqrt(max(spread, 0.0)))))
    return chosen
