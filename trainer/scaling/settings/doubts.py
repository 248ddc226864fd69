"""What must be doubted of a law of settings, each with its number."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from trainer.scaling.settings.held_out import Miss
from trainer.scaling.settings.law import DEVIATIONS, SettingsLaw
from trainer.scaling.settings.places import Place

WIDE = 0.4  # width of an exponent's interval that leaves it undetermined
MANY = 0.25  # share of the places
SURE = 3.5  # |t| of the surest of three bends
FEWEST_FOR_BENDS = 8  # places
WANTED = 0.8  # share of held-out places within one step of the grid
LABELS = {"lr": "learning rate", "batch": "batch"}


class Doubt(NamedTuple):
    kind: str
    text: str
    numbers: dict[str, Any]


def doubts(
    law: SettingsLaw, places: list[Place], held_out: list[Miss], together: bool, optimizers: list[str]
) -> list[Doubt]:
    """In the order in which they matter. together: powers of N and D were not told apart."""
    found = []
    if len(optimizers) > 1:
        text = f"runs of {', '.join(optimizers)} are taken together; each optimizer has a best rate of its own"
        found.append(Doubt("optimizers", text, {"optimizers": optimizers}))
    if together:
        text = (
            "sizes and tokens move together, or places are few: one power for both, which holds along this ladder alone"
        )
        found.append(Doubt("one_axis", text, {"places": len(places)}))
    within = sum(miss.within_one for miss in held_out)
    if held_out and within < WANTED * len(held_out):
        text = (
            f"of the {len(held_out)} most expensive places, fitted without, only {within} were predicted within one "
            "step of the grid"
        )
        found.append(Doubt("held_out", text, {"places": len(held_out), "within_one_step": within}))
    if not held_out:
        text = f"not tried on places it has not seen: {len(places)} places are too few to leave any out"
        found.append(Doubt("not_held_out", text, {"places": len(places)}))
    for number, name in enumerate(law.names):
        found += _of_setting(law, places, number, name)
    outside = [place for place in places if place.outside]
    if len(outside) > MANY * len(places):
        text = (
            f"at {len(outside)} of {len(places)} places the optimum lies outside of what was tried, and the best run "
            "is taken for it"
        )
        found.append(Doubt("outside", text, {"places": len(outside)}))
    return found


def _of_setting(law: SettingsLaw, places: list[Place], number: int, name: str) -> list[Doubt]:
    found = []
    edges = sum(place.at_edge[number] for place in places)
    if edges > MANY * len(places):
        text = (
            f"{LABELS[name]}: at {edges} of {len(places)} places the best run has the smallest or largest value tried; "
            "the optimum may lie beyond"
        )
        found.append(Doubt("edge", text, {"setting": name, "places": edges}))
    for column, axis in ((1, "parameters"), (2, "tokens")):
        spread = 2 * DEVIATIONS * float(np.sqrt(law.covariance[number, column, column]))
        if spread > WIDE:
            value = float(law.coefficients[number, column])
            text = (
                f"{LABELS[name]}: its exponent of {axis} is not determined: {value:.2f} "
                f"({value - spread / 2:.2f} to {value + spread / 2:.2f})"
            )
            found.append(Doubt("not_determined", text, {"setting": name, "exponent_of": axis, "width": spread}))
    bent = bend(law, places, number)
    if bent is not None and abs(bent.t) >= SURE:
        text = (
            f"{LABELS[name]}: it bends at scale: along {bent.axis} its exponent changes by {bent.per_tenfold:+.3f} per "
            f"tenfold (t = {bent.t:.1f}); ten times beyond the most that is {100 * bent.at_ten_times:+.0f}%"
        )
        found.append(Doubt("bend", text, {"setting": name, **bent._asdict()}))
    return found


class Bend(NamedTuple):
    """How a setting leaves its power along one axis."""

    axis: str
    per_tenfold: float  # change of the exponent
    t: float
    at_ten_times: float  # relative change of the setting at ten times the most of that axis


def bend(law: SettingsLaw, places: list[Place], number: int) -> Bend | None:
    """The surest bend along FLOPs, parameters or tokens, from the places' own optima; None for too few places."""
    inside = [place for place in places if not place.outside]
    if len(inside) < FEWEST_FOR_BENDS:
        return None
    own = np.array([place.own[number] for place in inside])
    away = own - np.array([law.at(place.parameters, place.tokens)[number] for place in inside])
    n, d = (np.log([getattr(place, axis) for place in inside]) for axis in ("parameters", "tokens"))
    axes = {"FLOPs": n + d, "parameters": n, "tokens": d}
    bends = [bend for axis, values in axes.items() if (bend := _bend(axis, values - values.mean(), n, d, away))]
    return max(bends, key=lambda bend: abs(bend.t), default=None)


def _bend(axis: str, values: np.ndarray, n: np.ndarray, d: np.ndarray, away: np.ndarray) -> Bend | None:
    design = np.column_stack([np.ones(len(n)), n - n.mean(), d - d.mean(), values**2])
    if np.linalg.matrix_rank(design, tol=1e-6) < design.shape[1]:
        return None
    c = np.linalg.lstsq(design, away, rcond=None)[0]
    rest = away - design @ c
    variance = rest @ rest / (len(n) - len(c)) * np.linalg.inv(design.T @ design)[3, 3]
    # What a power through the places says, ten times beyond the most, against the bent curve.
    line = np.column_stack([np.ones(len(n)), values])
    straight = np.linalg.lstsq(line, values**2, rcond=None)[0]
    far = values.max() + np.log(10)
    beyond = c[3] * (far**2 - straight @ [1, far])
    return Bend(axis, float(2 * c[3] * np.log(10)), float(c[3] / np.sqrt(variance)), float(np.expm1(beyond)))
