"""The loss of a run that was not made: `7b@4t`, with an interval."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from trainer.scaling.fit.ensemble import Ensemble
from trainer.scaling.fit.resampling import Interval
from trainer.scaling.fit.table import LARGEST
from trainer.scaling.forms import FORMS
from trainer.utils.errors import UserError, nearest

BESIDE = ("active", "experts", "unique_tokens", "vocabulary", "characters")  # variables that are given by name
GRAMMAR = "7b@4t, or with more 7b@4t:unique_tokens=1t,experts=8"
_FACTORS = {"": 1.0, "k": 1e3, "m": 1e6, "b": 1e9, "t": 1e12}
_NUMBER = re.compile(r"((?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?)\s*([kmbt]?)", re.IGNORECASE)

# Adds keys to a prediction, such as settings or scores of tasks; given what was asked for, by column of a table.
Beside = Callable[[Mapping[str, float], Interval], dict[str, Any]]


@dataclass(frozen=True)
class Prediction:
    """The loss at a place, how far beyond the runs it lies, and what else was asked to be said about it."""

    variables: Mapping[str, float]  # as given: parameters, tokens ...
    loss: Interval  # of a run there: noise included
    extrapolation: float  # factor beyond the runs on `axis`, the farthest; 1 among them
    axis: str
    beside: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        given = {"parameters": self.variables.get("parameters"), "tokens": self.variables.get("tokens")}
        facts = {
            "loss": self.loss.to_json(),
            "extrapolation": self.extrapolation,
            "extrapolation_axis": self.axis or None,
        }
        return {**given, **self.variables, **facts, **self.beside}


def read_points(text: str) -> list[dict[str, float]]:
    """The places of `predict=`, in the order given. Raises UserError."""
    points: list[dict[str, float]] = []
    for word in re.split(r",", text):
        if not word.strip():
            continue
        if "=" in word and ":" not in word and points:
            points[-1] |= _named([word], word)
            continue
        place, _, names = word.partition(":")
        size, _, tokens = place.partition("@")
        point = {"parameters": _number(size, word)}
        if "@" in place:
            point["tokens"] = _number(tokens, word)
        points.append(point | _named([names] if names else [], word))
    if not points:
        raise UserError(f"predict: nothing given; a place wanted, parameters@tokens: {GRAMMAR}")
    return points


def _named(words: Sequence[str], where: str) -> dict[str, float]:
    found = {}
    for word in words:
        name, equals, number = (part.strip() for part in word.partition("="))
        if not equals or name not in BESIDE:
            raise UserError(
                f"predict: {where.strip()!r}: {name!r} is nothing that a law reads{nearest(name, BESIDE)}; "
                f"there is {', '.join(f'{one}=' for one in BESIDE)}"
            )
        found[name] = _number(number, where)
    return found


def _number(text: str, where: str) -> float:
    match = _NUMBER.fullmatch(text.strip())
    value = float(match[1]) * _FACTORS[match[2].lower()] if match else 0.0
    if not 1 / LARGEST < value < LARGEST:
        raise UserError(
            f"predict: {where.strip()!r}: {text.strip() or 'nothing'!r} given, a number above 0 wanted, such as 7b, "
            f"1.3e9 or 13000000000; a place is {GRAMMAR}"
        )
    return value


def short(value: float) -> str:
    """7b, 1.5t, 512: as `predict=` takes it."""
    for factor, letter in ((1e12, "t"), (1e9, "b"), (1e6, "m")):
        if value >= factor:
            return f"{value / factor:.4g}{letter}"
    return f"{value:.4g}"


def predict(
    ensemble: Ensemble,
    points: Sequence[Mapping[str, float]],
    beside: Sequence[Beside] = (),
    tried: Sequence[str] = (),
) -> list[Prediction]:
    """One prediction a place, in the order given. Raises UserError as `check_points` does."""
    check_points(points, [member.form for member in ensemble.members], tried)
    return [_predict(ensemble, point, beside) for point in points]


def check_points(points: Sequence[Mapping[str, float]], forms: Sequence[str], tried: Sequence[str] = ()) -> None:
    """Raises UserError where a place does not say what these forms read, or says what neither they read nor any that
    was tried for the table: which form would be chosen nobody knew before."""
    read = dict.fromkeys(name for form in forms for name in FORMS[form].variables)
    wanted = [name for name in read if name != "flop"]
    wanted = list(dict.fromkeys([*wanted, "parameters", "tokens"])) if "flop" in read else wanted
    for point in points:
        said = "@".join(short(point[name]) for name in ("parameters", "tokens") if name in point)
        if lacking := [name for name in wanted if name not in point]:
            named = [name for name in lacking if name != "tokens"]
            how = said + "@<tokens>" * ("tokens" in lacking) + ":" * bool(named)
            how += ",".join(f"{name}=<number>" for name in named)
            raise UserError(
                f"predict: {said}: the law ({', '.join(forms)}) reads {', '.join(wanted)}; "
                f"{' and '.join(lacking)} {'is' if len(lacking) == 1 else 'are'} not given: write {how}"
            )
        others = [name for form in tried for name in FORMS[form].variables]
        if unread := [name for name in point if name not in (*wanted, *others, "parameters", "tokens")]:
            raise UserError(f"predict: {said}: {unread[0]} is given, but the law reads {', '.join(wanted)} alone")


def _predict(ensemble: Ensemble, point: Mapping[str, float], beside: Sequence[Beside]) -> Prediction:
    said = "@".join(short(point[name]) for name in ("parameters", "tokens") if name in point)
    variables = {name: np.array([value]) for name, value in point.items()}
    figure = ensemble.interval(variables)[0]
    if not math.isfinite(figure.value):
        raise UserError(f"predict: {said}: so far from the runs the law has no finite loss")
    axis, reach = ensemble.farthest(variables)
    more: dict[str, Any] = {}
    for add in beside:
        more |= add(point, figure)
    return Prediction(dict(point), figure, reach, axis, more)
