"""Measure this machine: a few short steps of small models, and the time per unit of work that explains them."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import date
from typing import Any

import numpy as np

from trainer.books.calibration import TERMS, Calibration, calibration_file
from trainer.books.step_work import Work, work
from trainer.config import Config
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
WORST_FIT = 0.3  # a fit that misses a step by more is no calibration


def calibrate(
    config: Config, progress: Callable[[str, int, int], None] | None = None, seconds_each: float = 4.0
) -> Calibration:
    """Time small models of `config`'s kind and precision on this host's processor and write the calibration file; of
    several ranks (`launch.processes`) at the same time, with what they send each other.

    Takes about `seconds_each` for each of ten models. The fit has no negative times; its error is the largest relative
    miss over the models, which later estimates carry as their interval. Raises UserError where that is too much.
    """
    import torch

    def report_progress(done: int) -> None:
        if progress and done < len(LADDER):
            progress("timing steps", done, len(LADDER))

    models = [small_model(config, *shape) for shape in LADDER]
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
    names = ("width", "depth", "sequence_length", "batch_size")
    steps: list[dict[str, Any]] = [dict(zip(names, shape[:4], strict=True)) for shape in LADDER]
    rates, error = fit_rates(works, seconds)
    if error > WORST_FIT:
        raise UserError(
            f"calibration: the times of these steps do not fit together (off by up to {error:.0%}); "
            "nothing was written. Is the machine busy with something else? Try again when it is idle"
        )
    fitted = [sum(rates[name] * getattr(one, name) for name in TERMS) for one in works]
    steps = [
        step | {"measured_seconds": taken, "fitted_seconds": said}
        for step, taken, said in zip(steps, seconds, fitted, strict=True)
    ]
    result = Calibration(
        processor(), precision(config), threads(config), rates, error, date.today().isoformat(), tuple(steps)
    )
    file = calibration_file(config, result.machine)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(file, json.dumps(result.to_json(), indent=1) + "\n")
    return result


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
    """A model of the same kind in another size, in one micro-batch of `batch` sequences on each rank."""
    ranks = config.launch.processes
    model = config.model.model_copy(
        update={
            "width": width,
            "depth": depth,
            "decoder_depth": None,
            "heads": max(1, width // 64),
            "kv_heads": None,
            "head_size": None,
            "ffn_width": None,
            "vocabulary": vocabulary,
            "max_length": None,
        }
    )
    return config.model_copy(
        update={
            "model": model,
            "data": config.data.model_copy(update={"sequence_length": length}),
            "optim": config.optim.model_copy(update={"batch_size": batch * ranks, "batch_warmup": ()}),
            "engine": config.engine.model_copy(update={"micro_batch": batch, "zero_stage": int(ranks > 1)}),
        }
    )
