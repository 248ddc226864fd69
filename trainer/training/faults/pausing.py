"""Pauses outside of `launch.window`: the ranks wait together, with a checkpoint behind them, until it opens."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from trainer.books.curve import stamp
from trainer.books.window import Window, window_of
from trainer.config import Config
from trainer.training.distributed import World

POLL_SECONDS = 5.0  # between two looks at the clock, and at whether a stop was asked for


def now() -> float:
    """Seconds since the epoch."""
    return time.time()


def sleep(seconds: float) -> None:
    time.sleep(seconds)


@dataclass(frozen=True)
class Waited:
    """How a pause ended."""

    seconds: float
    reason_to_stop: str | None = None  # in place of going on


class Pauses:
    """Whether to pause is for the first rank's clock to say; all ranks hear of it. Methods are collective."""

    def __init__(self, config: Config, world: World) -> None:
        self.window: Window | None = window_of(config)
        self.world = world

    def closed(self) -> bool:
        """Whether the run is to pause before its next step."""
        if self.window is None:
            return False
        mine = self.world.is_first and self.window.open(now()) is not True
        return bool(self.world.sum(float(mine))[0])

    @property
    def text(self) -> str:
        """Why it pauses and until when."""
        assert self.window is not None
        opens = self.window.opens(now())
        return f"launch.window={self.window.text} is closed" + ("" if opens is None else f"; it opens {stamp(opens)}")

    def wait(self, reason_to_stop: Callable[[], str | None], waiting: Callable[[], None]) -> Waited:
        """Wait until the window opens, or until any rank has a reason to stop.

        waiting: called again and again, so that nobody takes this for a hang.
        """
        assert self.window is not None
        began = now()
        while True:
            waiting()
            time_now, mine = now(), reason_to_stop()
            known = self.window.opens(time_now)
            asked, over, closed = self.world.sum(
                float(mine is not None),
                float(self.world.is_first and known is None),
                float(self.world.is_first and not self.window.open(time_now)),
            )
            if asked:
                return Waited(time_now - began, mine or "another rank was asked to stop")
            if over:
                return Waited(time_now - began, f"site.curve does not tell when {self.window.text} opens again")
            if not closed:
                return Waited(time_now - began)
            sleep(min(POLL_SECONDS, max(0.0, (known or time_now) - time_now)) or POLL_SECONDS)
