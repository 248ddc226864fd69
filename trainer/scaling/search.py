"""Search for good settings: Optuna proposes, the sweep trains, and the held-out losses lead to the next proposals.

There is no study on disk. `search.json` remembers what was proposed, the run folders what came of it, and a proposal
follows from these alone: the same command goes on wherever it was interrupted, and comes to the same end.
"""

from __future__ import annotations

import json
import math
import warnings
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainer.compose import Override, compose, parse
from trainer.config.ladder import MOST_RUNS
from trainer.descriptions.launchers import LAUNCHERS
from trainer.scaling import outcome
from trainer.scaling.ladder import PlannedRun, each, short_name, value_names
from trainer.scaling.sweep import WorkerPool, finished, lock_folders, make_ready, print_summary
from trainer.scaling.view import View
from trainer.utils.errors import UserError, nearest
from trainer.utils.files import write_atomic
from trainer.utils.outcomes import Status

SEARCHES = ("optuna",)
SAMPLE = 10  # trials drawn at random to check the ranges and to say what a trial costs
DIGITS = 4  # of a proposed number: enough to tell settings apart, few enough to read

Params = dict[str, Any]


@dataclass(frozen=True)
class Space:
    """What is the same in all trials, and the ranges of the rest: override's key -> Optuna's distribution."""

    fixed: tuple[str, ...]
    ranges: dict[str, Any]

    def run(self, number: int, params: Params) -> PlannedRun:
        words = [*self.fixed, *(f"{key}={value}" for key, value in params.items())]
        name = short_name("-".join([f"t{number:03}", *value_names(words, [key.lstrip("+") for key in params])]))
        words.append(f"run.id={name}")
        return PlannedRun(tuple(words), compose(words))

    def sample(self, trials: int) -> list[PlannedRun]:
        """The first trials as they would be without any result. Raises UserError with what is wrong in any of them."""
        drawn = propose(self.ranges, [], min(trials, SAMPLE))
        runs = each(enumerate(drawn), lambda numbered: self.run(*numbered))
        if queues := [name for run in runs if LAUNCHERS[name := run.config.launch.name].queues]:
            raise UserError(
                f"launch={queues[0]}: a search waits for the losses of its runs; start it inside of an allocation"
            )
        return runs


def read_space(search: str, trials: int, words: list[str]) -> Space:
    """Ranges in Hydra's grammar: choice or commas, range, interval, int(interval), tag(log, interval).

    Raises UserError.
    """
    if search not in SEARCHES:
        raise UserError(f"search: {search}: no such search{nearest(search, SEARCHES)}; there is {', '.join(SEARCHES)}")
    if not 1 <= trials <= MOST_RUNS:
        raise UserError(f"trials: {trials} given, 1 to {MOST_RUNS} wanted")
    overrides = parse(words)
    for one in overrides:
        if one.of_many or one.key == "run.id":
            raise UserError(f"{one.text}: a search names its runs itself, by their settings; leave it out")
    swept = [one for one in overrides if one.is_sweep]
    if not swept:
        raise UserError("search: no range is given; write e.g. 'optim.lr=tag(log,interval(1e-4,1e-2))'")
    fixed = [one.text for one in overrides if not one.is_sweep]
    if not any(one.key == "run.experiment" for one in overrides):
        fixed.append("run.experiment=search")
    return Space(tuple(fixed), {one.full_key: _distribution(one) for one in swept})


def _distribution(override: Override) -> Any:
    distributions = _optuna().distributions
    value, log = override.value(), "log" in override.value().tags
    try:
        if override.is_interval:
            kind = "IntDistribution" if isinstance(value.start, int) else "FloatDistribution"
            return getattr(distributions, kind)(value.start, value.end, log=log)
        if log:
            raise ValueError("only an interval can be drawn on a log scale")
        if override.number > MOST_RUNS:
            raise ValueError(f"more than {MOST_RUNS:,} values; write an interval, int(interval(...)) of whole numbers")
        numbers = override.values()
        if hasattr(value, "step") and all(isinstance(number, int) for number in numbers):
            return distributions.IntDistribution(min(numbers), max(numbers), step=abs(int(value.step)))
        return distributions.CategoricalDistribution(override.texts())
    except ValueError as error:
        raise UserError(f"{override.text}: {error}") from None


