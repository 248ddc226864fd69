"""The engine's whole step, GPT-2 124M, beside the bare loop of bare_gpt2.py, in turns in one process."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from environment import reason

from proof.bare_gpt2 import bare_step

CUDA = torch.cuda.is_available()
ROWS, MICRO_BATCHES, LENGTH = (32, 4, 1024) if CUDA else (2, 2, 32)
SHAPE = {"depth": 12, "width": 768, "heads": 12} if CUDA else {"depth": 1, "width": 64, "heads": 2}
BARE_VOCABULARY = 50304  # nanoGPT's, for the columns of the output layer; ours is GPT-2's 50,257
ROUNDS, STEPS = (5, 3) if CUDA else (1, 1)
MACHINES = {"H100": "h100-sxm", "H200": "h200-sxm", "A100": "a100-sxm-80gb"}
Step = Callable[[], Any]


@cache
def bare() -> Step:
    device = "cuda" if CUDA else "cpu"
    torch.manual_seed(0)
    shape = (ROWS, LENGTH)
    batches = [
        {name: torch.randint(0, 50257, shape, device=device) for name in ("tokens", "targets")}
        for _ in range(MICRO_BATCHES)
    ]
    return bare_step(batches, BARE_VOCABULARY, SHAPE, CUDA)


@cache
def _world() -> Any:
    from trainer.training.distributed import join

    return join("auto", 1800.0)


def ours(kernels: str | None, compile: bool) -> Step:
    """Our engine's step over the same micro-batches, from the host as in training: a document a row.

    Raises ModuleNotFoundError where a wheel that the trainer needs is not there.
    """
    import numpy as np

    from trainer.compose import compose
    from trainer.training.engine import Engine

    words = ["model=gpt2-124m", "objective=causal", f"optim.batch_size={ROWS * MICRO_BATCHES}"]
    words += [f"data.sequence_length={LENGTH}", f"engine.micro_batch={ROWS}", "budget.steps=1000"]
    words += [f"engine.compile={str(compile and CUDA).lower()}", *([f"kernels={kernels}"] if kernels and CUDA else [])]
    words += [] if CUDA else [f"model.{name}={value}" for name, value in SHAPE.items()]
    gpu = torch.cuda.get_device_name() if CUDA else ""
    words += [f"machine={preset}" for name, preset in MACHINES.items() if name in gpu]
    config = compose(words)
    engine = Engine(config, _world())
    chance = np.random.default_rng(0)
    shape = (ROWS, LENGTH)
    batches = []
    for _ in range(MICRO_BATCHES):
        tokens = chance.integers(0, config.vocabulary, shape)
        positions = np.broadcast_to(np.arange(LENGTH), shape).copy()
        batch = {"tokens": tokens, "targets": np.roll(tokens, -1, 1), "positions": positions}
        batches.append(batch | {"segments": np.zeros(shape, np.int32)})

    def step() -> None:
        engine.forward_backward(batches, float(ROWS * MICRO_BATCHES * LENGTH))
        engine.gradient_norm()
        engine.update(1e-4)

    return step


def _steps_seconds(step: Step, steps: int) -> float:
    began = time.perf_counter()
    for _ in range(steps):
        step()
    if CUDA:
        torch.cuda.synchronize()
    return (time.perf_counter() - began) / steps


def measure_step(
    contestants: dict[str, Callable[[], Step]], sensors: Any = None, rounds: int = ROUNDS, steps: int = STEPS
) -> dict[str, Any]:
    """The row: seconds a step and tokens a second of each contestant, the median of the rounds, in turns."""
    ready: dict[str, Step] = {}
    who: dict[str, dict[str, Any]] = {}
    refused: dict[str, str] = {}
    for name, build in contestants.items():
        try:
            before = torch.cuda.memory_allocated() if CUDA else 0
            step = build()
            for _ in range(2):  # compiles, and lets AdamW make its moments
                step()
            peak = None
            if CUDA:
                torch.cuda.reset_peak_memory_stats()
                step()
                torch.cuda.synchronize()
                peak = torch.cuda.max_memory_allocated() - before
            ready[name], who[name] = step, {"peak_bytes": peak}
        except Exception as error:  # a library that is missing, memory that is full, a compiler that gives up
            refused[name] = reason(error)
    took: dict[str, list[float]] = {name: [] for name in ready}
    if sensors:
        sensors.begin()
    for _ in range(rounds):
        for name, step in ready.items():
            took[name].append(_steps_seconds(step, steps))
    sensed = sensors.end() if sensors else None
    tokens = ROWS * MICRO_BATCHES * LENGTH
    for name, seconds in took.items():
        median = statistics.median(seconds)
        who[name] |= {"both_seconds": median, "both_spread": max(seconds) / min(seconds)}
        who[name] |= {"tokens_per_second": tokens / median}
    row = {"who": who, "refused": refused, "sensors": sensed, "notes": [], "tokens": tokens}
    own = "isoflop" in who
    return row | {"status": "measured" if own else "failed"} | ({} if own else {"why": refused.get("isoflop", "")})


def build(settings: dict[str, Any]) -> dict[str, Callable[[], Step]]:
    """The contestants of a case of plan.py's part "step"."""
    return {"bare loop": bare, "isoflop": lambda: ours(**settings)}
