"""Replicates of a fit, and the intervals that they give with few runs."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from trainer.scaling.fit.resampling import Interval, interval
from trainer.scaling.statistics import student_quantile

MOST_LEFT_OUT = 200  # clusters, each left out once
WIDEST = 4.0  # by which the bootstrap's spread is stretched at most


@dataclass(frozen=True)
class Replicates:
    """Weights of runs: a Bayesian bootstrap over clusters (Rubin 1981), then each cluster left out once (jackknife).

    No draw of the bootstrap loses a place, so that also few runs can be fitted again; the jackknife tells by how much
    its spread is too small where few runs decide.
    """

    clusters: np.ndarray  # int64 [runs]
    count: int
    seed: int

    @cached_property
    def weights(self) -> np.ndarray:
        """float64 [count + left out, runs]."""
        number = int(self.clusters.max()) + 1
        drawn = np.random.default_rng(self.seed).exponential(size=(self.count, number))
        drawn /= drawn.mean(axis=1, keepdims=True)
        left_out = 1 - np.eye(number) if 4 <= number <= MOST_LEFT_OUT else np.empty((0, number))
        return np.concatenate([drawn, left_out])[:, self.clusters]

    def interval(self, values: np.ndarray, runs: int, constants: int) -> Interval:
        """95% interval of [1 + count + left out] values, the fit's own first.

        runs, constants: of the law that was fitted; its residuals are smaller than the noise by what constants take.
        """
        own, drawn, left_out = values[0], values[1 : 1 + self.count], values[1 + self.count :]
        free = max(1, runs - constants)
        stretch = 1.0
        finite = left_out[np.isfinite(left_out)]
        spread = float(np.std(drawn[np.isfinite(drawn)])) if np.isfinite(drawn).any() else 0.0
        if len(finite) > 3 and spread > 0:
            jackknife = np.sqrt((len(finite) - 1) / len(finite) * np.sum((finite - finite.mean()) ** 2))
            stretch = float(np.clip(jackknife / spread, 1.0, WIDEST))
        clusters = int(self.clusters.max()) + 1
        stretch *= float(np.sqrt(max(runs, 1) / free)) * student_quantile(max(1, min(free, clusters - 1))) / 1.96
        return interval(own, own + stretch * (drawn - own))
