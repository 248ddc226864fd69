"""Which rows of a table a law is fitted to: each run once, whole, and at each place the best setting that was tried."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import fields, replace
from typing import NamedTuple

import numpy as np

from trainer.scaling.fit.table import PLACE, Curve, Run, named

SETTINGS = ("lr", "batch", "optimizer", "setting")  # fields of Run of which the best is kept at a place
SAME_TOKENS = 0.01  # logarithms nearer than this are one number of tokens: steps are whole, batches differ
DIVERGED = 1.5  # x the loss of a run that is no larger in anything: no law of scale tells that
WORSE = "another setting of the same place has a lower loss"
LeftOut = tuple[str, str]


class Chosen(NamedTuple):
    """The runs to fit, those of all settings, what was left out and why, and what must be said of the choice."""

    runs: list[Run]
    every: list[Run]
    left_out: list[LeftOut]
    notes: list[str]


def choose(runs: Sequence[Run], settings: Sequence[str] | None = None) -> Chosen:
    """Exact repetitions and diverged runs are left out, then all but the best setting of each place.

    settings: what tells the settings of two runs apart, where that is more than SETTINGS say.
    """
    keys = list(settings) if settings is not None else [_setting(run) for run in runs]
    runs = _all_unique_tokens(runs)
    left_out = _repetitions(runs, keys) | _diverged(runs, keys)
    every = [k for k, _ in enumerate(runs) if k not in left_out]
    best, notes = _best([runs[k] for k in every], [keys[k] for k in every])
    kept = {run.name for run in best}
    worse = [(runs[k].name, WORSE) for k in every if runs[k].name not in kept]
    out = [(runs[k].name, left_out[k]) for k in sorted(left_out)]
    return Chosen(best, [runs[k] for k in every], out + worse, notes)


def _setting(run: Run) -> str:
    return repr([getattr(run, name) for name in SETTINGS])


def _all_unique_tokens(runs: Sequence[Run]) -> list[Run]:
    """Where some runs repeat their text, the others' tokens are all unique."""
    if all(run.unique_tokens is None for run in runs):
        return list(runs)
    return [
        replace(run, unique_tokens=run.tokens) if run.unique_tokens is None and math.isfinite(run.tokens) else run
        for run in runs
    ]


def _repetitions(runs: Sequence[Run], keys: Sequence[str]) -> dict[int, str]:
    """Rows that repeat an earlier one in everything but the name: a copy would pass for a seed without noise."""
    plain = [field.name for field in fields(Run) if field.name not in ("name", "curve", "earlier")]
    seen: dict[str, int] = {}
    found = {}
    for k, (run, key) in enumerate(zip(runs, keys, strict=True)):
        first = seen.setdefault(repr([key, *(getattr(run, name) for name in plain)]), k)
        if first != k:
            found[k] = f"the same in all columns as {runs[first].name}"
    return found


def _diverged(runs: Sequence[Run], keys: Sequence[str]) -> dict[int, str]:
    """Runs whose loss is far above that of a smaller one with the same setting, or above what they had reached.

    Of repeated text a longer run may be worse, and negative losses have no ratio: nothing is said there.
    """
    found = {}
    for k, run in enumerate(runs):
        lowest = min((one.loss for one in run.earlier), default=math.nan)
        if run.loss > DIVERGED * lowest > 0:
            found[k] = f"diverged: its loss ends at {run.loss:.4g}, after {lowest:.4g}"
    loss = np.array([run.loss for run in runs])
    if any(run.unique_tokens is not None for run in runs) or not (loss[np.isfinite(loss)] > 0).all():
        return found
    size = np.nan_to_num(np.array([[run.parameters, run.tokens] for run in runs]))
    rest = [[getattr(run, name) for name in PLACE if name not in ("parameters", "tokens")] for run in runs]
    groups: dict[str, list[int]] = defaultdict(list)
    for k, (key, other) in enumerate(zip(keys, rest, strict=True)):
        groups[repr([key, other, runs[k].origin])].append(k)
    for members in groups.values():
        here = np.array(members)
        no_larger = (size[here][None, :] <= size[here][:, None]).all(axis=2) & np.isfinite(loss[here])[None, :]
        others = np.where(no_larger, loss[here][None, :], np.inf)
        least = others.argmin(axis=1)
        for k, first in zip(here, here[least], strict=True):
            if k not in found and loss[k] > DIVERGED * loss[first]:
                said = f"{runs[first].name}, which is no larger, reached {loss[first]:.4g}"
                found[int(k)] = f"diverged: its loss is {loss[k]:.4g}, and {said}"
    return found


def _best(runs: Sequence[Run], keys: Sequence[str]) -> tuple[list[Run], list[str]]:
    """At each place the setting with the lowest mean loss over its seeds; and what was chosen from how many."""
    kept: dict[int, Run] = {}
    counts: list[int] = []
    repeated = 0  # places of several rows that nothing tells apart
    differ: set[str] = set()
    for members in _places(runs):
        by_setting: dict[str, list[int]] = defaultdict(list)
        for k in members:
            by_setting[keys[k]].append(k)
        best = min(by_setting.values(), key=lambda ks: _mean(runs, ks))
        tried = [runs[k] for k in members]
        differ |= {name for name in SETTINGS if len({getattr(run, name) for run in tried}) > 1}
        edge = tuple(name for name in ("lr", "batch") if _at_edge(tried, runs[best[0]], name))
        kept |= {k: replace(runs[k], tried=len(by_setting), at_edge=edge) for k in best}
        counts.append(len(by_setting))
        tokens = [runs[k].tokens for k in best if runs[k].seed is None]
        repeated += len({repr(number) for number in tokens}) < len(tokens)
    return [kept[k] for k in sorted(kept)], _said(counts, differ, repeated)


