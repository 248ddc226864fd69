"""Measure this machine: a few short steps of small models, and the time per unit of work that explains them."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from datetime import date

import numpy as np

from trainer.books.calibration import TERMS, Calibration, OwnModel, calibration_file
from trainer.books.layout import micro_batch
from trainer.books.step_work import Work, work
from trainer.config import Config, ModelConfig
from trainer.config.host import precision, processor, threads
from trainer.meter.calibration_ranks import ranks_seconds
from trainer.meter.timed_step import time_step
from trainer.utils.errors import UserError
from trainer.utils.files import write_atomic

# width, depth, sequence, batch, vocabulary: far apart in every kind of work.
LADDER = (
    (128, 2, 128, 8, 2048),
    (128, 8, 128, 4, 2048),
    (256, 4, 256, 8, 4096),
    (256, 2, 512, 4, 1024),
    (384, 6, 128, 8, 2048),
    (512, 2, 64, 16, 4096),
    (128, 2, 256, 4, 16384),
    (512, 6, 128, 2, 2048),
    (192, 4, 1024, 1, 1024),
    (128, 4, 256, 16, 2048),
)
USUAL_HEAD = 64  # channels
# FLOPs of the model that was asked for, beside the ladder's largest: a larger one would take most of the time.
OWN_LARGEST = 4.0
WORST_FIT = 0.3  # a fit that misses a step by more is no calibration


def calibrate(
    config: Config, progress: Callable[[str, int, int], None] | None = None, seconds_each: float = 4.0
) -> Calibration:
    """Time small models of `config`'s kind and precision on this host's processor and write the calibration file; of
    several ranks (`launch.processes`) at the same time, with what they send each other.

    Takes about `seconds_each` for each of ten models and for `config`'s own. The fit has no negative times; its error
    is the largest relative miss over the ten, which later estimates carry as their interval. Raises UserError where
    that is too much.
    """
    import torch

    models = timed_models(config)

    def report_progress(done: int) -> None:
        if progress and done < len(models):
            progress("timing steps", done, len(models))

    seconds: list[float] = []
    works = [work(small) for small in models]
    report_progress(0)
    if config.launch.processes > 1:
        seconds = ranks_seconds(models, seconds_each, report_progress)
    else:
        torch.set_num_threads(threads(config))
        for small in models:
            seconds.append(time_step(small, seconds_each))
            report_progress(len(seconds))
    rates, error = fit_rates(works[: len(LADDER)], seconds[: len(LADDER)])
    if error > WORST_FIT:
        raise UserError(
            f"calibration: the times of these steps do not fit together (off by up to {error:.0%}); "
            "nothing was written. Is the machine busy with something else? Try again when it is idle"
        )
    fitted = [sum(rates[name] * getattr(one, name) for name in TERMS) for one in works]
    steps = [
        _shape(small) | {"measured_seconds": taken, "fitted_seconds": said}
        for small, taken, said in zip(models, seconds, fitted, strict=True)
    ]
    asked_for = OwnModel.timed(works[-1], seconds[-1] / fitted[-1]) if len(models) > len(LADDER) else None
    made_for = (processor(), precision(config), threads(config))
    result = Calibration(*made_for, rates, error, date.today().isoformat(), tuple(steps), asked_for)
    file = calibration_file(config, result.machine)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(file, json.dumps(result.to_json(), indent=1) + "\n")
    return result


def timed_models(config: Config) -> list[Config]:
    """The ladder of `config`'s kind, and `config`'s own model in one micro-batch, where its step is not much longer
    than those of the ladder: no fit over other sizes tells its time as well."""
    ladder, own = [small_model(config, *shape) for shape in LADDER], in_one_pass(config, config.model)
    flops = [one.product_flop + one.score_flop for one in map(work, [*ladder, own])]
    return [*ladder, own] if flops[-1] <= OWN_LARGEST * max(flops[:-1]) else ladder


def fit_rates(works: list[Work], seconds: list[float]) -> tuple[dict[str, float], float]:
    """Times per unit, none negative, that explain the measured steps with the least relative error; and its largest."""
    table = np.array([[getattr(one, name) for name in TERMS] for one in works], float)
    table /= np.array(seconds)[:, None]  # relative errors
    scale = table.max(axis=0)
    rates = _nonnegative(table / scale, np.ones(len(seconds))) / scale
    error = float(np.abs(table @ rates - 1).max())
    return dict(zip(TERMS, rates.tolist(), strict=True)), error


def _nonnegative(matrix: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Least squares without negative coefficients, over every subset of columns: there are few."""
    columns = matrix.shape[1]
    best, best_error = np.zeros(columns), float("inf")
    for chosen in range(1, 2**columns):
        subset = [i for i in range(columns) if chosen >> i & 1]
        solution, *_ = np.linalg.lstsq(matrix[:, subset], target, rcond=None)
        if (solution < 0).any():
            continue
        error = float(((matrix[:, subset] @ solution - target) ** 2).sum())
        if error < best_error:
            best, best_error = np.zeros(columns), error
            best[subset] = solution
    return best


def small_model(config: Config, width: int, depth: int, length: int, batch: int, vocabulary: int) -> Config:
    """A model of the same kind in another size, in one micro-batch of `batch` sequences on each rank.

    Heads are as wide as its heads where that divides the width, for scores cost by the head; as many share keys,
    and the feed-forward is as many times wider than the model.
    """
    kind = config.model
    size = kind.head_channels if width % kind.head_channels == 0 else USUAL_HEAD
    heads = max(1, width // size)
    model = kind.model_copy(
        update={
            "width": width,
            "depth": depth,
            "decoder_depth": None,
            "heads": heads,
            "kv_heads": None if kind.kv_heads is None else math.gcd(heads, max(1, heads * kind.kv_heads // kind.heads)),
            "head_size": None,
            "ffn_width": None if kind.ffn_width is None else round(width * kind.ffn_width / kind.width),
            "vocabulary": vocabulary,
            "max_length": None,
        }
    )
    data = config.data.model_copy(update={"sequence_length": length})
    return in_one_pass(config.model_copy(update={"data": data}), model, batch)


def in_one_pass(config: Config, model: ModelConfig, batch: int | None = None) -> Config:
    """A step of this model in one micro-batch of `batch` sequences on each rank, or of as many as `config` has."""
    ranks, batch = config.launch.processes, batch or micro_batch(config)
    return config.model_copy(
        update={
            "model": model,
            "optim": config.optim.model_copy(update={"batch_size": batch * ranks, "batch_warmup": ()}),
            "engine": config.engine.model_copy(update={"micro_batch": batch, "zero_stage": int(ranks > 1)}),
        }
    )


def _shape(config: Config) -> dict[str, int]:
    """What a calibration file says of a model that was timed."""
    return {
        "width": config.model.width,
        "depth": config.model.depth,
        "sequence_length": config.data.sequence_length,
        "batch_size": micro_batch(config),
    }
