"""A worker whose run has faults: `python ranks.py <run folder>` is a rank of that run, with the faults that the
environment asks for. The trainer knows nothing of it: tests name this file where it would start `trainer.worker`.

ISOFLOP_TEST_FAULTS is a JSON list of {"kind", "rank", "step", ...}. A fault strikes once in the life of a run folder
(a marker in it remembers), unless "always" is true. `step` counts the forward-and-backward passes of a rank from the
first step of the run, so 3 is the pass of step 4.

    nan       a NaN in one gradient of that rank
    hang      the rank sleeps for ever in its forward pass; "seconds" makes it sleep for so long
    slow      every pass from there on takes "seconds" longer
    kill      kill -9 of the rank itself
    big       the loss of the pass is multiplied by "factor", gradients included
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any


class Faults:
    """The faults of this rank, in order."""

    def __init__(self, run: Path, rank: int) -> None:
        self.markers = run / "faults"
        self.markers.mkdir(exist_ok=True)
        every = enumerate(json.loads(os.environ.get("ISOFLOP_TEST_FAULTS", "[]")))
        self.mine = [(number, fault) for number, fault in every if fault.get("rank", 0) == rank]

    def at(self, step: int, *kinds: str) -> list[dict[str, Any]]:
        """Those of these kinds that strike now."""
        struck = []
        for number, fault in self.mine:
            now = step >= fault["step"] if fault["kind"] == "slow" else step == fault["step"]
            if fault["kind"] in kinds and now:
                marker = self.markers / str(number)
                if fault.get("always") or fault["kind"] == "slow" or not marker.exists():
                    marker.touch()
                    struck.append(fault)
        return struck


def install(run: Path) -> None:
    """Put the faults between the loop and its engine."""
    from trainer import loop
    from trainer.engine import Engine

    class FaultyEngine(Engine):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            self.faults = Faults(run, self.world.rank)
            self.step = 0  # updates so far

        def load(self, step: int, *arguments: Any) -> None:
            super().load(step, *arguments)
            self.step = step

        def update(self, lr: float) -> None:
            super().update(lr)
            self.step += 1

        def forward_backward(self, micro_batches: Any, targets: float) -> Any:
            for fault in self.faults.at(self.step, "kill", "hang", "slow"):
                if fault["kind"] == "kill":
                    os.kill(os.getpid(), signal.SIGKILL)
                sleep_in_a_pass(fault.get("seconds", 3600))
            hooks = []
            for fault in self.faults.at(self.step, "nan", "big"):
                factor = float("nan") if fault["kind"] == "nan" else fault["factor"]
                parameter = next(iter(self.parameters.values()))
                hooks.append(parameter.register_hook(lambda gradient, factor=factor: gradient * factor))
            found = super().forward_backward(micro_batches, targets)
            for hook in hooks:
                hook.remove()
            return found

    loop.Engine = FaultyEngine  # type: ignore[misc]


def sleep_in_a_pass(seconds: float) -> None:
    """A name to be found in a stack."""
    time.sleep(seconds)


if __name__ == "__main__":
    from trainer.faults.signals import die_with_parent
    from trainer.worker import work

    if os.environ.get("ISOFLOP_LAUNCHED"):
        die_with_parent()
    install(Path(sys.argv[1]))
    code = work(Path(sys.argv[1]))
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
