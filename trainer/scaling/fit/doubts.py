"""All that speaks against the laws of a fit, each a line with its number."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Protocol

import numpy as np

from trainer.scaling.fit.advice import Advice
from trainer.scaling.fit.approaches import Optima, Parabola
from trainer.scaling.fit.doubt import Doubt, number, percent
from trainer.scaling.fit.misfit import influence, lack_of_fit, misses, one_sign, outliers, spread
from trainer.scaling.fit.parametric import Law
from trainer.scaling.fit.profile_bias import profile_bias
from trainer.scaling.fit.resampling import Interval, interval
from trainer.scaling.fit.table import Table, named

__all__ = ["Doubt", "doubts"]

WIDE_FLOOR = 0.4  # an interval of E wider than this share of the lowest loss does not tell the floor
WIDE_POWER = 3.0  # an exponent whose interval spans more than this factor is not determined
OFF_SIZE = 1.1  # x the best size by which approach 2 may be off
SURE = 4.0  # standard deviations beyond which a mean miss is no chance
JITTER = 0.05  # spread of the FLOP within one budget beyond which its profile is not of one budget


class ApproachLike(Protocol):
    """Approach 1 or 2 as fit found it."""

    @property
    def optima(self) -> Optima: ...
    @property
    def a(self) -> Interval: ...
    @property
    def parabolas(self) -> list[Parabola]: ...
    @property
    def why(self) -> str: ...


class HeldOutLike(Protocol):
    """How a form predicted the largest runs."""

    @property
    def form(self) -> str: ...
    @property
    def runs(self) -> int: ...
    @property
    def reach(self) -> float: ...
    @property
    def error(self) -> float: ...
    @property
    def bias(self) -> float: ...


class FindingsLike(Protocol):
    """What is read of a fit's findings."""

    @property
    def table(self) -> Table: ...
    @property
    def envelope(self) -> ApproachLike: ...
    @property
    def isoflop(self) -> ApproachLike: ...
    @property
    def laws(self) -> Mapping[str, Law]: ...
    @property
    def law(self) -> Law | None: ...
    @property
    def held_out(self) -> Sequence[HeldOutLike]: ...
    @property
    def advice(self) -> Sequence[Advice]: ...


def doubts(found: FindingsLike) -> list[Doubt]:
    """What speaks against these findings, of the law that advice is given by. Nothing where nothing does."""
    table, law = found.table, found.law
    about: list[Doubt] = []
    if law is not None:
        named_first, out = outliers(law, table)
        about += named_first + influence(law, table, out)
        about += lack_of_fit(law, table) + one_sign(law, table, out)
        about += _held_out(law, table, found.held_out) + _undetermined(law, table)
    about += _contradictions(found) + _profiles(found)
    return about + _extrapolations(found) + _loss_kinds(table) + _settings(table)


def _held_out(law: Law, table: Table, scores: Sequence[HeldOutLike]) -> list[Doubt]:
    """Larger runs that were all missed to one side, by more than noise and the law's own uncertainty there explain."""
    width, order, found = spread(misses(law, table), law.theta.shape[1]), np.argsort(-table.amount), []
    for score in scores:
        if score.form != law.form or score.runs < 2:
            continue
        largest = order[: score.runs]
        at = law.at(*(table.column(name)[largest] for name in law.model.variables))[1:]
        own = float(law.model.target(np.maximum(at, 1e-300)).mean(axis=1).std()) if len(at) else 0.0
        chance = float(np.hypot(own, width / np.sqrt(score.runs)))
        if abs(score.bias) > max(0.9 * score.error, SURE * chance, 1e-3):
            said = (
                f"misses of one sign: without the largest {score.runs} runs {score.form} predicts them "
                f"{percent(score.bias)} off on average ({100 * score.error:.2g}% rms); chance is {100 * chance:.2g}%"
            )
            numbers = {"runs": score.runs, "bias": score.bias, "error": score.error, "chance": chance}
            found.append(Doubt("held_out_one_sign", said, numbers))
    return found


def _undetermined(law: Law, table: Table) -> list[Doubt]:
    """Constants whose interval spans too much to mean anything, and those the form itself does not see."""
    columns, found = law.constants(), []
    lowest = float(np.min(np.abs(table.column("loss"))))
    for name, column in zip(law.model.constants, columns.T, strict=True):
        figure = interval(column[0], column[1:])
        if not np.isfinite(figure.low):
            continue
        floor = name == "E" and not law.model.normalised
        power = name.startswith(("alpha", "beta", "eta")) or name == "k"
        wide = floor and figure.high - figure.low > WIDE_FLOOR * lowest
        wide |= power and figure.high > WIDE_POWER * max(figure.low, 1e-9)
        if wide:
            value, low, high = map(number, figure)
            said = f"not determined: {name} {value} ({low} to {high}): these runs do not tell it"
            found.append(Doubt("undetermined", said, {"constant": name, **figure.to_json()}))
    return found + [Doubt("undetermined", text, {}) for text in law.doubts()]


