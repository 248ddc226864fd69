"""`isoflop profile`: a short run under PyTorch's profiler; what was measured beside what the books expect."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from trainer.books.fitting import fit
from trainer.books.machine import known_machine
from trainer.config import Config
from trainer.descriptions.launchers import LAUNCHERS
from trainer.meter.costs import handed_over
from trainer.run.place import torchrun_rank, under_torchrun
from trainer.run.profile_table import Rank, compared, format_profile, spread, to_json
from trainer.run.profiled_rank import ASIDE, MEASURED, file_names, profiled_rank, traced_steps
from trainer.run.start import described, make_ready, printed_aside
from trainer.run_folder import RunFolder
from trainer.trackers.jsonl import append_event
from trainer.trackers.records import Event
from trainer.training.step_profile import UNTOUCHED
from trainer.utils.errors import UserError
from trainer.utils.files import write_atomic
from trainer.utils.outcomes import ExitCode, Status

# What a profile is run with where nothing else is said.
QUIET = (
    "run.experiment=profile",
    "evaluation.every_steps=null",
    "evaluation.samples=8",
    "checkpoint.every_steps=null",
    "tracker.console=none",
    "engine.compile=false",
)
SET = ("budget.", "budget=")  # words that a profile sets by itself
OTHERS = ("resume=", "from=", "new_science=")  # words of a run that goes on from another
WAIT_SECONDS = 300.0  # for the slowest rank's files, once the first has written its own


def profile(words: Sequence[str], steps: int, *, as_json: bool = False) -> int:
    """Run, compare, write the files into the run's folder, and print the table; returns an exit code.

    Raises UserError for words that a profile sets by itself, a launch that is not of this host, a run that is there
    already, and a step that does not fit into memory; Interrupted at a stop signal.
    """
    words = _with_quiet(words, steps)
    if under_torchrun():
        return _under_torchrun(words, as_json=as_json)
    with printed_aside() if as_json else contextlib.nullcontext():
        config, folder = _ready(words)
        with _complete_or_absent(folder):
            code = _ranks(config, folder.path)
            found = _compared(config, folder) if code == ExitCode.DONE else None
    if found is not None:
        print(found[0] if as_json else found[1])
    return code


def _with_quiet(words: Sequence[str], steps: int) -> list[str]:
    for word in words:
        if word.startswith(OTHERS):
            raise UserError(f"profile: {word}: a profile is a run of its own; leave it out")
        if word.lstrip("+~").startswith(SET):
            raise UserError(f"profile: {word}: steps={steps} says how many steps there are; leave it out")
    given = {word.lstrip("+~").partition("=")[0] for word in words}
    quiet = [word for word in QUIET if word.partition("=")[0] not in given]
    return [*quiet, f"budget.steps={UNTOUCHED + steps + 1}", *words]


def _ready(words: list[str]) -> tuple[Config, RunFolder]:
    """The run, checked and frozen. Raises UserError before anything is written."""
    config, folder, overrides = described(words)
    name = config.launch.name
    if not LAUNCHERS[name].trains:
        raise UserError(
            f"launch={name}: profile looks at ranks of this host; take launch=local with launch.processes, or, on the "
            "nodes of a job, torchrun ... -m trainer profile ..."
        )
    if folder.config.is_file():
        raise UserError(f"run.id: {folder.path} is a run already; a profile has a new one: choose another run.id")
    if (needed := fit(known_machine(config).config)).fits is False:
        raise UserError(f"profile: the step {needed.text.replace(', so that it has no price', '')}")
    make_ready(config, folder, overrides)
    return config, folder


def _ranks(config: Config, run: Path) -> int:
    """Train on this host's ranks; returns the exit code."""
    from launch.agent import Rendezvous, run_agent
    from launch.local import check_local

    if config.launch.preflight and (code := check_local(config, run)) != ExitCode.DONE:
        return code
    if config.launch.processes > 1:
        return run_agent(config, run, Rendezvous(), "trainer.run.profiled_rank")
    os.environ.update(config.launch.environment)
    with handed_over():
        return profiled_rank(run)


def _under_torchrun(words: list[str], *, as_json: bool) -> int:
    """The same as one of the ranks that torchrun has started."""
    here = torchrun_rank()
    with printed_aside() if as_json else contextlib.nullcontext():
        path = here.folder(lambda ranks: _ready([*words, f"launch.processes={ranks}"])[1].path)
        if path is None:  # the first rank said what is wrong
            return ExitCode.BAD_INPUT
        folder = RunFolder(path)
        with _complete_or_absent(folder) if here.is_first else contextlib.nullcontext():
            with handed_over():
                mine = profiled_rank(path)
            code = max(here.done(mine, WAIT_SECONDS))
            done = here.is_first and code == ExitCode.DONE
            found = _compared(folder.load_config(), folder) if done else None
    if found is not None:
        print(found[0] if as_json else found[1])
    return code


@contextlib.contextmanager
def _complete_or_absent(folder: RunFolder) -> Iterator[None]:
    """What the ranks have made aside is a profile by the end of this, or nothing is left of it."""
    try:
        yield
    except KeyboardInterrupt:
        events = folder.events_read()
        if events:
            step, text = events[-1].get("step", 0), "interrupted; there is no profile"
            append_event(folder.path, Event(Status.STOPPED, time.time(), step, text, {}, folder.attempts() - 1))
        raise
    finally:
        shutil.rmtree(folder.path / ASIDE, ignore_errors=True)


def _compared(config: Config, folder: RunFolder) -> tuple[str, str]:
    """Make the folder with the profile of what the ranks wrote; what to print of it, as JSON and as text."""
    aside, place, count = folder.path / ASIDE, folder.profile, config.launch.ranks
    ranks = [Rank.read(aside / MEASURED.format(rank)) for rank in range(count)]
    rows, over = compared(config, ranks[0]), spread(ranks)
    found: dict[str, Any] = {"run": str(folder.path), "steps": traced_steps(config), **to_json(rows, over, ranks)}
    text = json.dumps(found, indent=1)
    for rank in range(count):
        (aside / MEASURED.format(rank)).unlink()
    write_atomic(aside / "profile.json", text)
    aside.rename(place)
    there = {what: place / name for what, name in file_names(0, count).items()}
    files = {what: file for what, file in there.items() if file.is_file()} | {"figures": place / "profile.json"}
    return text, format_profile(rows, over, ranks, files)
