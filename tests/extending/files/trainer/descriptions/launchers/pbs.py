"""Batch jobs under PBS, on one node."""

from __future__ import annotations

from typing import Any

from trainer.descriptions.launchers import LauncherDescription
from trainer.utils.schema import key
from trainer.utils.shell_values import Options


class Pbs(LauncherDescription):
    name = "pbs"
    help = "a batch job of PBS on one node"
    implementation = "launch.pbs:PbsLauncher"
    trains, queues, arrays = False, True, False

    class Keys(LauncherDescription.Keys):
        pbs: Options = key((), "options of qsub, e.g. ['-q gpu','-l walltime=1:00:00']")

    def misfits(self, group: Any) -> list[str]:
        return [] if group.nodes == 1 else [f"nodes: {group.nodes} given, and launch=pbs is one node"]
