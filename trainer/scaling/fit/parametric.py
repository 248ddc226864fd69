"""A law through all runs at once: a form of trainer/scaling/forms, its constants and their replicates."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from trainer.scaling.fit.solver import minimise
from trainer.scaling.fit.table import Table
from trainer.scaling.forms import FORMS, Form
from trainer.scaling.forms.powers import SumOfPowers

ONE_RULE = 0.999  # correlation of log N and log D from which on tokens follow parameters
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
        """[1 + R, 2]: a and b of N ~ C^a, D ~ C^b where C = k N D: a = beta / (alpha + beta) in both forms."""
        alpha, beta = self.constants()[:, 3:].T if self.form == "chinchilla" else self.constants()[:, :2].T
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


def missing(table: Table, form: str) -> str:
    """What a table lacks for this form; nothing where it can be fitted."""
    sizes, tokens = (len(np.unique(table.column(name))) for name in ("parameters", "tokens"))
    places, constants = int(table.places.max()) + 1, len(FORMS[form].constants)
    wanted, budgets = 2 if form == "kaplan" else 3, int(table.budgets.max()) + 1
    if sizes < wanted or (tokens < wanted and form != "ladder"):
        verb = "is" if sizes == 1 else "are"
        return f"it needs at least {wanted} sizes and {wanted} numbers of tokens; there {verb} {sizes} and {tokens}"
    if form == "ladder" and budgets < wanted:
        return f"it needs at least {wanted} budgets of FLOPs; there {'is' if budgets == 1 else 'are'} {budgets}"
    if places <= constants:
        return f"{constants} constants need more than {constants} runs of different sizes or tokens; there are {places}"
    if form != "ladder" and one_rule(table):
        return (
            "tokens follow parameters by one rule in all runs, so the two cannot be told apart; vary tokens at a size"
        )
    return ""


def fit_law(table: Table, form: str, weights: np.ndarray | None = None) -> Law:
    """Huber loss on log loss (delta 1e-3), many starts. weights [R, runs]: the bootstrap's replicates."""
    loss = table.column("loss")
    model = FORMS[form]([table.column(name) for name in FORMS[form].variables], loss)
    target = model.target(loss)
    once = np.ones((1, len(loss)))
    best = minimise(model, target, once, model.starts(model.steps, once))
    near = model.near(best.theta[0])
    replicates = [np.empty((0, len(model.constants)))]
    size = max(1, RUNS_AT_ONCE // len(loss))
    for first in range(0, 0 if weights is None else len(weights), size):
        some = weights[first : first + size]  # type: ignore[index]
        starts = np.broadcast_to(near, (len(some), *near.shape))
        replicates.append(minimise(model, target, some, starts, keep=1).theta)
    residual = float(np.sqrt(np.mean((model.predict(best.theta)[0][0] - target) ** 2)))
    return Law(model, best.theta, np.concatenate(replicates), float(best.objective[0]), residual)
