"""What each launcher does: plan a launch, start it, look after its jobs, end them, and check its nodes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from launch.plan import LaunchPlan, Resources
from trainer.config import Config
from trainer.descriptions.launchers import LAUNCHERS
from trainer.utils.errors import UserError
from trainer.utils.secrets import refuse_secrets


@dataclass(frozen=True)
class JobState:
    """A job that its queue still knows."""

    text: str  # the queue's word for it
    live: bool  # whether it runs or will run
    reason: str = ""  # the queue's word for why it waits, or why it ended as it did


# What a launcher has to do itself where its description says so.
METHODS = {"arrays": ("plan_array", "submit_array"), "queues": ("is_job", "states", "cancel")}


class Launcher(ABC):
    """One way to start ranks. One without arrays leaves the methods about arrays, one without a queue those about jobs;
    what their descriptions say is asked before these are called."""

    def require(self) -> None:  # noqa: B027 - most need nothing
        """Raise UserError where nothing can be started from this host. Called before any folder is made."""

    @abstractmethod
    def plan(self, config: Config, run: Path, place: Resources, folder: Path) -> LaunchPlan:
        """What a launch of `config` in the folder `run` would write and run; files of this launch go to `folder`.
        Touches nothing, and the folders need not exist."""

    @abstractmethod
    def start(self, config: Config, run: Path, plan: LaunchPlan, folder: Path) -> int:
        """Do what `plan` says and write the launch down in `folder` (launch.records); returns an exit code."""

    def plan_array(self, configs: Sequence[Config], runs: Sequence[Path], folder: Path, place: Resources) -> LaunchPlan:
        """The same of a sweep's runs as one array, whose files go to `folder`. Of launchers with `arrays` only."""
        raise UserError(f"{type(self).__name__} has no arrays")

    def submit_array(self, configs: Sequence[Config], runs: Sequence[Path], plan: LaunchPlan, folder: Path) -> str:
        """Do what `plan` says, and write a launch down in every run. Returns the job's id."""
        raise UserError(f"{type(self).__name__} has no arrays")

    def is_job(self, word: str) -> bool:
        """Whether a word that was read from a file can be the id of a job."""
        return False

    def states(self, jobs: Sequence[str]) -> dict[str, JobState]:
        """The state of each job that the queue still knows. Empty where there is no queue."""
        return {}

    def cancel(self, jobs: Sequence[str]) -> None:
        """End these jobs. Raises UserError in the queue's own words."""
        raise UserError(f"{type(self).__name__} has no jobs to end")

    def require_reach(self, config: Config) -> None:  # noqa: B027
        """Raise UserError where preflight cannot reach the nodes of such a launch from here."""

    @abstractmethod
    def preflight(self, config: Config, run: Path) -> int:
        """Check every node with as many ranks as the launch would have, and train nothing; returns an exit code. What
        was found is then in `run / "preflight.json"`."""


def launcher_of(name: str) -> Launcher:
    """The launcher of this name. Raises UserError where there is none, or where it lacks a method."""
    implementation, description = LAUNCHERS.implementation(name), LAUNCHERS[name]
    said = [method for flag, methods in METHODS.items() if getattr(description, flag) for method in methods]
    left = [method for method in said if getattr(implementation, method, None) is getattr(Launcher, method)]
    if missing := sorted({*getattr(implementation, "__abstractmethods__", ()), *left}):
        raise UserError(f"launcher {name}: {description.implementation} lacks {', '.join(missing)}")
    made: Launcher = implementation()
    return made


def show(plan: LaunchPlan) -> None:
    """Print what would be written and run. Raises UserError where a secret would be written down."""
    refuse_secrets({"the launch": plan.text})
    print(plan.text, end="")
