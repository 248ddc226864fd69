"""Whole runs, many in one set of started ranks: `python -m tests.trainer.training.layout_probe <cases.json>`.

Imports once, and forks the ranks of each number in turn. The file holds a list of overrides for each run, as `isoflop
train` takes them; each leaves its folder as that command does, but for the report.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import subprocess
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from tests.trainer.training.forked_ranks import forked_ranks
from trainer.config import Config
from trainer.run.start import described, make_ready
from trainer.run_folder import RunFolder
from trainer.training.distributed import World
from trainer.training.engine import Engine, import_deepspeed
from trainer.training.faults.signals import StopRequest
from trainer.training.loop import train
from trainer.utils.outcomes import Status

AT_ONCE = 10  # runs of one set of ranks, whose connections add up


def trained_together(folder: Path, runs: Sequence[Sequence[str]]) -> list[Path]:
    """The folders of runs with these overrides, trained one after the other."""
    file = folder / "cases.json"
    file.write_text(json.dumps(runs))
    command = [sys.executable, "-m", "tests.trainer.training.layout_probe", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-6000:]
    return [Path(path) for path in json.loads(done.stdout.splitlines()[-1])]


def main(file: Path) -> None:
    import_deepspeed("cpu")
    Engine.close = Engine.release  # type: ignore[method-assign]  # the process group stays for the next run
    with contextlib.redirect_stdout(sys.stderr):
        ready = [_ready(words) for words in json.loads(file.read_text())]
        for (ranks, divided), group in itertools.groupby(sorted(ready, key=_kind), _kind):
            left, many = list(group), 1 if divided else AT_ONCE
            while left:
                some, left = left[:many], left[many:]
                forked_ranks(ranks, partial(_train, runs=some))
    print(json.dumps([str(folder.path) for _, folder in ready]))


def _kind(one: tuple[Config, RunFolder]) -> tuple[int, bool]:
    """Ranks, and whether weights are divided within groups of them: of such groups a process can have one kind."""
    return one[0].launch.ranks, one[0].engine.partition != "world"


def _ready(words: list[str]) -> tuple[Config, RunFolder]:
    config, folder, given = described(words)
    make_ready(config, folder, given)
    return config, folder


def _train(world: World, runs: Sequence[tuple[Config, RunFolder]]) -> None:
    for config, folder in runs:
        outcome = train(config, folder, world, StopRequest(folder.path))
        assert outcome.status == Status.FINISHED, f"{folder.path}: {outcome}"


if __name__ == "__main__":
    main(Path(sys.argv[1]))
