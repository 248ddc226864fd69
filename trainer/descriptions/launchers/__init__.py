"""The launchers: how the ranks of a run are started, here or elsewhere."""

from __future__ import annotations

from typing import Any, ClassVar

from trainer.descriptions.registry import Description, Registry
from trainer.utils.schema import key
from trainer.utils.shell_values import ShellLines


class LauncherDescription(Description):
    """Its implementation is a class derived from `launch.launcher.Launcher`, made without arguments."""

    trains: ClassVar[bool]  # whether `isoflop train` starts such a run; `isoflop launch` starts every run
    queues: ClassVar[bool]  # whether the command returns before the run has ended
    arrays: ClassVar[bool]  # whether the runs of a sweep are started together, as one array

    def runs_here(self, group: Any) -> bool:
        """Whether the ranks run on the host of the command, by the values of the group `launch`."""
        return False


class NodesDescription(LauncherDescription):
    """What launchers over several nodes read alike."""

    class Keys(LauncherDescription.Keys):
        setup: ShellLines = key((), "shell lines before the ranks start, e.g. ['module load cuda']")
        python: str | None = key(None, "interpreter on the nodes; null: the one that runs this command")
        min_nodes: int | None = key(None, "go on with as few nodes as this (c10d); null: all", "nodes", ge=1)

    def misfits(self, group: Any) -> list[str]:
        wrong = []
        if group.min_nodes is not None and group.min_nodes > group.nodes:
            wrong.append(f"min_nodes: {group.min_nodes} is more than launch.nodes {group.nodes}")
        if group.min_nodes is not None and group.rendezvous == "static":
            wrong.append("min_nodes: a static rendezvous waits for all nodes; take launch.rendezvous=c10d")
        return wrong


LAUNCHERS: Registry[LauncherDescription] = Registry(
    "launcher", "trainer.descriptions.launchers", LauncherDescription, chosen_by="launch"
)
