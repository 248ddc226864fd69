"""The group `launch`: from one command to processes, on this host, over torchrun's nodes, or under SLURM."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, field_validator, model_validator

from trainer.utils.schema import CONTROL, Paths, Section, key

# TOKENIZERS_PARALLELISM is no secret, HF_TOKEN and WANDB_API_KEY are.
SECRET_NAME = re.compile(r"(^|_)(KEY|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIALS?)($|_)", re.IGNORECASE)
LITERAL = re.compile(r"""\b([A-Za-z_]\w*)=["']?[^\s"'$`]""")  # name=value, where no shell looks the value up
SLURM_TIME = re.compile(r"\d+|\d+:\d\d|\d+:\d\d:\d\d|\d+-\d+(:\d\d(:\d\d)?)?")

Text = Annotated[str, BeforeValidator(lambda value: str(value) if type(value) in (int, float) else value)]


class LaunchConfig(Section):
    """From one command to processes: how many, where, and how they are started again."""

    name: Literal["local", "torchrun", "slurm"] = key("local", "launcher")
    nodes: int = key(1, "hosts", "nodes", ge=1)
    processes: int = key(1, "ranks on every host", "processes", ge=1)
    gpus_per_node: int | None = key(None, "GPUs of every host, one rank each: sets launch.processes", "GPUs", ge=1)
    uneven: bool = key(False, "let ranks wait for others where nodes x processes do not divide the batch")
    timeout_seconds: float = key(1800.0, "a collective that takes longer is an error", "s", gt=0)
    restarts: int = key(0, "times that lost ranks are started again on the nodes at hand", "restarts", ge=0)
    preflight: bool = key(False, "check every node before training: devices, versions, disk, a matmul, an all-reduce")
    save_seconds: int = key(120, "from the signal before the end (USR2, TERM) to the end: time to save", "s", ge=1)

    # What every rank finds when it starts.
    environment: dict[str, Text] = key({}, "variables of every rank, e.g. launch.environment.NCCL_SOCKET_IFNAME=eth0")
    pass_environment: Paths = key((), "names of variables that go along over ssh, e.g. [WANDB_API_KEY]; never written")
    setup: Paths = key((), "shell lines before the ranks start, e.g. ['module load cuda']")
    python: str | None = key(None, "interpreter on the nodes; null: the one that runs this command")

    # torchrun
    rendezvous: Literal["c10d", "static"] = key("c10d", "how nodes find each other; c10d lets a lost node come back")
    hosts: Paths = key((), "the nodes; the first one hosts the rendezvous")
    port: int = key(29500, "port of the rendezvous on the first host; preflight takes the next one", ge=1, le=65534)
    min_nodes: int | None = key(None, "go on with as few nodes as this (c10d); null: all", "nodes", ge=1)
    rendezvous_seconds: int = key(600, "wait this long for the first host, and for all nodes", "s", ge=1)
    ssh: bool = key(False, "start the nodes over ssh; else print a command to paste on each")

    # SLURM
    starter: Literal["srun", "torchrun"] = key("srun", "srun: one task per rank; torchrun: one task per node")
    partition: str | None = key(None, "sbatch --partition")
    account: str | None = key(None, "sbatch --account")
    qos: str | None = key(None, "sbatch --qos")
    constraint: str | None = key(None, "sbatch --constraint")
    exclude: Paths = key((), "nodes that must not be used")
    time: Text | None = key(None, "wall limit, minutes or [days-]hours:minutes:seconds; null: the partition's own")
    gres: str | None = key(None, "sbatch --gres in place of --gpus-per-node, e.g. gpu:a100:8")
    memory: Text | None = key(None, "sbatch --mem, of every node, e.g. 200G; 0: all")
    cpus_per_rank: int | None = key(None, "sbatch --cpus-per-task", "CPUs", ge=1)
    sbatch: Paths = key((), "more sbatch options, e.g. ['--exclusive','--comment=a b']")
    srun: Paths = key((), "more srun options, e.g. ['--cpu-bind=cores']")
    requeues: int = key(10, "times that a job may be put back into the queue, for whatever reason", "requeues", ge=0)
    chain: int = key(1, "jobs that follow each other in the same run folder (--dependency=singleton)", "jobs", ge=1)
    array_limit: int | None = key(None, "of a sweep's array, jobs at once (%N)", "jobs", ge=1)
    container: Literal["pyxis", "apptainer"] | None = key(None, "how ranks enter a container; null: none")
    image: str | None = key(None, "container image")
    mounts: Paths = key((), "container mounts, host:container[:options]")

    @property
    def ranks(self) -> int:
        """Processes of the whole run."""
        return self.nodes * self.processes

    @property
    def is_here(self) -> bool:
        """Whether the ranks run on the host of the command."""
        return self.name == "local" or (self.name == "torchrun" and not self.hosts)

    @field_validator("environment")
    @classmethod
    def _nothing_secret(cls, variables: dict[str, str]) -> dict[str, str]:
        for name in variables:
            if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
                raise ValueError(f"{name!r} is no name of a variable")
            if SECRET_NAME.search(name):
                raise ValueError(
                    f"{name} looks like a secret, and this is written down; export it where you launch (SLURM takes "
                    f"it along) or name it in launch.pass_environment"
                )
        return variables

    @field_validator("setup", "sbatch", "srun")
    @classmethod
    def _no_secret_in_a_line(cls, lines: tuple[str, ...]) -> tuple[str, ...]:
        for name in (name for line in lines for name in LITERAL.findall(line) if SECRET_NAME.search(name)):
            raise ValueError(
                f"{name} looks like a secret, and this is written down; export it where you launch, or read it on the "
                f"nodes, e.g. {name}=$(cat file)"
            )
        return lines

    @field_validator("sbatch", "srun")
    @classmethod
    def _options(cls, options: tuple[str, ...]) -> tuple[str, ...]:
        for option in options:
            if not option.startswith("-"):
                raise ValueError(f"{option!r} is no option; they begin with dashes, e.g. ['--exclusive']")
        return options

    @field_validator("pass_environment")
    @classmethod
    def _names(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
                raise ValueError(f"names of variables wanted, without values; {name.partition('=')[0]!r} is none")
        return names

    @field_validator("time")
    @classmethod
    def _slurm_time(cls, time: str | None) -> str | None:
        if time is not None and not SLURM_TIME.fullmatch(time):
            raise ValueError(f"{time!r} given; minutes, hours:minutes:seconds or days-hours:minutes:seconds wanted")
        return time

    @model_validator(mode="after")
    def _agrees(self) -> LaunchConfig:
        if self.gpus_per_node is not None:
            self.__dict__["processes"] = self.gpus_per_node
        wrong = []
        if self.name == "local" and self.nodes > 1:
            wrong.append(
                f"nodes: {self.nodes} given, and launch=local is this host; add launch=torchrun or launch=slurm"
            )
        if self.hosts and self.name != "torchrun":
            wrong.append(f"hosts: launch={self.name} does not read them; launch=torchrun does")
        elif self.hosts and len(self.hosts) != self.nodes:
            wrong.append(f"hosts: {len(self.hosts)} named, launch.nodes is {self.nodes}")
        if self.ssh and self.name == "torchrun" and not self.hosts:
            wrong.append("ssh: name the hosts, e.g. launch.hosts=[node1,node2]")
        wrong += [
            f"hosts: {host!r} is no host: a dash would begin an option of ssh" if host else "hosts: a host has no name"
            for host in self.hosts
            if not host or host.startswith("-")
        ]
        if len(set(self.hosts)) != len(self.hosts):
            wrong.append("hosts: a host is named twice")
        if self.name == "torchrun" and self.nodes > 1 and not self.hosts:
            wrong.append("hosts: name them, e.g. launch.hosts=[node1,node2]; the first one hosts the rendezvous")
        if self.min_nodes is not None and self.min_nodes > self.nodes:
            wrong.append(f"min_nodes: {self.min_nodes} is more than launch.nodes {self.nodes}")
        if self.min_nodes is not None and self.rendezvous == "static":
            wrong.append("min_nodes: a static rendezvous waits for all nodes; take launch.rendezvous=c10d")
        if self.container and not self.image:
            wrong.append(f"image: launch.container={self.container} needs one")
        if self.image and not self.container:
            wrong.append("image: say how to enter it, launch.container=pyxis or apptainer")
        if self.chain > 1 and self.array_limit is not None:
            wrong.append("array_limit: a chain is one run; a sweep is an array")
        wrong += self._unprintable()
        if wrong:
            raise ValueError("\n".join(wrong))
        return self

    def _unprintable(self) -> list[str]:
        """A line break in a value would end a line of a script or of an #SBATCH header."""

        def texts(value: Any) -> list[str]:
            if isinstance(value, dict):
                return [*value.values()]
            return [*value] if isinstance(value, tuple) else [value] if isinstance(value, str) else []

        return [
            f"{name}: {text!r} holds a line break or another control character"
            for name, value in self.__dict__.items()
            for text in texts(value)
            if CONTROL.search(text)
        ]