def _contradictions(found: FindingsLike) -> list[Doubt]:
    """Approaches whose intervals of a exclude each other."""
    sides = [("approach 1", found.envelope.a), ("approach 2", found.isoflop.a)]
    for form in ("chinchilla", "kaplan"):
        if found.law is not None and form == found.law.form:
            powers = found.laws[form].exponents()[:, 0]
            sides.append(("approach 3" if form == "chinchilla" else form, interval(powers[0], powers[1:])))
    known = [(name, figure) for name, figure in sides if np.isfinite(figure.low)]
    apart = [
        (first, second)
        for first, second in combinations(known, 2)
        if first[1].low > second[1].high or second[1].low > first[1].high
    ]
    if not apart:
        return []
    told = list(dict.fromkeys(side for pair in apart for side in pair))
    said = ", ".join(f"{name} a {number(a.value)} ({number(a.low)} to {number(a.high)})" for name, a in told)
    numbers = {name: figure.to_json() for name, figure in told}
    return [Doubt("contradiction", f"approaches exclude each other: {said}", numbers)]


def _profiles(found: FindingsLike) -> list[Doubt]:
    """Approach 2: its bias on this grid, and budgets that are not one budget."""
    table, about = found.table, []
    if found.isoflop.why:
        return []
    bias = profile_bias(found.law, table) if found.law is not None else None
    if bias is not None:
        off, figure, largest = bias.read - bias.true, found.isoflop.a, float(bias.sizes[np.argmax(bias.flop)])
        half = (figure.high - figure.low) / 2 if np.isfinite(figure.low) else 0.0
        if abs(off) > max(0.01, half) or abs(np.log(largest)) > np.log(OFF_SIZE):
            said = (
                f"approach 2 is biased on this grid: on the law's own losses without noise it "
                f"reads a {number(bias.read)} where that law has {number(bias.true)} ({off:+.3f}), and "
                f"{largest:.2g} x the best size at {bias.flop.max():.3g} FLOP"
            )
            numbers = {"read": bias.read, "true": bias.true, "bias": off, "size_ratio": largest}
            about.append(Doubt("isoflop_bias", said, numbers))
    flop, sizes, budgets = table.column("flop"), table.column("parameters"), table.budgets
    ratios = {}
    for budget in range(int(budgets.max()) + 1):
        here = budgets == budget
        if len(np.unique(sizes[here])) > 2:
            ratios[float(np.median(flop[here]))] = float(flop[here].max() / flop[here].min() - 1)
    wide = {budget: ratio for budget, ratio in ratios.items() if ratio > JITTER}
    if wide:
        widest = max(wide, key=lambda one: wide[one])
        said = (
            f"budgets jitter: in {len(wide)} of {len(ratios)} profiles of approach 2 the FLOP of the runs differ by "
            f"more than {100 * JITTER:.0f}%, by {100 * wide[widest]:.2g}% at {widest:.3g} FLOP"
        )
        about.append(Doubt("jitter", said, {"budgets": len(wide), "of": len(ratios), "largest": wide[widest]}))
    return about


def _extrapolations(found: FindingsLike) -> list[Doubt]:
    """Budgets further beyond the runs than any prediction was tried."""
    law, about = found.law, []
    scores = [score.reach for score in found.held_out if law is not None and score.form == law.form]
    for advice in found.advice:
        amounts = found.table.column(advice.axis)
        factor = advice.budget / float(np.nanmax(amounts))
        if factor <= max([1.05, *scores]):
            continue
        tried = f"predictions were tried to {max(scores):.3g} x" if scores else "no prediction could be tried"
        said = f"extrapolation: {advice.budget:.4g} {advice.unit} is {factor:.3g} x the largest run, {tried}"
        about.append(Doubt("extrapolation", said, {"factor": factor, "tried": max(scores, default=None)}))
    return about


def _loss_kinds(table: Table) -> list[Doubt]:
    kinds = Counter(run.kind for run in table.runs)
    if len(kinds) < 2:
        return []
    said = ", ".join(f"{count} {kind or 'not stated'}" for kind, count in kinds.most_common())
    return [Doubt("loss_kind", f"kinds of loss are mixed: {said}; they are not one scale", {"runs": dict(kinds)})]


def _settings(table: Table) -> list[Doubt]:
    """Places at which nothing was tuned, and those whose best setting is the lowest or highest that was tried."""
    if not any(run.lr is not None or run.batch is not None for run in table.runs):
        return []
    first = np.unique(table.places, return_index=True)[1]
    places, about = [table.runs[k] for k in first], []
    single = [run for run in places if run.tried == 1]
    if single:
        said = (
            f"settings: at {'each' if len(single) == len(places) else len(single)} of {len(places)} places one setting "
            f"was tried, which need not be the best"
            + (f": {named(run.name for run in single)}" if len(single) < len(places) else "")
        )
        about.append(Doubt("one_setting", said, {"places": len(places), "one_setting": len(single)}))
    for name in ("lr", "batch"):
        edge = [run for run in places if name in run.at_edge]
        if edge:
            said = (
                f"settings: at {len(edge)} of {len(places)} places the best {name} is the lowest or the highest that "
                f"was tried: {named(run.name for run in edge)}"
            )
            about.append(Doubt("setting_at_edge", said, {"setting": name, "places": len(edge), "of": len(places)}))
    return about
