"""How long a step waits for a checkpoint, and what looking after a run costs it.

    scripts/bench/faults [--rounds 9] [--steps 4]

Checkpoints: the same engine (10M parameters, 120 MB) saves in turns in the background and synchronously, each followed
by the same number of steps. Stall is the time in `save`; in all is the time of save, steps and the wait for the writer
less that of as many steps alone. Looking after: the time of the watchdog, the guard with a full window, the wall limit
and the stragglers' bookkeeping in a step, against the step itself. Medians of the rounds.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from scripts.bench.step import configuration, micro_batches
from trainer.config import CheckpointConfig, Config
from trainer.training.checkpoint_manager import CheckpointManager
from trainer.training.distributed import join
from trainer.training.engine import Engine
from trainer.training.faults.deadline import Deadline
from trainer.training.faults.guard import Gradients, Guard
from trainer.training.faults.stragglers import Stragglers
from trainer.training.faults.watchdog import Watchdog


class Silent:
    """Metrics that are not read."""

    def event(self, name: str, step: int, text: str, **data: Any) -> None:
        assert name == "checkpoint", text


def seconds(action: Callable[[], object]) -> float:
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def checkpoints(engine: Engine, step: Callable[[], None], run: Path, rounds: int, steps: int) -> dict[str, list[float]]:
    """Seconds by kind: of a step, of the stall and of everything, in the background and synchronously."""

    def saver(asynchronous: bool) -> CheckpointManager:
        config = CheckpointConfig(asynchronous=asynchronous, keep_last=1, keep_best=False)
        return CheckpointManager(config, engine, engine.world, run / str(asynchronous), Silent(), None)  # type: ignore[arg-type]

    savers = {"background": saver(True), "synchronous": saver(False)}
    found: dict[str, list[float]] = {"step": []}
    for number in range(rounds + 1):  # the first is a warm-up
        alone = seconds(lambda: [step() for _ in range(steps)])
        if number:
            found["step"].append(alone / steps)
        for name, one in savers.items() if number % 2 else reversed(savers.items()):
            stall = seconds(lambda one=one, number=number: one.save(number, {"best": {}}))
            rest = seconds(lambda one=one: ([step() for _ in range(steps)], one.wait()))
            if number:
                found.setdefault(f"{name} stall", []).append(stall)
                found.setdefault(f"{name} in all", []).append(stall + rest - alone)
    return found


def looking_after(config: Config, engine: Engine, run: Path, rounds: int, calls: int = 1000) -> dict[str, list[float]]:
    """Seconds a step of each hook that watches over the run."""
    watchdog = Watchdog(config, engine.world, run, 0, lambda: engine.passes)
    guard, deadline = Guard(config.anomalies, {}), Deadline(1e6, 1.0, {})
    stragglers = Stragglers(config.faults, engine.world, lambda *_: None)
    fine = Gradients(3.0, 1.0, {})
    for number in range(config.anomalies.window):
        guard.recent.keep(3.0 + number / 1e3, 1.0)
    parts: dict[str, Callable[[], object]] = {
        "watchdog": lambda: watchdog.step_began(0),
        "guard": lambda: guard.decide(lambda: fine, lambda: None, lambda name, text: None),
        "wall limit": deadline.reason,
        "stragglers": lambda: stragglers.compare(engine.forward_seconds, 1),
    }
    found: dict[str, list[float]] = {name: [] for name in parts}
    for _ in range(rounds):
        for name, part in parts.items():
            found[name].append(seconds(lambda part=part: [part() for _ in range(calls)]) / calls)
    watchdog.close()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--steps", type=int, default=4, help="after each save")
    given = parser.parse_args()
    config = configuration(0, 1)
    engine = Engine(config, join("auto", 600))
    batches = micro_batches(config, engine.world)

    def step() -> None:
        engine.forward_backward(batches, 2048.0)
        engine.gradient_norm()
        engine.update(1e-4)

    with tempfile.TemporaryDirectory() as run:
        saves = checkpoints(engine, step, Path(run), given.rounds, given.steps)
        parts = looking_after(config, engine, Path(run), given.rounds)
    median = {name: statistics.median(values) for name, values in (saves | parts).items()}
    print(f"a step takes {1e3 * median['step']:.0f} ms\n")
    print("| checkpoint | stall, ms | in all, ms | stall / synchronous |\n|---|---|---|---|")
    for name in ("synchronous", "background"):
        share = median[f"{name} stall"] / median["synchronous stall"]
        print(f"| {name} | {1e3 * median[f'{name} stall']:.0f} | {1e3 * median[f'{name} in all']:.0f} | {share:.3f} |")
    print("\n| looking after | microseconds a step | share of the step |\n|---|---|---|")
    total = sum(median[name] for name in parts)
    for name, value in [*((name, median[name]) for name in parts), ("all", total)]:
        print(f"| {name} | {1e6 * value:.1f} | {value / median['step']:.4%} |")


if __name__ == "__main__":
    main()
