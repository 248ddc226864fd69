"""torchrun's agents, on this host or on hosts that are named."""

from __future__ import annotations

from typing import Any

from trainer.descriptions.launchers import NodesDescription
from trainer.utils.schema import Paths, key
from trainer.utils.shell_values import VariableNames


class Torchrun(NodesDescription):
    name = "torchrun"
    help = "nodes that find each other: started over ssh, or by commands to paste"
    implementation = "launch.nodes:TorchrunLauncher"
    trains, queues, arrays = False, False, False

    class Keys(NodesDescription.Keys):
        pass_environment: VariableNames = key(
            (), "names of variables that go along over ssh, e.g. [WANDB_API_KEY]; never written"
        )
        hosts: Paths = key((), "the nodes; the first one hosts the rendezvous")
        port: int = key(29500, "port of the rendezvous on the first host; preflight takes the next one", ge=1, le=65534)
        ssh: bool = key(False, "start the nodes over ssh; else print a command to paste on each")

    def runs_here(self, group: Any) -> bool:
        return not group.hosts

    def misfits(self, group: Any) -> list[str]:
        wrong = []
        if group.hosts and len(group.hosts) != group.nodes:
            wrong.append(f"hosts: {len(group.hosts)} named, launch.nodes is {group.nodes}")
        if group.ssh and not group.hosts:
            wrong.append("ssh: name the hosts, e.g. launch.hosts=[node1,node2]")
        wrong += [
            f"hosts: {host!r} is no host: a dash would begin an option of ssh" if host else "hosts: a host has no name"
            for host in group.hosts
            if not host or host.startswith("-")
        ]
        if len(set(group.hosts)) != len(group.hosts):
            wrong.append("hosts: a host is named twice")
        if group.nodes > 1 and not group.hosts:
            wrong.append("hosts: name them, e.g. launch.hosts=[node1,node2]; the first one hosts the rendezvous")
        return wrong + super().misfits(group)
