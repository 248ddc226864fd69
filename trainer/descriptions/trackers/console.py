"""Progress on the terminal."""

from __future__ import annotations

from typing import Literal

from trainer.descriptions.trackers import TrackerDescription
from trainer.utils.schema import key


class Console(TrackerDescription):
    name = "console"
    help = "step, loss, speed and time left, on the terminal"
    implementation = "trainer.trackers.console:make"
    off = ("console", "none")
    prints = True

    class Keys(TrackerDescription.Keys):
        console: Literal["auto", "live", "plain", "none"] = key(
            "auto", "progress: live on a terminal, plain lines otherwise"
        )
