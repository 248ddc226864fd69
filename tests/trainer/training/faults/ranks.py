"""A worker whose run has faults: a rank of a run, with the faults that the environment asks for.

The trainer knows nothing of it: `chaos.py` names this module where it would start `trainer.worker`.

ISOFLOP_TEST_FAULTS is a JSON list of {"kind", "rank", "step", ...}. A fault strikes in the
pass after `step` updates, "times" times (else once) in the life of a run folder: a marker in it counts.

    nan       a NaN in one gradient of that rank
    big       one gradient is multiplied by "factor"
    slow      the rank sleeps for "seconds" in its forward pass
    hang      the rank sleeps for ever
    kill      kill -9 of the rank
    agent     kill -9 of the agent that started the rank
    term      TERM to that agent
    truncate  the newest checkpoint, which is waited for "patience" seconds (else 3), loses half of a file, and the
              agent is killed with its ranks
    disk      the disk of the checkpoints is filled, until "steps" later or until the next start
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any


class Faults:
    """The faults of this rank, in order."""

    def __init__(self, run: Path, rank: int, save_every: int | None) -> None:
        """save_every: steps between two checkpoints."""
        self.save_every = save_every or 1
        self.run, self.markers, self.ballast = run, run / "faults", run / "checkpoints" / "ballast"
        self.markers.mkdir(exist_ok=True)
        every = enumerate(json.loads(os.environ.get("ISOFLOP_TEST_FAULTS", "[]")))
        self.mine = [(number, fault) for number, fault in every if fault.get("rank", 0) == rank]
        self.full_until = 0
        if rank == 0:
            self.ballast.unlink(missing_ok=True)

    def at(self, step: int) -> list[dict[str, Any]]:
        """Those that strike now."""
        struck = []
        for number, fault in self.mine:
            marker = self.markers / str(number)
            times = marker.stat().st_size if marker.exists() else 0
            if step == fault["step"] and times < fault.get("times", 1):
                marker.write_bytes(bytes(times + 1))
                struck.append(fault)
        return struck

    def strike(self, fault: dict[str, Any], step: int) -> None:
        """What happens before the pass."""
        match fault["kind"]:
            case "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            case "agent":
                os.kill(os.getppid(), signal.SIGKILL)
                time.sleep(3600)  # until the kernel takes this process along
            case "term":
                os.kill(os.getppid(), signal.SIGTERM)
            case "hang":
                sleep_in_a_pass(3600)
            case "truncate":
                newest = self.newest_checkpoint(step, fault.get("patience", 3.0))
                victim = sorted(newest.glob("*.safetensors"))[fault["step"] % 2]
                os.truncate(victim, victim.stat().st_size // 2)
                self.strike({**fault, "kind": "agent"}, step)
            case "disk":
                self.full_until = step + fault["steps"]
                with open(self.ballast, "wb") as file:
                    try:
                        while True:
                            file.write(bytes(1 << 16))
                            file.flush()
                    except OSError:
                        pass

    def newest_checkpoint(self, step: int, patience: float) -> Path:
        """The one that is due, if the background writes it within `patience` seconds."""
        due = self.run / "checkpoints" / f"step-{step // self.save_every * self.save_every:08d}"
        deadline = time.monotonic() + patience
        while not due.exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        return max(self.run.glob("checkpoints/step-*"))

    def free(self, step: int) -> None:
        """The disk has room again, once it is time."""
        if self.full_until and step >= self.full_until:
            self.ballast.unlink(missing_ok=True)
            self.full_until = 0


def install(run: Path) -> None:
    """Put the faults between the loop and its engine. `reads-<rank>.jsonl` tells what each update was made of."""
    from trainer.run_folder import RunFolder
    from trainer.training import loop
    from trainer.training.engine import Engine

    class FaultyEngine(Engine):
        def __init__(self, *arguments: Any) -> None:
            self.attempt = RunFolder(run).attempts()  # the first rank counts this one later, when all have got here
            super().__init__(*arguments)
            self.faults = Faults(run, self.world.rank, self.config.checkpoint.every_steps)
            self.done = 0  # updates so far
            self.reads: list[str] = []

        def load(self, step: int, *arguments: Any) -> None:
            super().load(step, *arguments)
            self.done = step

        def update(self, *settings: Any) -> None:
            with open(run / f"reads-{self.world.rank}.jsonl", "a") as file:
                file.write(json.dumps({"step": self.done, "attempt": self.attempt, "rows": self.reads}) + "\n")
            super().update(*settings)
            self.done += 1

        def forward_backward(self, micro_batches: Any, targets: float) -> Any:
            rows = [
                (row, aims)
                for batch in micro_batches
                for row, aims in zip(batch["tokens"], batch["targets"], strict=True)
            ]
            self.reads = [fingerprint(row) for row, aims in rows if (aims >= 0).any()]
            self.faults.free(self.done)
            hooks = []
            for fault in self.faults.at(self.done):
                if fault["kind"] == "slow":
                    hooks.append(self.model.register_forward_pre_hook(lambda *_, s=fault["seconds"]: time.sleep(s)))
                elif fault["kind"] in ("nan", "big"):
                    factor = float("nan") if fault["kind"] == "nan" else fault["factor"]
                    parameter = next(iter(self.parameters.values()))
                    hooks.append(parameter.register_hook(lambda gradient, factor=factor: gradient * factor))
                else:
                    self.faults.strike(fault, self.done)
            found = super().forward_backward(micro_batches, targets)
            for hook in hooks:
                hook.remove()
            return found

    loop.Engine = FaultyEngine  # type: ignore[misc]


def fingerprint(row: Any) -> str:
    """Of one sample's tokens."""
    return hashlib.sha256(row.astype("<i8").tobytes()).hexdigest()[:16]


def sleep_in_a_pass(seconds: float) -> None:
    """A name to be found in a stack."""
    time.sleep(seconds)


if __name__ == "__main__":
    from trainer.training.faults.signals import die_with_parent
    from trainer.worker import leave, work

    die_with_parent()
    install(Path(sys.argv[1]))
    leave(work(Path(sys.argv[1])))