def _optuna() -> Any:
    try:
        import optuna
    except ImportError:
        raise UserError("search=optuna needs the extra: pip install 'isoflop[search]'") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def propose(ranges: dict[str, Any], known: Sequence[tuple[Params, float | None]], count: int) -> list[Params]:
    """The next trials after those whose loss is known (None: the run failed, which says nothing of its settings), by
    the tree-structured Parzen estimator (Bergstra et al. 2011). The same arguments give the same proposals."""
    optuna = _optuna()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        sampler = optuna.samplers.TPESampler(seed=len(known), constant_liar=True)
    study = optuna.create_study(sampler=sampler)
    complete, failed = optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.FAIL
    for params, loss in known:
        state = failed if loss is None else complete
        study.add_trial(optuna.create_trial(state=state, params=params, distributions=ranges, value=loss))
    return [_rounded(ranges, study.ask(ranges).params) for _ in range(count)]


def _rounded(ranges: dict[str, Any], params: Params) -> Params:
    return {
        key: min(max(float(f"{value:.{DIGITS}g}"), ranges[key].low), ranges[key].high)
        if isinstance(value, float)
        else value
        for key, value in params.items()
    }


def search(space: Space, trials: int, *, jobs: int = 1, retries: int = 1, as_json: bool = False) -> int:
    """Train `trials` proposals, `jobs` at a time, print the table of all and the best. Returns the exit code."""
    from trainer.run.start import start

    sample = space.sample(trials)
    folder = sample[0].folder.path.parent
    record = folder / "search.json"
    with lock_folders([folder]):
        proposed = _proposed(record, space)[:trials]
        runs = [space.run(*numbered) for numbered in enumerate(proposed)]
        make_ready([*runs, *sample], jobs=jobs)
        waiting = [run for run in runs if not finished(run)]
        with View(trials, len(runs) - len(waiting)) as view:
            pool = WorkerPool(start, jobs, retries, view)
            while True:
                pool.work(deque((run, 0) for run in waiting))
                if pool.stop or len(runs) == trials:
                    break
                known = [(params, held_out_loss(run)) for params, run in zip(proposed, runs, strict=True)]
                fresh = propose(space.ranges, known, min(jobs, trials - len(runs)))
                waiting = [space.run(len(runs) + index, params) for index, params in enumerate(fresh)]
                proposed, runs = [*proposed, *fresh], [*runs, *waiting]
                write_atomic(record, json.dumps({"ranges": _written(space), "trials": proposed}, indent=1))
    code = print_summary(runs, pool.failures, bool(pool.stop), as_json=as_json)
    losses = [(loss, number) for number, run in enumerate(runs) if (loss := held_out_loss(run)) not in (None, math.inf)]
    if losses and not as_json:
        loss, number = min(losses)
        settings = " ".join(f"{key}={value}" for key, value in proposed[number].items())
        print(f"best of {len(losses)}: held-out loss {loss:.4f} with {settings}")
    return code


def held_out_loss(run: PlannedRun) -> float | None:
    """At the last step; infinite where the run diverged, None where it did not come to an end."""
    (row,) = outcome.rows([run])
    if row["status"] == Status.HALTED:
        return math.inf
    return row["loss"] if finished(run) else None


def _proposed(record: Path, space: Space) -> list[Params]:
    """What earlier commands proposed here. Raises UserError where they drew from other ranges."""
    if not record.is_file():
        return []
    earlier = json.loads(record.read_text())
    if earlier["ranges"] != _written(space):
        raise UserError(f"{record}: a search of other ranges; choose another run.experiment")
    trials: list[Params] = earlier["trials"]
    return trials


def _written(space: Space) -> dict[str, Any]:
    as_json = _optuna().distributions.distribution_to_json
    return {key: json.loads(as_json(distribution)) for key, distribution in space.ranges.items()}
