"""What a table's runs reached in each task, as arrays."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from trainer.scaling.accuracy.sigmoid import chance
from trainer.scaling.fit.table import Run, Table, TaskScore

TAIL = 0.1  # of a run's tokens, at its end, over which its scores are averaged
LATER = 0.5  # of a run's tokens from which on its way says how accuracy follows bits per byte
MEANS = 10  # of a run's later rows
FEWEST = 4  # runs of different size or tokens


@dataclass(frozen=True)
class Series:
    """One task: the end of each run, and the later half of its way.

    Scores at an end are means over the last tenth of the run. accuracy is nan where a run does not state it.
    """

    task: str
    runs: np.ndarray  # int64 [n], number of the run in the table
    parameters: np.ndarray  # float64 [n]
    tokens: np.ndarray
    bits: np.ndarray
    accuracy: np.ndarray
    way_run: np.ndarray  # int64 [m], index into the n runs
    way_bits: np.ndarray  # float64 [m]
    way_accuracy: np.ndarray
    bits_scatter: float  # standard deviation of log bits per byte from row to row at the ends; 0 where it is not seen
    accuracy_scatter: float  # of accuracy
    guess: float | None = None  # the accuracy of one, as the runs or the task's name say

    def only(self, keep: np.ndarray) -> Series:
        """The runs of the table that `keep` (bool [runs of the table]) marks."""
        here = keep[self.runs]
        way = here[self.way_run]
        ends = {name: getattr(self, name)[here] for name in ("runs", "parameters", "tokens", "bits", "accuracy")}
        return replace(
            self,
            **ends,
            way_run=(np.cumsum(here) - 1)[self.way_run[way]],
            way_bits=self.way_bits[way],
            way_accuracy=self.way_accuracy[way],
        )

    def lacks(self) -> str:
        """Why no law can be fitted; nothing where one can."""
        sizes, tokens = len(np.unique(self.parameters)), len(np.unique(self.tokens))
        places = len(np.unique(np.stack([self.parameters, self.tokens]), axis=1).T)
        if sizes < 2 or tokens < 2 or places < FEWEST:
            return (
                f"it needs bits per byte of {FEWEST} runs of 2 sizes and 2 numbers of tokens; "
                f"there {'is' if places == 1 else 'are'} {places} of {sizes} and {tokens}"
            )
        return ""


def task_names(table: Table) -> list[str]:
    """The tasks of a table, in its order."""
    return list(dict.fromkeys(score.task for run in table.runs for one in _way(run) for score in one.tasks))


def read_series(table: Table, task: str) -> Series:
    """Runs that state no bits per byte of the task are left out."""
    runs: list[int] = []
    ends, way, jumps = [], [], []
    for number, run in enumerate(table.runs):
        rows = [(one.tokens, *found) for one in _way(run) if (found := _score(one.tasks, task))[0] is not None]
        if not rows or not np.isfinite(run.tokens):
            continue
        tokens, bits, accuracy = np.array(rows, float).T
        late = tokens >= (1 - TAIL) * tokens[-1]
        jumps += list(zip(np.diff(np.log(bits[late])), np.diff(accuracy[late]), strict=True))
        later = np.flatnonzero(tokens >= LATER * tokens[-1])
        for part in np.array_split(later, min(MEANS, len(later))):
            way.append((len(runs), bits[part].mean(), _mean(accuracy[part])))
        runs.append(number)
        ends.append((run.parameters, run.tokens, bits[late].mean(), _mean(accuracy[late])))
    parameters, tokens, bits, accuracy = np.array(ends, float).reshape(-1, 4).T
    way_run, way_bits, way_accuracy = np.array(way, float).reshape(-1, 3).T
    bits_scatter, accuracy_scatter = (_scatter(column) for column in np.array(jumps, float).reshape(-1, 2).T)
    return Series(
        task,
        np.array(runs, np.int64),
        parameters,
        tokens,
        bits,
        accuracy,
        way_run.astype(np.int64),
        way_bits,
        way_accuracy,
        bits_scatter,
        accuracy_scatter,
        _stated_chance(table, task) or chance(task),
    )


def _stated_chance(table: Table, task: str) -> float | None:
    every = (score for run in table.runs for row in _way(run) for score in row.tasks if score.task == task)
    return next((score.chance for score in every if score.chance), None)


def _scatter(jumps: np.ndarray) -> float:
    """Standard deviation of rows around their course, from the differences of neighbours."""
    known = jumps[np.isfinite(jumps)]
    return float(np.sqrt(np.mean(known**2) / 2)) if len(known) else 0.0


def _way(run: Run) -> tuple[Run, ...]:
    """The rows of a run, its end last."""
    return (*run.earlier, run)


def _score(tasks: tuple[TaskScore, ...], task: str) -> tuple[float | None, float | None]:
    """Bits per byte and accuracy of a task; nan for an accuracy that is not stated."""
    for score in tasks:
        if score.task == task:
            return score.bits_per_byte, np.nan if score.accuracy is None else score.accuracy
    return None, None


def _mean(values: np.ndarray) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else np.nan
