"""One rank of a profile: trains, and leaves what it measured in files of its own beside the others'.

They are made in a folder aside, which the command renames when all ranks are done: `profile/` is complete or absent.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from trainer.config import Config
from trainer.meter.process import begin
from trainer.report.profile_pictures import flame_svg, memory_svg, memory_timeline
from trainer.run_folder import RunFolder
from trainer.training.faults.output import outlive_readers
from trainer.training.faults.signals import LAUNCHED, Interrupted, die_with_parent
from trainer.training.step_profile import UNTOUCHED, StepProfile
from trainer.utils.files import write_atomic
from trainer.utils.outcomes import ExitCode
from trainer.worker import leave, work

ASIDE = ".profile.partial"
MEASURED = "measured{}.json"  # what a rank hands to the command


def file_names(rank: int, ranks: int) -> dict[str, str]:
    """What it is -> the name of the file, of one rank of so many."""
    of = f"-rank{rank}" if ranks > 1 else ""
    return {"trace": f"trace{of}.json", "flame": f"flame{of}.svg", "memory": f"memory{of}.svg"} | {
        "snapshot": f"memory{of}.json"  # of a GPU alone
    }


def traced_steps(config: Config) -> int:
    """How many steps of a profile's run are traced."""
    return int(config.budget.steps or 0) - UNTOUCHED - 1


def profiled_rank(run: Path) -> int:
    """Train this rank's share of the run and write what was measured aside; returns the exit code.

    Raises Interrupted at a stop signal: there is nothing to save.
    """
    place, steps = run / ASIDE, traced_steps(RunFolder(run).load_config())
    rank, ranks = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    files = {what: place / name for what, name in file_names(rank, ranks).items()}
    hook = StepProfile(steps, files["trace"], files["snapshot"])
    code = work(run, [hook], saves=False)
    if code != ExitCode.DONE or hook.measured is None:
        return code or ExitCode.FAILED
    timeline = memory_timeline(files["trace"]) if hook.history is None else hook.history.timeline
    held = [one.bytes for one in timeline] or [0]
    found: dict[str, Any] = {"rank": rank, **hook.measured._asdict(), "made_bytes": max(held) - min(held)}
    if hook.history is not None:
        found["held_at_peak"] = hook.history.at_peak
    write_atomic(files["flame"], flame_svg(hook.frames, steps))
    write_atomic(files["memory"], memory_svg(timeline))
    write_atomic(place / MEASURED.format(rank), json.dumps(found))
    return ExitCode.DONE


if __name__ == "__main__":
    if agent := os.environ.get(LAUNCHED):
        die_with_parent(int(agent))
    begin(reads_host=os.environ.get("LOCAL_RANK", "0") == "0")
    outlive_readers()
    try:
        leave(profiled_rank(Path(sys.argv[1])))
    except Interrupted as interruption:
        os._exit(128 + interruption.number)
