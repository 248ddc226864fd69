"""When a run saves, and who waits for the disk.

In the background (`checkpoint.asynchronous`) a step waits only for the copy into host memory. A thread of each rank
writes its share and meets the others over connections of its own; the checkpoint is complete or absent as ever.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import Tensor

from trainer.config import CheckpointConfig
from trainer.training.checkpoint import prune, snapshot, write
from trainer.training.distributed import World
from trainer.training.engine import Engine
from trainer.training.hooks import Hook, StepResult
from trainer.training.step_metrics import StepMetrics


class CheckpointManager(Hook):
    """Saves, one checkpoint at a time, and writes to the logbook how it went."""

    def __init__(
        self,
        config: CheckpointConfig,
        engine: Engine,
        world: World,
        checkpoints: Path,
        metrics: StepMetrics,
        saved_step: int | None,
        report: Callable[[int, float], None] = lambda step, seconds: None,
    ) -> None:
        """`saved_step`: that of the checkpoint which the run goes on from. `report(step, seconds)` hears of every save
        that has ended, complete or not."""
        self.config, self.engine, self.world, self.checkpoints, self.metrics = (
            config,
            engine,
            world,
            checkpoints,
            metrics,
        )
        self.saved_step = saved_step
        self.failure: OSError | None = None  # of the last save
        self._writers = world.apart() if config.asynchronous else world
        self._buffers: dict[str, Tensor] = {}
        self._writing: threading.Thread | None = None
        self._report = report
        self._ending: Callable[[], None] = lambda: None

    def save(self, step: int, metadata: dict[str, Any]) -> None:
        """Save the state after `step` updates; `metadata` goes into the manifest. Collective. What the disk
        refuses is an event and kept in `failure`, not raised."""
        self.wait()
        began = time.monotonic()
        saved = snapshot(self.engine, self.world, step, self._buffers)
        stall = time.monotonic() - began

        def work() -> None:
            path, error = None, None
            try:
                path = write(saved, self._writers, self.checkpoints, metadata)
                if self.world.is_first:
                    prune(self.checkpoints, self.config, step, metadata["best"].get("step"))
            except Exception as caught:  # told, or raised again, by the thread that trains
                error = caught
            seconds = time.monotonic() - began
            self._ending = lambda: self._ended(step, path, error, seconds, stall)

        if self.config.asynchronous:
            self._writing = threading.Thread(target=work, name="checkpoint", daemon=True)
            self._writing.start()
        else:
            work()
            self._end()

    def step_ended(self, result: StepResult) -> None:
        self.poll()

    def poll(self) -> None:
        """Report a save that has ended meanwhile, without waiting for one that has not."""
        if self._writing is not None and not self._writing.is_alive():
            self._writing = None
            self._end()

    def wait(self) -> None:
        """Until nothing is being written. Afterwards all ranks know the same `saved_step` and `failure`."""
        if self._writing is not None:
            self._writing.join()
        self.poll()

    def _end(self) -> None:
        ending, self._ending = self._ending, lambda: None
        ending()

    def _ended(self, step: int, path: Path | None, error: Exception | None, seconds: float, stall: float) -> None:
        if path is not None:
            self.saved_step, self.failure = step, None
            how = {"seconds": seconds, "stall_seconds": stall if self.config.asynchronous else seconds}
            self.metrics.event("checkpoint", step, f"saved {path.name}", **how)
        elif isinstance(error, OSError):
            self.failure = error
            last = f"step {self.saved_step}" if self.saved_step is not None else "there is none yet"
            text = f"checkpoint could not be written ({error.strerror}); the last complete one: {last}"
            self.metrics.event("checkpoint_failed", step, text)
        elif error is not None:
            raise error
        self._report(step, seconds)
