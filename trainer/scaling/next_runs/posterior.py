"""What a few runs leave open: draws of laws that could all have made them, over several forms.

The next run is chosen by what it would tell, so the open directions matter more than the best fit: constants that the
runs do not determine must vary as far as is plausible. Each form is fitted with a weak prior, its constants are drawn
from the normal distribution around that fit (Laplace's approximation), and forms are mixed by their evidence.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from trainer.scaling.fit.solver import minimise
from trainer.scaling.forms import Form

DRAWS = 400
LEAST_NOISE = 1e-3  # standard deviation of log loss: rounding and seeds
SPREAD = 1.0  # of the prior, in standard deviations of a form's starts
DRIFT = 5e-4  # error of a form's log loss for each e-fold between a run and what is asked: no form is true
FARNESS = 5e-3  # the same of a run that is still to be made, with caution: what a far run tells is worth less
STARTS = 5  # along each exponent: plausible constants, coarsely


@dataclass(frozen=True)
class Draws:
    """Laws that the runs allow. values: per form, constants [R_k, p_k] as `Form.loss_at` takes them."""

    values: Mapping[type[Form], np.ndarray]
    noise: float  # standard deviation of log loss of one run around its law

    def loss(self, variables: Mapping[str, np.ndarray]) -> np.ndarray:
        """float64 [R, m]: log loss at points, given by columns of a table, [m] each, by every draw."""
        rows = [form.loss_at(values, [variables[name] for name in form.variables]) for form, values in self.shares()]
        return np.log(np.concatenate(rows))

    def shares(self) -> list[tuple[type[Form], np.ndarray]]:
        return [(form, values) for form, values in self.values.items() if len(values)]


class _Anchored:
    """A form with one pseudo-run a constant, which pulls it to what is plausible as a normal prior does."""

    def __init__(self, form: Form, centre: np.ndarray, spread: np.ndarray, noise: float) -> None:
        self.form, self.low, self.high = form, form.low, form.high
        self.slopes = np.diag(noise / spread)  # [p, p]
        self.wanted = centre * noise / spread

    def predict(self, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        values, slopes = self.form.predict(theta)
        prior = np.broadcast_to(self.slopes, (len(theta), *self.slopes.shape))
        return (
            np.concatenate([values, theta @ self.slopes], axis=1),
            np.concatenate([slopes, prior], axis=1),
        )


def draw_laws(
    forms: Sequence[type[Form]],
    columns: Mapping[str, np.ndarray],
    loss: np.ndarray,
    apart: np.ndarray,
    seed: int = 0,
    draws: int = DRAWS,
) -> Draws:
    """Draws over forms. columns: [n] each, all variables of the forms; loss: [n], positive; apart: [n], how far each
    run lies from what is asked (`distance`)."""
    random = np.random.default_rng(seed)
    fitted = [_laplace(form, columns, loss, apart) for form in forms]
    evidence = np.array([one.evidence for one in fitted])
    share = np.exp(evidence - evidence.max())
    counts = np.maximum(np.round(draws * share / share.sum()).astype(int), draws // (10 * len(forms)))
    values = {}
    for form, one, count in zip(forms, fitted, counts, strict=True):
        theta = one.centre + random.standard_normal((int(count), len(one.centre))) @ one.root.T
        values[form] = one.model.values(np.clip(theta, one.model.low, one.model.high))
    best = fitted[int(evidence.argmax())]
    return Draws(values, best.noise)


@dataclass(frozen=True)
class _Laplace:
    model: Form
    centre: np.ndarray  # [p]
    root: np.ndarray  # [p, p], square root of the covariance
    noise: float
    evidence: float  # log


def _noise(residual: np.ndarray, trust: np.ndarray, constants: int) -> float:
    """Robust standard deviation of the runs near what is asked, for the degrees of freedom that are left."""
    order = np.argsort(np.abs(residual))
    share = np.cumsum(trust[order]) / trust.sum()
    middle = float(np.abs(residual)[order][np.searchsorted(share, 0.5)])
    runs = len(residual)
    return middle / 0.6745 * float(np.sqrt(runs / max(runs - constants, runs / 4)))


def distance(logs: np.ndarray, place: np.ndarray) -> np.ndarray:
    """[n]: e-folds between runs and a place. logs: [n, v], logarithms of what a law reads; place: [v]."""
    return np.sqrt(((logs - place) ** 2).sum(axis=1))


def _laplace(form: type[Form], columns: Mapping[str, np.ndarray], loss: np.ndarray, apart: np.ndarray) -> _Laplace:
    model = form([columns[name] for name in form.variables], loss)
    target, once = model.target(loss), np.ones((1, len(loss)))
    starts = model.starts(min(STARTS, model.steps), once)[0]
    centre, spread = starts.mean(axis=0), np.maximum(SPREAD * starts.std(axis=0), 1e-3)
    noise = 5 * LEAST_NOISE
    for _ in range(3):  # noise and constants in turn
        anchored = _Anchored(model, centre, spread, noise)
        trust = noise**2 / (noise**2 + (DRIFT * apart) ** 2)  # [n]
        weights = np.concatenate([trust, np.ones(len(centre))])[None]
        wanted = np.concatenate([target, anchored.wanted])
        theta = minimise(anchored, wanted, weights, starts[None], keep=4).theta[0]
        predicted, slopes = (one[0] for one in model.predict(theta[None]))
        residual = predicted - target
        free = max(len(target) - len(theta), 1)
        noise = float(
            np.hypot(np.sqrt(np.median(residual**2) / 0.455 * len(target) / (free + len(target))), LEAST_NOISE)
        )
    precision = (slopes.T * trust) @ slopes / noise**2 + np.diag(spread**-2.0)
    values, vectors = np.linalg.eigh(precision)
    root = vectors / np.sqrt(values)
    misfit = (trust * np.minimum((residual / noise) ** 2, 25)).sum() + (((theta - centre) / spread) ** 2).sum()
    evidence = -0.5 * misfit + 0.5 * np.log(trust / noise**2).sum() - 0.5 * np.log(values).sum() - np.log(spread).sum()
    return _Laplace(model, theta, root, noise, float(evidence))
