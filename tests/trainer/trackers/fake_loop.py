"""A loop that trains nothing and tells its trackers as the real one does; run by tests as a process of its own."""

from __future__ import annotations

import argparse
import json
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

from trainer.config import Config, load
from trainer.trackers import RunContext, background, make_trackers, notes_on, settled, wandb, wandb_server
from trainer.trackers.records import EvaluationRecord, Event, StepRecord


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("run", type=Path)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--stop-at", type=int)
    parser.add_argument("--seconds", type=float, default=0.0, help="of one step")
    parser.add_argument("--resumed-from", type=int, default=0)
    parser.add_argument("--attempt", type=int, default=0)
    parser.add_argument("--wandb", default="disabled")
    parser.add_argument("--tracker", type=json.loads, default={}, help="more keys of the group")
    parser.add_argument("--every", type=int, default=10)
    parser.add_argument("--noise-at", type=int, help="step that measures the gradient noise scale")
    parser.add_argument("--die-at", type=int, help="step after whose record, and before whose evaluation, it is killed")
    parser.add_argument("--finish-seconds", type=float, default=20.0)
    parser.add_argument("--server-seconds", type=float, default=60.0, help="to answer, and to accept the run")
    given = parser.parse_args()
    wandb_server.answers.__defaults__ = (given.server_seconds,)
    wandb.INIT_SECONDS, wandb.LATE_SECONDS = given.server_seconds, 60.0  # a busy host is no answer of a server
    if given.wandb != "disabled":
        wandb.FINISH_SECONDS = given.finish_seconds
    background.FINISH_SECONDS = max(background.FINISH_SECONDS, given.finish_seconds)

    tracker: dict[str, Any] = {"wandb": given.wandb, "every_steps": given.every}
    config = Config.model_validate({"tracker": {**tracker, **given.tracker}, "budget": {"steps": max(given.steps, 50)}})
    run = given.run
    config = settled(config, load(run / "config.yaml") if (run / "config.yaml").is_file() else None)
    print("\n".join(notes_on(config)))
    (run / "config.yaml").write_text(config.to_yaml())
    trackers = make_trackers(config, run, rank=0, resumed_from=given.resumed_from)
    trackers.start(RunContext(config, run, given.steps, 4_200_000, 1, given.resumed_from, given.attempt))
    begin = time.perf_counter()
    print("tokens printed by the loop itself")
    for step in range(given.resumed_from + 1, (given.stop_at or given.steps) + 1):
        time.sleep(given.seconds)
        trackers.step(
            StepRecord(
                step=step,
                samples=step * 32,
                tokens=step * 8192,
                targets=8000,
                flop=step * 1e11,
                loss=8.3 / step**0.3,
                grad_norm=1.0,
                lr=3e-3,
                tokens_per_second=8192 / max(given.seconds, 1e-3),
                flop_per_second=1e11,
                mfu=None,
                peak_flop_per_second=None,
                memory_peak_bytes=1 << 30,
                seconds={"data": 0.01, "forward_backward": max(given.seconds, 1e-3)},
                wall_seconds=time.perf_counter() - begin,
                attempt=given.attempt,
                joules={"cpu": None},
                gradient_noise={"noise_scale": 9.0} if step == given.noise_at else {},
            )
        )
        if step == given.die_at:
            wait_for_queues(trackers)
            os.kill(os.getpid(), signal.SIGKILL)
        if step % 20 == 0:
            trackers.evaluation(EvaluationRecord(step, step * 8192, 4.0, 2.25, 3.0, 500, 0.2, given.attempt))
            trackers.event(Event("checkpoint", time.time(), step, f"checkpoint step-{step} saved", {}, given.attempt))
    finishing = time.perf_counter()
    trackers.finish("finished", {"tokens": given.steps * 8192})
    print(f"finish took {time.perf_counter() - finishing:.1f} s, loop {finishing - begin:.1f} s", flush=True)


def wait_for_queues(trackers: Any) -> None:
    """Until every library was told all that there is."""
    for one in trackers._trackers:
        calls = getattr(one, "_queue", None) or getattr(one, "_calls", None)
        if calls is not None:
            told = threading.Event()
            calls.put(lambda _, told=told: told.set())
            told.wait(60)
    time.sleep(1.0)  # W&B hands its rows to a process of its own


if __name__ == "__main__":
    main()
