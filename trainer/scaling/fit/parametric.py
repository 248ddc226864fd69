"""A law through all runs at once: a form of trainer/scaling/forms, its constants and their replicates."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from trainer.scaling.fit.solver import minimise, replicated, screened
from trainer.scaling.fit.table import Table
from trainer.scaling.forms import FORMS, Form
from trainer.scaling.forms.powers import SumOfPowers

ONE_RULE = 0.999  # correlation of log N and log D from which on tokens follow parameters
MANY = 100  # runs from which on replicates begin with the fit's own derivatives
SAMPLE = 250  # runs that the starts are screened on
RUNS_AT_ONCE = 100_000  # runs x replicates: memory stays small


@dataclass(frozen=True)
class Law:
    """A fitted form. theta [1, p] and replicates [R, p] are in the form's own coordinates."""

    model: Form
    theta: np.ndarray
    replicates: np.ndarray
    objective: float  # mean Huber loss
    residual: float  # root mean square of log loss

    @property
    def form(self) -> str:
        return self.model.name

    def constants(self) -> np.ndarray:
        """[1 + R, p] in the order of the form's constants; the fit itself first, then its replicates."""
        return self.model.values(np.concatenate([self.theta, self.replicates]))

    def at(self, *variables: np.ndarray) -> np.ndarray:
        """Loss [1 + R, m] at points, given as [m] each of the form's variables."""
        return self.model.loss_at(self.constants(), variables)

    def exponents(self) -> np.ndarray:
        """[1 + R, 2]: a and b of N ~ C^a, D ~ C^b where C = k N D: a = beta / (alpha + beta) in the forms whose best
        size is a power of the budget."""
        names = self.model.constants
        pair = ("alpha_N", "alpha_D") if self.form == "kaplan" else ("alpha", "beta")
        alpha, beta = (self.constants()[:, names.index(name)] for name in pair)
        a = beta / (alpha + beta)
        return np.stack([a, 1 - a], axis=1)

    def doubts(self) -> list[str]:
        """Which constants these runs do not determine."""
        found = []
        if isinstance(self.model, SumOfPowers) and self.constants()[0, 0] < 1e-2 * self.model.loss.min():
            found.append("E is 0 as far as these runs tell: no floor of the loss can be seen yet")
        return found + self.unseen_slopes()

    def unseen_slopes(self) -> list[str]:
        """Along which axes these runs do not say how the loss falls: a law of them has no best size."""
        return self.model.unseen(self.theta[0])


def one_rule(table: Table) -> bool:
    """Whether tokens follow parameters by one rule in all runs, so that the two cannot be told apart."""
    logs = np.log([table.column("parameters"), table.column("tokens")])
    return bool((np.ptp(logs, axis=1) > 1e-9).all() and abs(np.corrcoef(logs)[0, 1]) > ONE_RULE)


NOUNS = {  # column -> one value of it, several
    "parameters": ("size", "sizes"),
    "tokens": ("number of tokens", "numbers of tokens"),
    "flop": ("budget of FLOPs", "budgets of FLOPs"),
    "unique_tokens": ("number of unique tokens", "numbers of unique tokens"),
    "active": ("number of active parameters", "numbers of active parameters"),
    "experts": ("number of experts", "numbers of experts"),
    "vocabulary": ("vocabulary", "vocabularies"),
    "characters": ("number of characters", "numbers of characters"),
}


def missing(table: Table, form: str) -> str:
    """What a table lacks for this form, in one line; nothing where it can be fitted."""
    spec = FORMS[form]
    absent = [name for name in spec.needs if not np.isfinite(table.column(name)).all()]
    if absent:
        return f"it needs a column of {' and of '.join(absent)}, stated by every run"
    if not spec.normalised and (table.column("loss") <= 0).any():
        return "losses are negative (normalised), and the form is one of positive losses"
    there = {name: _different(table, name) for name in spec.needs}
    if any(there[name] < wanted for name, wanted in spec.needs.items()):
        wanted = " and ".join(f"{count} {NOUNS[name][count > 1]}" for name, count in spec.needs.items())
        verb = "is" if next(iter(there.values())) == 1 else "are"
        return f"it needs at least {wanted}; there {verb} {' and '.join(str(count) for count in there.values())}"
    places, constants = int(table.places.max()) + 1, len(spec.constants)
    if places <= constants:
        return f"{constants} constants need more than {constants} runs of different sizes or tokens; there are {places}"
    if not spec.together and {"parameters", "tokens"} <= set(spec.needs) and one_rule(table):
        return (
            "tokens follow parameters by one rule in all runs, so the two cannot be told apart; vary tokens at a size"
        )
    return ""


def _different(table: Table, name: str) -> int:
    """How many different values a column has; FLOPs that jitter are one budget."""
    return int(table.budgets.max()) + 1 if name == "flop" else len(np.unique(table.column(name)))


def fit_law(table: Table, form: str, weights: np.ndarray | None = None) -> Law:
    """Huber loss on log loss (delta 1e-3, where the form says no other), many starts. weights [R, runs]: the
    bootstrap's replicates."""
    loss = table.column("loss")
    model = FORMS[form]([table.column(name) for name in FORMS[form].variables], loss)
    target = model.target(loss)
    once = np.ones((1, len(loss)))
    best = minimise(model, target, once, _starts(model, target, once), delta=model.delta)
    near = model.near(best.theta[0])
    replicates = [np.empty((0, len(model.constants)))]
    size = max(1, RUNS_AT_ONCE // len(loss))
    for first in range(0, 0 if weights is None else len(weights), size):
        some = weights[first : first + size]  # type: ignore[index]
        if len(loss) >= MANY:
            replicates.append(replicated(model, target, some, best.theta[0], model.delta))
            continue
        starts = np.broadcast_to(near, (len(some), *near.shape))
        replicates.append(minimise(model, target, some, starts, keep=1, delta=model.delta).theta)
    residual = float(np.sqrt(np.mean((model.predict(best.theta)[0][0] - target) ** 2)))
    return Law(model, best.theta, np.concatenate(replicates), float(best.objective[0]), residual)


def _starts(model: Form, target: np.ndarray, once: np.ndarray) -> np.ndarray:
    """[1, S, p]: the form's starts; of many runs, only the best for a sample of the runs."""
    if len(target) <= SAMPLE:
        return model.starts(model.steps, once)
    rows = np.sort(np.random.default_rng(0).permutation(len(target))[:SAMPLE])
    few, weights = model.over(rows), once[:, rows]
    return screened(few, target[rows], weights, few.starts(few.steps, weights), keep=6, delta=model.delta)
