"""Steps of ranks that share this host: they compute at the same time, on their part of its cores, and send each other
gradients and weights as ZeRO's first stage does, with gloo."""

from __future__ import annotations

import multiprocessing
import queue
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from trainer.config import Config
from trainer.meter.timed_step import Together, time_step
from trainer.utils.errors import UserError

PATIENCE_SECONDS = 120.0  # for one model to be timed, beyond its budget


def ranks_seconds(models: Sequence[Config], budget_seconds: float, told: Callable[[int], None]) -> list[float]:
    """Median seconds of a step of each model, as the first of `launch.processes` ranks sees it.

    told: called with how many are done. Raises UserError where a rank ends before that."""
    size, spawn = models[0].launch.processes, multiprocessing.get_context("spawn")
    results: Any = spawn.Queue()
    with tempfile.TemporaryDirectory() as folder:
        shared = (size, models, str(Path(folder) / "meet"), budget_seconds, results)
        ranks = [spawn.Process(target=_rank, args=(rank, *shared), daemon=True) for rank in range(size)]
        for one in ranks:
            one.start()
        found: list[float] = []
        try:
            for _ in models:
                found.append(_next(results, ranks, budget_seconds + PATIENCE_SECONDS))
                told(len(found))
        finally:
            for one in ranks:
                one.join(timeout=10.0 if len(found) == len(models) else 0.0)
                if one.is_alive():
                    one.terminate()
    return found


def _next(results: Any, ranks: Sequence[Any], seconds: float) -> float:
    """The next result. Raises UserError where a rank is gone, or none comes for so long."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and all(one.exitcode in (None, 0) for one in ranks):
        try:
            return float(results.get(timeout=1.0))
        except queue.Empty:
            continue
    raise UserError("calibrate: a rank did not answer; is there memory for all of them?")


def _rank(rank: int, size: int, models: Sequence[Config], meet: str, budget_seconds: float, results: Any) -> None:
    import torch
    import torch.distributed as dist

    from trainer.config.host import threads

    torch.set_num_threads(threads(models[0]))
    dist.init_process_group("gloo", init_method=f"file://{meet}", rank=rank, world_size=size)
    for one in models:
        taken = time_step(one, budget_seconds, together=Together(rank, size))
        if rank == 0:
            results.put(taken)
    dist.barrier()
    dist.destroy_process_group()