def _mean(runs: Sequence[Run], members: Sequence[int]) -> float:
    """The mean loss; where no loss is stated, of bits per byte in its tasks."""
    losses = [runs[k].loss for k in members]
    if not all(map(math.isfinite, losses)):
        losses = [task.bits_per_byte for k in members for task in runs[k].tasks if task.bits_per_byte is not None]
    return sum(losses) / len(losses) if losses else math.inf


def _at_edge(tried: Sequence[Run], best: Run, name: str) -> bool:
    values = {value for run in tried if (value := getattr(run, name)) is not None}
    return len(values) > 2 and getattr(best, name) in (min(values), max(values))


def _said(counts: Sequence[int], differ: set[str], repeated: int) -> list[str]:
    notes = []
    chosen = [count for count in counts if count > 1]
    if chosen:
        what = ", ".join(name for name in SETTINGS if name in differ) or "settings"
        span = f"{min(chosen)}" if min(chosen) == max(chosen) else f"{min(chosen)} to {max(chosen)}"
        alone = len(counts) - len(chosen)
        single = f"; {_count(alone)} one setting alone" if alone else ""
        places = "1 place" if len(chosen) == 1 else f"{len(chosen)} places"
        notes.append(f"{what}: best of {span} settings a place ({places}){single}")
    if repeated:
        several = f"{_count(repeated)} several runs of one setting"
        notes.append(f"seeds: {several}, and no column says their seed: they count as seeds")
    return notes


def _count(places: int) -> str:
    return "1 place has" if places == 1 else f"{places} places have"


def _places(runs: Sequence[Run]) -> list[list[int]]:
    """Indices of the runs of each place, in the order of their first; tokens within SAME_TOKENS are one number."""
    others = [name for name in PLACE if name != "tokens"]
    groups: dict[tuple[object, ...], list[int]] = defaultdict(list)
    for k, run in enumerate(runs):
        groups[
            tuple(_plain(getattr(run, name), run) if name == "unique_tokens" else getattr(run, name) for name in others)
        ].append(k)
    found = []
    for members in groups.values():
        members.sort(key=lambda k: -math.inf if math.isnan(runs[k].tokens) else runs[k].tokens)
        here: list[int] = []
        for k in members:
            if here and math.isfinite(runs[k].tokens) and math.log(runs[k].tokens / runs[here[0]].tokens) > SAME_TOKENS:
                found.append(here)
                here = []
            here.append(k)
        found.append(here)
    return sorted((sorted(here) for here in found), key=lambda here: here[0])


def _plain(unique: float | None, run: Run) -> float | None:
    """Unique tokens that are all of a run's tokens say no more than these."""
    return None if unique == run.tokens else unique


def along(runs: Sequence[Run], lines: Sequence[int]) -> tuple[list[Run], list[str]]:
    """Rows along the way of a run, which one name tells, as one run: the last is its end, the others `earlier`.

    That holds where every name stands for one size and setting, and no two of its rows for the same tokens. lines:
    where the rows stand in the file, which tells rows of one name apart.
    """
    by_name: dict[str, list[Run]] = defaultdict(list)
    for run in runs:
        by_name[run.name].append(run)
    several = [rows for rows in by_name.values() if len(rows) > 1]
    if not several or not all(_one_run(rows) for rows in several):
        return _own_names(runs, lines), []
    found = []
    for rows in by_name.values():
        rows.sort(key=lambda run: run.tokens)
        end = rows[-1]
        points = [run for run in rows if math.isfinite(run.loss)]
        curve = None
        if len(points) > 1 and points[-1] is end:
            curve = Curve(*(np.array([getattr(run, name) for run in points]) for name in ("flop", "tokens", "loss")))
        found.append(replace(end, curve=curve, earlier=tuple(rows[:-1])))
    rows_before = len(runs) - len(found)
    said = f"rows: {rows_before} lie on the way of {len(several)} runs ({named(run.name for run in found)}), whose "
    return found, [said + "last row is their end; where each is a run of its own, give it a name of its own"]


def _one_run(rows: Sequence[Run]) -> bool:
    """Whether rows of one name differ in nothing but how far the run had come."""
    kinds = {repr([run.parameters, _setting(run), run.seed, run.origin, run.experts, run.vocabulary]) for run in rows}
    tokens = [run.tokens for run in rows]
    return len(kinds) == 1 and all(map(math.isfinite, tokens)) and len(set(tokens)) == len(tokens)


def _own_names(runs: Sequence[Run], lines: Sequence[int]) -> list[Run]:
    """Names that several rows share, with their line: results are told by name."""
    counts = Counter(run.name for run in runs)
    return [
        replace(run, name=f"{run.name} (row {line})") if counts[run.name] > 1 else run
        for run, line in zip(runs, lines, strict=True)
    ]
