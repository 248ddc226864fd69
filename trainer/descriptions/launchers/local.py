"""Ranks on this host."""

from __future__ import annotations

from typing import Any

from trainer.descriptions.launchers import LauncherDescription


class Local(LauncherDescription):
    name = "local"
    help = "ranks on this host"
    implementation = "launch.local:LocalLauncher"
    trains, queues, arrays = True, False, False

    def runs_here(self, group: Any) -> bool:
        return True

    def misfits(self, group: Any) -> list[str]:
        if group.nodes == 1:
            return []
        return [f"nodes: {group.nodes} given, and launch=local is this host; add launch=torchrun or launch=slurm"]
