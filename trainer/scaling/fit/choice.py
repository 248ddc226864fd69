"""Which form of a law to believe: by its error on runs that it has not seen, never by how well it fits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from trainer.scaling.fit.rolling import Cut, Rolled, cuts_of, roll, thinned
from trainer.scaling.fit.table import Table
from trainer.scaling.forms import FORMS
from trainer.utils.errors import UserError, nearest

TIED = 1.25  # errors farther apart than this factor, and TIED_MORE for each further constant, are never called equal
TIED_MORE = 0.1
ERRORS_MORE = 0.5  # standard errors beyond the first that each further constant has to win by
NEAR_BEST = 1.5  # forms whose error is within this factor of the lowest are in the ensemble
SHARPNESS = 4.0  # weight ~ error^-SHARPNESS
MOST_MEMBERS = 3


@dataclass(frozen=True)
class Candidate:
    """One form and how it did on held-out larger runs; nan where nothing could be held out."""

    form: str
    constants: int
    error: float  # mean of |log(predicted / measured)|, over the held-out runs of a cut and over the cuts
    bias: float  # mean of log(predicted / measured): positive where too high a loss was predicted
    cuts: int  # at which it was scored
    weight: float = 0.0  # in the ensemble
    refused: str = ""  # why it is not chosen, or could not be fitted

    def to_json(self) -> dict[str, Any]:
        facts = {**vars(self), "refused": self.refused or None}
        return {name: None if isinstance(x, float) and not np.isfinite(x) else x for name, x in facts.items()}


@dataclass(frozen=True)
class Choice:
    """The chosen form, why, and all that were tried."""

    chosen: str
    why: str
    candidates: tuple[Candidate, ...]
    table: Table  # whose runs were held out
    cuts: tuple[Cut, ...]
    rolled: Mapping[str, Rolled]

    def weights(self) -> dict[str, float]:
        """form -> share in the ensemble, the chosen one first."""
        shares = {one.form: one.weight for one in self.candidates if one.weight > 0}
        return {self.chosen: shares.pop(self.chosen), **shares}


def read_forms(text: str) -> tuple[str, ...]:
    """`auto`, or names with commas between them. Raises UserError."""
    names = tuple(dict.fromkeys(word.strip() for word in text.split(",") if word.strip()))
    if not names or names == ("auto",):
        return ()
    for name in names:
        if name not in FORMS:
            allowed = ("auto", *FORMS)
            raise UserError(f"form: {name!r} given{nearest(name, allowed)}; there is {', '.join(allowed)}")
    return names


def only_asked(
    asked: Sequence[str], forms: Sequence[str], refused: Mapping[str, str]
) -> tuple[list[str], dict[str, str]]:
    """The forms that can be fitted and were asked for (all where none was), and why others are not. Raises UserError
    where one that was asked for cannot be fitted."""
    if not asked:
        return list(forms), dict(refused)
    if wrong := [f"form: {form} cannot be fitted to this table: {refused[form]}" for form in asked if form in refused]:
        raise UserError("\n".join(wrong))
    others = {form: "it was not asked for" for form in forms if form not in asked}
    return [form for form in forms if form in asked], {**refused, **others}


def choose(table: Table, forms: Sequence[str], refused: Mapping[str, str]) -> Choice:
    """Score every form at the same cuts, and choose.

    Of forms whose errors cannot be told apart the one with the fewest constants is chosen. forms: those that can
    be fitted; refused: why others cannot.
    """
    small = thinned(table)
    cuts = cuts_of(small)
    rolled = {form: roll(small, form, cuts) for form in forms}
    usable = np.array([[one.fitted[k] for one in rolled.values()] for k in range(len(cuts))], bool)
    usable = usable.reshape(len(cuts), len(forms))
    most = int(usable.any(axis=1).sum())
    judged = [form for k, form in enumerate(forms) if 2 * usable[:, k].sum() >= max(most, 1)]
    shared = np.zeros(len(cuts), bool)
    if judged:
        shared |= usable[:, [forms.index(form) for form in judged]].all(axis=1)
    if not judged or not shared.any():
        return _simplest(small, forms, refused, cuts, rolled)
    scores = {form: rolled[form].score(cuts, shared) for form in judged}
    chosen, why = _choose(judged, scores, rolled, cuts, shared)
    weights = _weights(scores, chosen)
    candidates = []
    for form in forms:
        error, bias = scores.get(form, np.nan), rolled[form].bias(cuts, shared) if form in scores else np.nan
        count, share = len(FORMS[form].constants), weights.get(form, 0.0)
        said = "" if form == chosen else _why_not(form, chosen, scores, count)
        candidates.append(Candidate(form, count, error, bias, int(shared.sum()) * (form in scores), share, said))
    candidates.sort(key=lambda one: (not np.isfinite(one.error), one.error))
    candidates += _unfit(refused)
    return Choice(chosen, why, tuple(candidates), small, _only(cuts, shared), _at(rolled, judged, shared))


def _choose(
    judged: Sequence[str],
    scores: Mapping[str, float],
    rolled: Mapping[str, Rolled],
    cuts: Sequence[Cut],
    shared: np.ndarray,
) -> tuple[str, str]:
    best = min(judged, key=lambda form: scores[form])
    tied = [form for form in judged if _tied(form, best, scores, rolled, cuts, shared)]
    chosen = min([*tied, best], key=lambda form: (len(FORMS[form].constants), scores[form]))
    count = int(shared.sum())
    held = f"at {count} cut{'s' * (count != 1)} along the runs"
    if chosen == best:
        return chosen, f"lowest error on held-out larger runs {held}"
    return chosen, f"held-out error within noise of the lowest ({best}), with fewer constants, {held}"


def _tied(
    form: str,
    best: str,
    scores: Mapping[str, float],
    rolled: Mapping[str, Rolled],
    cuts: Sequence[Cut],
    shared: np.ndarray,
) -> bool:
    """Whether a form of fewer constants does as well as the best: its mean excess of the error, over the held-out runs
    and over the cuts, is within a few standard errors of it; the more, the more constants the best one has."""
    further = len(FORMS[best].constants) - len(FORMS[form].constants)
    if further < 0 or scores[form] > (TIED + TIED_MORE * further) * scores[best]:
        return False
    by_run: dict[int, list[float]] = {}
    by_cut = []
    for k, cut in enumerate(cuts):
        if shared[k]:
            excess = np.abs(rolled[form].error[k]) - np.abs(rolled[best].error[k])
            by_cut.append(excess[cut.out].mean())
            for run in np.flatnonzero(cut.out):
                by_run.setdefault(int(run), []).append(excess[run])
    groups = (by_cut, [np.mean(values) for values in by_run.values()])
    errors = [np.std(group, ddof=1) / np.sqrt(len(group)) for group in groups if len(group) > 1]
    return not errors or bool(np.mean(by_cut) <= (1 + ERRORS_MORE * further) * max(errors))


def _weights(scores: Mapping[str, float], chosen: str) -> dict[str, float]:
    lowest = max(min(scores.values()), 1e-9)
    near = sorted(scores, key=lambda form: (form != chosen, scores[form]))
    near = [form for form in near if form == chosen or scores[form] <= NEAR_BEST * lowest][:MOST_MEMBERS]
    raw = {form: (lowest / max(scores[form], 1e-9)) ** SHARPNESS for form in near}
    return {form: share / sum(raw.values()) for form, share in raw.items()}


def _why_not(form: str, chosen: str, scores: Mapping[str, float], count: int) -> str:
    if form not in scores:
        return f"its {count} constants leave too few cuts at which larger runs could be held out"
    if scores[form] < scores[chosen]:
        return f"its lower error is within noise, and it has {count} constants"
    return f"error {scores[form] / max(scores[chosen], 1e-12):.2g} x that of {chosen}"


def _unfit(refused: Mapping[str, str]) -> list[Candidate]:
    return [Candidate(form, len(FORMS[form].constants), np.nan, np.nan, 0, 0.0, why) for form, why in refused.items()]


def _simplest(
    table: Table, forms: Sequence[str], refused: Mapping[str, str], cuts: Sequence[Cut], rolled: Mapping[str, Rolled]
) -> Choice:
    """Nothing can be held out: the fewest constants, and Chinchilla's form among those of a like number."""
    chosen = "chinchilla" if "chinchilla" in forms else min(forms, key=lambda form: len(FORMS[form].constants))
    why = "no runs can be held out, as the rest is then too poor: the usual form, untested"
    candidates = [
        Candidate(
            form, len(FORMS[form].constants), np.nan, np.nan, 0, float(form == chosen), "" if form == chosen else why
        )
        for form in forms
    ]
    return Choice(chosen, why, (*candidates, *_unfit(refused)), table, (), {})


def _only(cuts: Sequence[Cut], which: np.ndarray) -> tuple[Cut, ...]:
    return tuple(cut for cut, wanted in zip(cuts, which, strict=True) if wanted)


def _at(rolled: Mapping[str, Rolled], forms: Sequence[str], which: np.ndarray) -> dict[str, Rolled]:
    return {
        form: Rolled(one.model, one.theta[which], one.fitted[which], one.error[which])
        for form in forms
        for one in (rolled[form],)
    }


def choice_json(choice: Choice, laws: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """name of a form -> what it was fitted to be (`laws`), and how it did on held-out runs; the best first."""
    found = {}
    for one in choice.candidates:
        facts = one.to_json()
        held = {name: facts[name] for name in ("error", "bias", "cuts")} if one.cuts else None
        beside = {"constants": one.constants, "held_out": held, "weight": one.weight}
        chosen = {"not_chosen": one.refused or None} if "refused" not in laws[one.form] else {}
        found[one.form] = {**laws[one.form], **beside, **chosen}
    return found
