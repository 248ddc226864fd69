"""A run is a folder: its files, its lock, and what the machine was like."""

from __future__ import annotations

import fcntl
import json
import os
import platform
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any, TypeVar

from trainer import __version__
from trainer.config import Config, load
from trainer.config.host import processor
from trainer.config.numerics import asked, tag
from trainer.utils.bounded import no_file, parse_json
from trainer.utils.command_line import command_line, current_folder
from trainer.utils.errors import UserError, left_out
from trainer.utils.files import write_atomic
from trainer.utils.folder_lock import HELD, HeldLock, holder_of, take_lock
from trainer.utils.home import expanded
from trainer.utils.outcomes import SAID
from trainer.utils.which_weights import NEWEST, parse

PACKAGES = ("torch", "deepspeed", "triton", "numpy", "sentencepiece", "safetensors", "wandb", "hydra-core")
MARKS = frozenset(("config.yaml", "metrics.jsonl", "events.jsonl", "environment.json"))  # what makes a folder a run's
REPORT = ("report.html", "card.md", "pricetag.json")
LAST_WORDS = (*SAID, "lost", "hang")  # events with which an attempt ends
Made = TypeVar("Made")


class RunFolder:
    """Names in one place: who asks for a file of a run asks here."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = path / "config.yaml"
        self.environment = path / "environment.json"
        self.plan = path / "plan.json"
        self.second_plan = path / "plan-measured.json"  # after the first steps, by their times
        self.overrides = path / "overrides.json"
        self.metrics = path / "metrics.jsonl"
        self.events = path / "events.jsonl"
        self.checkpoints = path / "checkpoints"
        self.tokenizer = path / "tokenizer.model"
        self.hub = path / "hub"  # of an imported model: what its folder held beside the weights
        self.initial = path / "init"  # of a run that began from another one's weights: these, as its model has them
        self.lineage = path / "lineage.json"  # and whose they are
        self.logs = path / "logs"
        self.profile = path / "profile"  # of a run of `isoflop profile`
        self._lock = path / ".lock"

    def load_config(self) -> Config:
        """A tokenizer that is no longer where the configuration says is read from the run's own copy.

        Raises UserError where this is not a run folder."""
        if not self.config.is_file():
            raise UserError(not_a_run(self.path))
        config = load(self.config)
        given = config.tokenizer.path
        if given is None or expanded(given).exists() or not self.tokenizer.is_file():
            return config
        return config.model_copy(
            update={"tokenizer": config.tokenizer.model_copy(update={"path": str(self.tokenizer)})}
        )

    def lock(self, instead: str = "run.id") -> HeldLock:
        """Hold the folder until this process ends, however it ends. Raises UserError when a live process holds it, and
        names the key that leads to another folder."""

        def refused(by: str) -> UserError:
            return UserError(f"{self.path}: in use by {by}; wait for it, stop it, or choose another {instead}")

        return take_lock(self._lock, refused)

    def holder(self) -> str | None:
        """The process that holds the folder now, or null. Raises OSError where the lock cannot be read."""
        if no_file(self._lock):
            return None
        try:
            with open(self._lock) as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                except OSError as error:
                    return (holder_of(file) or "another process") if error.errno in HELD else None
        except FileNotFoundError:
            pass
        return None

    def hang_record(self, attempt: int, rank: int) -> Path:
        """What a rank left behind of a hang."""
        return self.path / f"hang-{attempt}-rank{rank}.json"

    def command(self, *words: str) -> str:
        """The line for a shell that runs these words, with the plugins of this command; where the run's configuration
        names files relative to the working directory, the line goes there first."""
        from trainer.plugins import named_again  # not above: a stop during imports needs this module early

        return command_line(*words, *named_again(), folder=current_folder() if self._reads_relative_paths() else None)

    def _reads_relative_paths(self) -> bool:
        try:
            config = load(self.config)
        except (OSError, ValueError):
            return False
        tasks = config.data.tasks.values()
        read = [
            *config.data.places,
            *(path for task in tasks for path in (*task.train, *task.held_out, task.set_file)),
            *config.task.train,
            *config.task.held_out,
            config.tokenizer.path,
            config.run.cache,
        ]
        return any(path and "://" not in path and not expanded(path).is_absolute() for path in read)

    def attempts(self) -> int:
        """How often the run was started before."""
        return sum(name in ("start", "resume") for name in self._event_names())

    def ended_in_silence(self) -> bool:
        """Whether the newest attempt has no end in the logbook, as after kill -9 of its first rank."""
        names = self._event_names()
        return bool(names) and names[-1] not in LAST_WORDS

    def _event_names(self) -> list[str]:
        return [event["name"] for event in self.events_read() if event.get("name") is not None]

    def events_read(self) -> list[dict[str, Any]]:
        """The logbook, without lines that a kill tore."""
        try:
            lines = [] if no_file(self.events) else self.events.read_text(errors="replace").splitlines()
        except OSError:
            return []
        return [event for line in lines if isinstance(event := _json(line), dict)]

    def numerics(self, config: Config, before: int | None = None) -> list[str]:
        """The tags of the arithmetic that the run was trained in, the newest last; none where no file tells. Those of
        a branch begin with its trunk's.

        before: of attempts before this one. Attempts of 0.1.0 said it in their first event.
        """
        from trainer.books.branch import read_branch  # the books are for few verbs, and this module for all

        stated = {entry.get("attempt"): entry.get("numerics") for entry in read_entries(self.environment)}
        trunk = read_branch(self.path) or {}
        tags = str(trunk["numerics"]).split(", then ") if trunk.get("numerics") else []
        for event in self.events_read():
            if event.get("name") not in ("start", "resume"):
                continue
            if before is not None and event.get("attempt", 0) >= before:
                break
            values, said = stated.get(event.get("attempt", 0)), re.search(r" in (fp32|bf16)$", str(event.get("text")))
            if isinstance(values, dict):
                tags.append(tag(values))
            elif said:
                tags.append(tag(asked(config) | {"engine.precision": said[1]}))
        if not tags and before is None and config.engine.precision != "auto":
            tags.append(tag(asked(config)))
        return [one for number, one in enumerate(tags) if number == 0 or one != tags[number - 1]]

    def remove_report(self) -> None:
        """Of an attempt that another one follows: what it says is no longer so."""
        for name in REPORT:
            (self.path / name).unlink(missing_ok=True)

    def write_environment(self, attempt: int, facts: dict[str, Any]) -> None:
        """environment.json: one entry an attempt, with versions, host, devices and the state of the code."""
        _add_entry(self.environment, {"attempt": attempt, "time": time.time(), **environment(), **facts})

    def write_overrides(self, words: list[str]) -> None:
        """overrides.json: one entry a command."""
        _add_entry(self.overrides, {"time": time.time(), "overrides": words})


def not_a_run(path: Path) -> str:
    """A line about a folder in which there is no configuration of a run."""
    wrong = no_file(path / "config.yaml")
    why = wrong if (wrong and (path / "config.yaml").is_symlink()) or (path / "config.yaml").exists() else None
    return f"{path}: no run folder ({f'config.yaml: {why}' if why else 'it has no config.yaml'})"


def read_entries(path: Path) -> list[dict[str, Any]]:
    """The entries of a file that has one for every attempt; none where it is missing or damaged."""
    try:
        entries = None if no_file(path) else parse_json(path.read_text())
    except (OSError, ValueError):
        return []
    return [entry for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []


def _add_entry(path: Path, entry: dict[str, Any]) -> None:
    write_atomic(path, json.dumps([*read_entries(path), entry], indent=1))


def _json(line: str) -> Any:
    try:
        return parse_json(line)
    except ValueError:  # torn by a kill
        return None


def find_run(name: str, root: str) -> RunFolder:
    """A run by path, or by `<experiment>/<id>` or `<id>` under the root. Raises UserError when there is none."""
    for path in (expanded(name), Path(root) / name, *sorted(Path(root).glob(f"*/{name}"))):
        if (path / "config.yaml").is_file():
            return RunFolder(path.resolve())
    known = sorted(str(path.parent) for path in Path(root).glob("*/*/config.yaml"))
    newest = f"; the newest here is {max(known, key=lambda run: os.lstat(run).st_mtime)}" if known else ""
    if set("@:") & set(Path(name).name):
        of_its = parse(name)[1] != NEWEST  # that the caller did not take off
        newest += "; name the run alone" if of_its else "; a step stands behind it as @400, an average as :ema"
    raise UserError(f"{name or repr(name)}: no run folder of that name, nor under {root}{newest}")


def find_runs(root: Path) -> list[Path]:
    """Every run folder at or below `root`, by name; also what a run left that lost its configuration."""
    found = []
    for folder, below, files in os.walk(root):
        if not MARKS.isdisjoint([*files, *below]):
            found.append(Path(folder))
            below.clear()  # what a run holds is its own
    return sorted(found)


def runs_of(root: Path) -> list[Path]:
    """The run folders <root>/<experiment>/<id>, by name; also those that lost their configuration, and links that lead
    nowhere."""
    return sorted(path for path in root.glob("*/*") if _may_be_run(path))


def _may_be_run(path: Path) -> bool:
    try:
        return any(inside.name in MARKS for inside in path.iterdir())
    except NotADirectoryError:
        return False
    except OSError:  # whoever reads it says what is wrong
        return True


def readable(runs: Iterable[Path], made: Callable[[Path], Made]) -> Iterator[Made]:
    """made(run) of each that can be read, whatever its files hold; of each other a line on standard error says why."""
    for run in runs:
        try:
            yield made(run)
        except (UserError, OSError) as error:
            left_out(f"{run.parent.name}/{run.name}", error)
        except Exception as error:  # files may hold anything
            left_out(f"{run.parent.name}/{run.name}", UserError(f"{run}: {type(error).__name__}: {error}"))


def environment() -> dict[str, Any]:
    """Versions, host and code state; nothing secret: no environment variables."""
    versions: dict[str, str | None] = {}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = None
    return {
        "isoflop": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "host": socket.gethostname(),
        "cpu": processor() or None,
        "cores": os.cpu_count(),
        "packages": versions,
        "git": _git_state(),
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
    }


def _git_state() -> dict[str, Any] | None:
    """Of the checkout that runs; None where the package is installed, be it inside another repository."""

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", "-C", str(Path(__file__).parent), *arguments], capture_output=True, text=True, check=True, timeout=5
        ).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", Path(__file__).name)
        return {"commit": git("rev-parse", "HEAD"), "modified": bool(git("status", "--porcelain", "-uno"))}
    except (OSError, subprocess.SubprocessError):
        return None
