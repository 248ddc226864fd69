"""`isoflop compare`: what differs between runs, what it did to the loss, and whether that is more than chance."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from trainer.report import RunData
from trainer.report.curves import priced_steps
from trainer.report.plots import is_number
from trainer.scaling.compare.groups import Difference, Group, all_differences
from trainer.scaling.origin import FIRST_WEIGHTS, TASKS, corpus, origin
from trainer.scaling.statistics import Welch, holm, mean_interval, welch
from trainer.utils.outcomes import Status

LEVEL = 0.05  # of a difference that is called larger than seed noise
AXES = {"tokens": "tokens", "flop": "model FLOPs", "kwh": "kWh", "gco2e": "g CO2e", "seconds": "seconds of training"}
ONE_SCALE = ("data.", "tokenizer.", "objective.")  # settings that may change what a loss means


@dataclass(frozen=True)
class Verdict:
    """A group against the first one."""

    label: str
    test: Welch | None
    p: float | None  # adjusted for the number of comparisons
    text: str
    comparable: bool = True  # whether the scores are one scale


@dataclass(frozen=True)
class Comparison:
    """Everything that `compare` found."""

    groups: list[Group]
    differences: list[Difference]
    metric: str  # held-out loss, or bits per byte
    scores: list[list[float]]  # of the finished runs of each group
    spent: list[dict[str, float | None]]  # mean amounts of each group along every axis
    verdicts: list[Verdict]
    notes: list[str]
    loss_scales: list[int]  # of each group: training and held-out losses of one number are one scale


def compare(groups: Sequence[Group], axis: str = "tokens") -> Comparison:
    """Compare groups with the first of them, as far as their scores are one scale. axis: that curves are drawn over."""
    different = all_differences(groups)
    finished = [group.finished for group in groups]
    notes = [
        f"{run.run.parent.name}/{run.run.name} is left out of the scores: {run.status}"
        for group in groups
        for run in group.runs
        if run.status != Status.FINISHED
    ] + [
        f"{run.run.parent.name}/{run.run.name} is left out of the scores: seed {run.config.seed} is among them already"
        for group in groups
        for run in group.repeated
    ]
    tokenizers = {dict(origin(group.runs[0]))["tokenizer"] for group in groups}
    everywhere = [_score(run, "bits_per_byte") for runs in finished for run in runs]
    metric = "bits_per_byte" if everywhere and None not in everywhere else "loss"
    scores = [[score for run in runs if (score := _score(run, metric)) is not None] for runs in finished]
    first, *others = [_scale(group, metric, tokenizers) for group in groups]
    apart = [[what for what in one if one[what] != first[what]] for one in others]
    if any(apart):
        keys = [line.key for line in different if line.kind == "science" and line.key.startswith(ONE_SCALE)]
        notes.append(f"losses are not one scale where {', '.join(keys[:3])} differ: compare them on a common task")
    if arithmetic := [line for line in different if line.kind == "numerics"]:
        values = " and ".join(dict.fromkeys(arithmetic[0].values))
        notes.append(f"numerics differ ({values}): part of a difference may be that of the arithmetic")
    spent = [_spent(runs or list(group.runs)) for runs, group in zip(finished, groups, strict=True)]
    notes += [
        f"{run.run.parent.name}/{run.run.name} is not drawn: it states no {axis}"
        for run in runs_without_axis(groups, axis)
    ]
    verdicts = _pairwise_results(groups, scores, apart)
    return Comparison(list(groups), different, metric, scores, spent, verdicts, notes, _loss_scales(groups))


def _scale(group: Group, metric: str, tokenizers: set[str]) -> dict[str, str]:
    """What scores must share to be one scale: data, tokenizer and objective, as for `fit`; bits per byte, which are
    comparable over tokenizers, the text alone.

    tokenizers: of all groups. A fingerprint is of the tokens, so it tells texts apart under one tokenizer only.
    """
    found = {what: value for what, value in origin(group.runs[0]) if what not in ("numerics", FIRST_WEIGHTS, TASKS)}
    if metric == "loss":
        return found
    return {"data": found["data"] if len(tokenizers) == 1 else corpus(group.runs[0])}


def _loss_scales(groups: Sequence[Group]) -> list[int]:
    scales = [
        json.dumps([one for one in origin(group.runs[0]) if one[0] not in ("numerics", FIRST_WEIGHTS)])
        for group in groups
    ]
    return [list(dict.fromkeys(scales)).index(scale) for scale in scales]


def _score(run: RunData, metric: str) -> float | None:
    """At the last step."""
    if not run.steps.evaluations or not run.steps.kept:
        return None
    last = run.steps.evaluations[-1]
    value = last.get(metric) if last["step"] == run.steps.kept[-1]["step"] else None
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def _spent(runs: Sequence[RunData]) -> dict[str, float | None]:
    """Mean amounts; energy and carbon are those of the whole run, of which steps know only the training."""
    ends = [axes(run)[-1] | {"kwh": run.kwh, "gco2e": run.gco2e} for run in runs if run.steps.kept]
    amounts: dict[str, float | None] = {}
    for axis in AXES:
        values = [end[axis] for end in ends if is_number(end.get(axis))]
        amounts[axis] = sum(values) / len(values) if values and len(values) == len(ends) else None
    return amounts


def axes(run: RunData) -> list[dict[str, Any]]:
    """The records of a run's steps with every axis: tokens, flop, kwh, gco2e, seconds."""
    return [
        record
        | {"seconds": 60 * record["minutes"], "kwh": record["wh"] / 1000 if is_number(record.get("wh")) else None}
        for record in priced_steps(run)
    ]


