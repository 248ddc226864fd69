"""A wall-clock limit that is known in advance: stop while there is still time for a checkpoint."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping

from trainer.training.hooks import Hook

MARGIN_SECONDS = 5.0  # for what is neither step nor save: closing trackers, leaving the process group
FACTOR = 1.5  # by which the slowest step and save so far may be exceeded
BYTES_PER_SECOND = 100e6  # of a disk that was not measured yet


def guessed_seconds(checkpoint_bytes: int) -> float:
    """Time to write a checkpoint, before it was measured."""
    return checkpoint_bytes / BYTES_PER_SECOND


class Deadline(Hook):
    """Measures steps and saves and says when the next step could be one too many.

    The limit is turned into monotonic time once, at the start: a wall clock that jumps later moves nothing.
    """

    def __init__(
        self, wall_seconds: float | None, save_seconds: float, environment: Mapping[str, str] = os.environ
    ) -> None:
        """wall_seconds: from now on; null: as SLURM says, else none. save_seconds: a guess until one was measured."""
        now = time.monotonic()
        left = [] if wall_seconds is None else [wall_seconds]
        if (end := environment.get("SLURM_JOB_END_TIME", "")).isdigit():  # seconds since the epoch
            left.append(int(end) - time.time())
        self.at = now + min(left) if left else None
        self.save_seconds, self.measured = save_seconds, False
        self.step_seconds = 0.0
        self._boundary: float | None = None

    def saved(self, step: int, seconds: float) -> None:
        self.save_seconds = max(self.save_seconds, seconds) if self.measured else seconds
        self.measured = True

    def reason(self) -> str | None:
        """Called at every step boundary: why to stop now, if so."""
        if self.at is None:
            return None
        now = time.monotonic()
        if self._boundary is not None:
            self.step_seconds = max(self.step_seconds, now - self._boundary)
        self._boundary = now
        left = self.at - now
        if left > FACTOR * (self.step_seconds + self.save_seconds) + MARGIN_SECONDS:
            return None
        return (
            f"wall-clock limit: {max(left, 0):.0f} s left, a step takes up to {self.step_seconds:.1f} s "
            f"and a checkpoint {self.save_seconds:.1f} s"
        )
