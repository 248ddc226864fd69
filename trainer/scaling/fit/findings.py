"""`isoflop fit`: everything that a table of runs says about scale, from the table alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from trainer.scaling.fit.advice import Advice, advise, flop_rate, price_rate, read_budget
from trainer.scaling.fit.approaches import Optima, Parabola, envelope, isoflop
from trainer.scaling.fit.choice import Choice, choice_json, choose, only_asked
from trainer.scaling.fit.doubts import Doubt, doubts
from trainer.scaling.fit.ensemble import Ensemble, ensemble_of
from trainer.scaling.fit.parametric import Law, fit_law, missing, one_rule, shortage
from trainer.scaling.fit.predict import Beside, Prediction, check_points, predict
from trainer.scaling.fit.resampling import Interval, interval, resample
from trainer.scaling.fit.rolling import scale_of
from trainer.scaling.fit.table import AXES, Table, named
from trainer.scaling.forms import FORMS
from trainer.scaling.settings.findings import SettingsFindings, settings_json
from trainer.utils.errors import UserError

Progress = Callable[[str, int, int], None]
REPLICATED = ("chinchilla", "kaplan", "ladder")  # whose constants have intervals also where they are not chosen


@dataclass(frozen=True)
class Approach:
    """Approach 1 or 2: the optima it found, and the exponents through them with their replicates."""

    optima: Optima
    a: Interval
    b: Interval
    parabolas: list[Parabola] = field(default_factory=list)

    @property
    def why(self) -> str:
        return self.optima.why


@dataclass(frozen=True)
class HeldOut:
    """The honest score: a form fitted without the most expensive runs, asked for their loss."""

    form: str
    runs: int  # held out
    reach: float  # largest budget over the largest of the rest
    error: float  # root mean square of log(predicted / measured)
    bias: float  # its mean: positive where too high a loss was predicted


@dataclass(frozen=True)
class Findings:
    """What was fitted, and what could not be and why."""

    table: Table
    replicates: int
    envelope: Approach
    isoflop: Approach
    laws: dict[str, Law]
    refused: dict[str, str]
    held_out: list[HeldOut]
    advice: list[Advice]
    seed_noise: tuple[float, int] | None  # standard deviation of log loss over seeds, and its degrees of freedom
    choice: Choice
    ensemble: Ensemble
    predictions: list[Prediction]
    settings: SettingsFindings | None = None  # of the best learning rate and batch, where several were tried
    doubts: list[Doubt] = field(default_factory=list)

    @property
    def chosen(self) -> str:
        """The form that predicts larger runs best: advice and predictions are by it."""
        return self.choice.chosen

    @property
    def law(self) -> Law | None:
        """The law that advice is given by."""
        return self.laws.get(self.chosen)


def fit(
    table: Table,
    *,
    budgets: list[str],
    replicates: int = 400,
    seed: int = 0,
    progress: Progress,
    forms: Sequence[str] = (),
    points: Sequence[Mapping[str, float]] = (),
    beside: Sequence[Beside] = (),
) -> Findings:
    """Fit all that the table allows. Raises UserError where that is nothing, with what is missing.

    forms: to choose from; all where none is named. points: whose loss is predicted, by column of a table. beside: what
    is added to each prediction.
    """
    laws, refused = _possible_forms(table)
    wanted = [read_budget(text, table.currency) for text in budgets]
    laws, refused = only_asked(forms, laws, refused)
    progress("choosing a form", 0, len(laws) + 1)
    choice = choose(table, laws, refused)
    check_points(points, list(choice.weights()), laws)
    weights = resample(table, replicates, seed)
    shares = choice.weights()
    fitted: dict[str, Law] = {}
    for number, form in enumerate(laws):
        progress("fitting", number + 1, len(laws) + 1)
        fitted[form] = fit_law(table, form, weights if form in (*shares, *REPLICATED) else None)
    progress("fitting", len(laws) + 1, len(laws) + 1)
    ensemble = ensemble_of(table, choice, fitted, flop_rate(table), seed)
    first, second = _approach(table, weights, envelope), _approach(table, weights, lambda t, w=None: isoflop(t, w)[0])
    second = Approach(second.optima, second.a, second.b, isoflop(table)[1])
    read_off = next((pair for pair in (("approach 2", second), ("approach 1", first)) if not pair[1].why), None)
    rule = ("the ladder's own rule of size", _every_run(table)) if one_rule(table) else None
    optima = rule or (read_off and (read_off[0], read_off[1].optima))
    advice = [advise(table, budget, fitted[choice.chosen], optima, weights, ensemble) for budget in wanted]
    found = Findings(
        table,
        replicates,
        first,
        second,
        fitted,
        refused,
        _largest_held_out(choice),
        advice,
        _seed_noise(table),
        choice,
        ensemble,
        predict(ensemble, points, beside, laws),
    )
    return replace(found, doubts=doubts(found))


def _possible_forms(table: Table) -> tuple[list[str], dict[str, str]]:
    """The forms that the table feeds, and why not the others. Raises UserError where that is none."""
    left_out = named(f"{name}: {why}" for name, why in table.left_out)
    if not table.runs:
        raise UserError(f"nothing can be fitted: no run is left; {left_out}")
    if not np.isfinite(table.column("loss")).all():
        tasks = list(dict.fromkeys(score.task for run in table.runs for score in run.tasks))
        raise UserError(f"nothing can be fitted: the table states no loss, only what runs reached in {named(tasks)}")
    laws, refused = which_forms(table)
    if not laws:
        sizes = len(np.unique(table.column("parameters")))
        runs = f"{len(table.runs)} run{'s' * (len(table.runs) != 1)}, {sizes} size{'s' * (sizes != 1)}"
        out = f"; left out are {left_out}" if table.left_out else ""
        raise UserError("; ".join([f"nothing can be fitted ({runs}): {shortage(table)}{out}", *table.notes]))
    return laws, refused


def fit_optima(table: Table) -> dict[str, Any]:
    """Exponents through a table of compute-optimal models: N ~ C^a, D ~ C^b. Raises UserError for fewer than two."""
    found = _every_run(table)
    a, b, log_n, log_d = found.exponents()
    if not np.isfinite(a):
        raise UserError("a power needs at least two models of different FLOPs")
    logs = [np.log(column) for column in (found.flop, found.parameters)]
    spread = float(np.std(logs[1] - log_n - a * logs[0]))
    return {"a": a, "b": b, "log_N_at_1_FLOP": log_n, "log_D_at_1_FLOP": log_d, "spread_of_log_N": spread}


def which_forms(table: Table) -> tuple[list[str], dict[str, str]]:
    """The forms that can be fitted, and why the others cannot."""
    refused: dict[str, str] = {}
    for form in FORMS:
        if why := missing(table, form):
            refused[form] = why
    if "chinchilla" not in refused:
        refused["ladder"] = "parameters and tokens can be told apart, which says more"
    elif not one_rule(table):
        refused.setdefault("ladder", "sizes and tokens do not follow one rule, so FLOPs alone do not tell the loss")
    return [form for form in FORMS if form not in refused], refused


def _approach(table: Table, weights: np.ndarray, find: Callable[..., Optima]) -> Approach:
    optima = find(table)
    a, b, *_ = optima.exponents()
    if optima.why:
        return Approach(optima, Interval(np.nan, np.nan, np.nan), Interval(np.nan, np.nan, np.nan))
    again = np.array([find(table, row).exponents()[:2] for row in weights]).reshape(-1, 2)
    return Approach(optima, interval(a, again[:, 0]), interval(b, again[:, 1]))


def _every_run(table: Table) -> Optima:
    flop, parameters, tokens, loss = (table.column(name) for name in ("flop", "parameters", "tokens", "loss"))
    return Optima(flop, parameters, tokens, loss)


def _largest_held_out(choice: Choice) -> list[HeldOut]:
    """At the last of the cuts: without the largest budget, or where budgets jitter without about the largest 4%."""
    if not choice.cuts:
        return []
    cut, (_, scale) = choice.cuts[-1], scale_of(choice.table)
    reach = float(scale.max() / scale[cut.kept].max())
    scores = []
    for form, rolled in choice.rolled.items():
        error = rolled.error[-1, cut.out]
        scores.append(HeldOut(form, len(error), reach, float(np.sqrt(np.mean(error**2))), float(error.mean())))
    return scores


def _seed_noise(table: Table) -> tuple[float, int] | None:
    """Pooled over all places that several runs share."""
    loss = table.column("loss")
    logs, squares, freedom = np.log(loss) if (loss > 0).all() else loss, 0.0, 0  # a normalised loss has no logarithm
    for place in range(int(table.places.max()) + 1):
        here = logs[table.places == place]
        squares, freedom = squares + float(((here - here.mean()) ** 2).sum()), freedom + len(here) - 1
    return (float(np.sqrt(squares / freedom)), freedom) if freedom else None


def findings_json(found: Findings) -> dict[str, Any]:
    """Everything as plain data; what is unknown is null."""
    table = found.table
    sizes, tokens = (len(np.unique(table.column(name))) for name in ("parameters", "tokens"))
    laws: dict[str, Any] = {}
    for form, law in found.laws.items():
        columns = law.constants()
        constants = {
            name: interval(column[0], column[1:]).to_json()
            for name, column in zip(FORMS[form].constants, columns.T, strict=True)
        }
        fit_quality = {"huber_objective": law.objective, "rms_log_residual": law.residual, "doubts": law.doubts()}
        laws[form] = {"law": FORMS[form].title, **constants, **_optimum(law), **fit_quality}
    laws |= {form: {"law": FORMS[form].title, "refused": why} for form, why in found.refused.items()}
    every = dict(laws)
    return {
        "table": {
            "runs": len(table.runs),
            "sizes": sizes,
            "token_counts": tokens,
            "budgets": int(table.budgets.max()) + 1,
            "parameters_are": table.counts,
            "flop_are": table.flop_rule,
            "currency": table.currency or None,
            "left_out": [{"run": name, "why": why} for name, why in table.left_out],
            "notes": list(table.notes),
        },
        "bootstrap_replicates": found.replicates,
        "approach_1_envelope": _approach_json(found.envelope),
        "approach_2_isoflop": _approach_json(found.isoflop)
        | {"parabolas": [_parabola_json(parabola) for parabola in found.isoflop.parabolas]},
        "approach_3_parametric": laws.pop("chinchilla"),
        "kaplan": laws.pop("kaplan"),
        "ladder": laws.pop("ladder"),
        "leave_largest_out": [vars(score) for score in found.held_out],
        "seed_noise_log_loss": found.seed_noise and found.seed_noise[0],
        "prices": _prices(found),
        "advice": [advice.to_json() for advice in found.advice],
        "chosen": found.chosen,
        "chosen_why": found.choice.why,
        "forms": choice_json(found.choice, every),
        "calibration": found.ensemble.calibration.to_json(),
        "predictions": [prediction.to_json() for prediction in found.predictions],
        "settings": found.settings and settings_json(found.settings),
        "doubts": [doubt.to_json() for doubt in found.doubts],
    }


def _optimum(law: Law) -> dict[str, Any]:
    if law.form not in ("chinchilla", "kaplan"):
        return {}
    powers = law.exponents()
    return {name: interval(powers[0, k], powers[1:, k]).to_json() for k, name in enumerate("ab")}


def _approach_json(approach: Approach) -> dict[str, Any]:
    if approach.why:
        return {"refused": approach.why}
    optima = approach.optima
    points = {name: getattr(optima, name).tolist() for name in ("flop", "parameters", "tokens", "loss")}
    return {"a": approach.a.to_json(), "b": approach.b.to_json(), "optima": points}


def _parabola_json(parabola: Parabola) -> dict[str, Any]:
    return {"flop": parabola.flop, "best_parameters": parabola.best, "why_none": parabola.why or None}


def _prices(found: Findings) -> dict[str, Any]:
    """What the runs cost along each axis, and how a token's price grows with the size."""
    prices: dict[str, Any] = {}
    for axis in AXES:
        rate = price_rate(found.table, axis, np.empty((0, len(found.table.runs))))
        if rate is None:
            prices[axis] = None
            continue
        amounts = found.table.column(axis)
        prices[axis] = {
            "unit": found.table.unit(axis),
            "total": float(np.nansum(amounts)),
            "runs_that_state_it": int(np.isfinite(amounts).sum()),
            "per_token": f"{np.exp(rate.log_k[0]):.4g} x N^{rate.power[0]:.3f}",
        }
    return prices