def stating(axis: str, records: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those records, of `axes`, that state this axis."""
    return [record for record in records if is_number(record.get(axis))]


def runs_without_axis(groups: Sequence[Group], axis: str) -> list[RunData]:
    """The runs without a point in the picture, since no step of theirs states the axis."""
    return [run for group in groups for run in group.runs if not stating(axis, axes(run))]


def _pairwise_results(
    groups: Sequence[Group], scores: Sequence[Sequence[float]], apart: Sequence[Sequence[str]]
) -> list[Verdict]:
    """apart: of each group but the first, in what its scale differs from the first one's."""
    tests = [None if why else welch(scores[0], other) for other, why in zip(scores[1:], apart, strict=True)]
    adjusted = iter(holm([test.p for test in tests if test is not None]))
    p_values = [next(adjusted) if test is not None else None for test in tests]
    return [
        Verdict(group.label, test, p, _words_apart(why) if why else _words(test, p, [scores[0], other]), not why)
        for group, other, test, p, why in zip(groups[1:], scores[1:], tests, p_values, apart, strict=True)
    ]


def _words_apart(why: Sequence[str]) -> str:
    return f"no verdict: losses of different {' and '.join(why)} are not one scale"


def _words(test: Welch | None, p: float | None, pair: Sequence[Sequence[float]]) -> str:
    if test is None or p is None:
        if not all(pair):
            return "no score: a group has no finished run with a held-out loss"
        difference = mean_interval(pair[1])[0] - mean_interval(pair[0])[0]
        return (
            f"{difference:+.4f}; whether that is more than seed noise is not known: at least 2 seeds of each are needed"
        )
    verdict = "larger than seed noise" if p < LEVEL else "within seed noise"
    return (
        f"{test.difference:+.4f} +- {test.half_width:.4f}; Welch's t = {test.t:.2f} with {test.freedom:.1f} degrees of "
        f"freedom, p = {p:.2g}: {verdict}"
    )


def comparison_json(found: Comparison) -> dict[str, Any]:
    """The comparison as plain data."""
    groups = []
    for group, scores, spent in zip(found.groups, found.scores, found.spent, strict=True):
        mean, half = mean_interval(scores) if scores else (None, None)
        names = [str(run.run) for run in group.runs]
        groups.append(
            {"label": group.label, "runs": names, "scores": scores, "mean": mean, "half_width": half, "spent": spent}
        )
    verdicts = [
        {"against": found.groups[0].label, "label": one.label, "p": one.p, "text": one.text}
        | ({"difference": one.test.difference, "half_width": one.test.half_width} if one.test else {})
        for one in found.verdicts
    ]
    return {
        "metric": found.metric,
        "groups": groups,
        "differences": [vars(line) for line in found.differences],
        "verdicts": verdicts,
        "notes": found.notes,
    }
