"""Everything that a sweep says about the best settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from trainer.scaling.fit.resampling import Interval
from trainer.scaling.fit.table import Table
from trainer.scaling.settings.critical import CriticalBatch, critical_batch, noise_batch
from trainer.scaling.settings.doubts import Doubt, doubts
from trainer.scaling.settings.held_out import Miss, hold_out
from trainer.scaling.settings.law import SettingsLaw, fit_law, possible_terms, settings_at
from trainer.scaling.settings.places import Place, places_of, scatter
from trainer.scaling.settings.points import SETTINGS, Points, points_of, runs_with, varied
from trainer.scaling.settings.surface import Fit, Terms, fit_surface, surface
from trainer.utils.bounded import whole_number
from trainer.utils.errors import UserError, nearest

Beside = Callable[[Mapping[str, float], Interval], dict[str, Any]]  # as trainer/scaling/fit/predict.py has it


@dataclass(frozen=True)
class SettingsFindings:
    """The law, and what it rests on."""

    points: Points
    terms: Terms
    law: SettingsLaw
    fit: Fit
    places: list[Place]  # cheapest first
    held_out: list[Miss]  # each most expensive place in turn, fitted on all others
    from_cheaper: list[Miss]  # the same, fitted on cheaper places alone
    doubts: list[Doubt]
    critical: CriticalBatch | str  # or why there is none
    noise: CriticalBatch | None  # by the gradient noise scale


def find_settings(
    table: Table, names: tuple[str, ...], *, sequence_length: int | None = None, seed: int = 0
) -> SettingsFindings:
    """Fit the law of these settings. Raises UserError where the table does not allow it."""
    points = points_of(table, names, sequence_length)
    candidates = []
    for terms in possible_terms(points):
        fit = fit_surface(points, terms)
        places = places_of(points, terms, fit)
        misses = [hold_out(points, terms, fit, places, cheaper=cheaper) for cheaper in (False, True)]
        costs = [miss.cost for part in misses for miss in part]
        candidates.append((float(np.mean(costs)) if costs else 0.0, terms, places, misses))
    _, terms, places, misses = min(candidates, key=lambda candidate: (candidate[0], candidate[1].count))
    law, fit = fit_law(points, terms, seed=seed)
    predicted = np.array([law.at(place.parameters, place.tokens) for place in places])
    law = replace(law, scatter=scatter(places, predicted, max(map(len, terms.columns))))
    optimizers = sorted({run.optimizer for run in runs_with(table, names) if run.optimizer})
    together = all(len(columns) == 2 for columns in terms.columns)
    return SettingsFindings(
        points,
        terms,
        law,
        fit,
        places,
        misses[0],
        misses[1],
        doubts(law, places, misses[0], together, optimizers),
        critical_batch(points),
        noise_batch(table),
    )


def settings_of(
    table: Table, words: str | None = None, sequence_length: str | None = None, seed: int = 0
) -> SettingsFindings | None:
    """The law of the settings that these words name: `lr,batch`, `none`, or null for all that were tried at several
    values. None where that is nothing. Raises UserError for other words, or where a law that is asked for cannot be."""
    length = None if sequence_length is None else whole_number(sequence_length)
    if sequence_length is not None and (length is None or length < 1):
        raise UserError(f"sequence_length: {sequence_length!r} given, a whole number of tokens wanted")
    if words is None:
        named = varied(table)
    else:
        given = [] if words == "none" else words.split(",")
        for word in given:
            if word not in SETTINGS:
                allowed = (*SETTINGS, "none")
                raise UserError(f"settings: {word!r} given; {', '.join(allowed)} wanted{nearest(word, allowed)}")
        named = tuple(name for name in SETTINGS if name in given)
    if length is not None and "batch" not in named:
        raise UserError("sequence_length: only a law of the batch reads it, and there is none here")
    return find_settings(table, named, sequence_length=length, seed=seed) if named else None


def predicted_settings(found: SettingsFindings | None) -> list[Beside]:
    """What is said beside a predicted loss: the best settings of that run."""
    if found is None:
        return []

    def beside(point: Mapping[str, float], loss: Interval) -> dict[str, Any]:
        if not {"parameters", "tokens"} <= point.keys():
            return {}
        return {"settings": settings_at(found.law, point["parameters"], point["tokens"])}

    return [beside]


def costs_of_missing(found: SettingsFindings) -> dict[str, tuple[float, float]]:
    """What half and twice the best value of each setting cost at the most expensive place, as log loss. The batch alone
    is moved, the rate is not tuned again."""
    place = found.places[-1]
    best = found.law.at(place.parameters, place.tokens)
    logs = found.points.logs[[found.points.best[place.number]]]
    costs = {}
    for number, name in enumerate(found.law.names):
        moved = np.array([best, best])
        moved[:, number] += np.log([0.5, 2])
        low, high = surface(found.fit.theta, found.terms, np.repeat(logs, 2, axis=0), moved)[0]
        costs[name] = (float(low), float(high))
    return costs


def settings_json(found: SettingsFindings) -> dict[str, Any]:
    """As plain data; what is unknown is null."""
    law: dict[str, Any] = {}
    for name, power in found.law.powers().items():
        law[name] = {part: figure.to_json() for part, figure in zip("kab", power, strict=True)}
        law[name]["scatter_of_places"] = float(found.law.scatter[found.law.names.index(name)])
    if "batch" in law:
        law["batch"]["unit"] = found.law.batch_unit or None
    missing = costs_of_missing(found)
    return {
        "law": "k x N^a x D^b",
        **law,
        "parameters_are": found.law.counts,
        "runs": len(found.points.loss),
        "runs_near_the_best": len(found.fit.rows),
        "noise": found.fit.noise,
        "held_out": {"others": _misses_json(found, found.held_out), "cheaper": _misses_json(found, found.from_cheaper)},
        "cost_of_half_and_twice": {name: list(pair) for name, pair in missing.items()},
        "places": [_place_json(found, place) for place in found.places],
        "critical_batch": (
            {"why_none": found.critical} if isinstance(found.critical, str) else found.critical.to_json()
        ),
        "gradient_noise_batch": found.noise and found.noise.to_json(),
        "doubts": [doubt._asdict() for doubt in found.doubts],
    }


def _named(found: SettingsFindings, logs: np.ndarray) -> dict[str, float]:
    return {name: float(np.exp(value)) for name, value in zip(found.law.names, logs, strict=True)}


def _misses_json(found: SettingsFindings, misses: list[Miss]) -> dict[str, Any]:
    rows = [
        {
            "parameters": miss.parameters,
            "tokens": miss.tokens,
            "predicted": _named(found, miss.predicted),
            "best": _named(found, miss.best),
            "grid_steps": dict(zip(found.law.names, miss.steps, strict=True)),
            "cost": miss.cost,
        }
        for miss in misses
    ]
    return {"places": rows, "within_one_step": sum(miss.within_one for miss in misses)}


def _place_json(found: SettingsFindings, place: Place) -> dict[str, Any]:
    return {
        "parameters": place.parameters,
        "tokens": place.tokens,
        "runs": place.runs,
        "runs_near_the_best": place.near,
        "loss": place.loss,
        "best": _named(found, place.best),
        "optimum": _named(found, place.own),
        "optimum_outside_of_what_was_tried": place.outside,
    }
