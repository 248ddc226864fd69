"""What a launch will write and run, before anything is written or run."""

from __future__ import annotations

import os
import shlex
import sys
from dataclasses import dataclass, field
from pathlib import Path

from launch.quoting import printable
from trainer.books.cost_records import FOLDER
from trainer.plugins import VARIABLE as PLUGINS
from trainer.utils.command_line import command_line

HOME = Path(__file__).resolve().parent.parent  # the folder that holds trainer, kernels and launch
ALONE = ".preflight-"  # how the folder of a preflight begins that no run follows; it lies in the root


def booked_at(run: Path) -> Path:
    """Where lies what the processes of a launch spend that no meter of a rank reads: in the run's folder, or with the
    root where a preflight has a folder only while it lasts."""
    return run.parent / FOLDER if run.name.startswith(ALONE) else run


@dataclass(frozen=True)
class Resources:
    """What a plan must know of the place where it is made. Of the environment, only where data and plugins lie."""

    python: str = sys.executable
    home: Path = HOME
    folder: Path = field(default_factory=Path.cwd)  # relative paths of the configuration start here
    cache: str | None = field(default_factory=lambda: os.environ.get("ISOFLOP_CACHE"))
    plugins: str | None = field(default_factory=lambda: os.environ.get(PLUGINS))
    command: str = field(
        default_factory=command_line
    )  # the start of a line that goes on with a run, as a shell reads it

    asks: bool = True  # the queue about its nodes and the books about the price: both differ between hosts

    @property
    def variables(self) -> dict[str, str]:
        """What the ranks are to find in their environment."""
        found = {"ISOFLOP_CACHE": self.cache, PLUGINS: self.plugins}
        return {name: value for name, value in found.items() if value}


@dataclass(frozen=True)
class Command:
    """Words to run, here or on another host."""

    words: tuple[str, ...]
    host: str | None = None

    def __post_init__(self) -> None:
        for word in (*self.words, self.host or ""):
            printable(word, "a word of the launch")

    @property
    def text(self) -> str:
        """As a shell reads it."""
        return shlex.join(self.words)


@dataclass(frozen=True)
class LaunchPlan:
    """Files by path, then commands in order. `note` says what a person has to do, if anything."""

    commands: tuple[Command, ...]
    files: dict[Path, str] = field(default_factory=dict)
    note: str = ""

    @property
    def text(self) -> str:
        """Exactly what would be written and run."""
        lines = []
        for path, content in self.files.items():
            lines += [f"# file {path}", content.rstrip("\n"), ""]
        for command in self.commands:
            lines += [f"# on {command.host}" if command.host else "# here", command.text, ""]
        return "\n".join([*lines, *([f"# {self.note}", ""] if self.note else [])])
