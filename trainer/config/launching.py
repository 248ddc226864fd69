"""The group `launch`: from one command to processes, on this host, over torchrun's nodes, or under SLURM."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, field_validator, model_validator

from trainer.config.choice import Choosing, with_keys
from trainer.config.window import a_window
from trainer.descriptions.launchers import LAUNCHERS
from trainer.utils.schema import CONTROL, key
from trainer.utils.secrets import is_secret_name
from trainer.utils.shell_values import VARIABLE, Text


@with_keys
class LaunchConfig(Choosing):
    """From one command to processes: how many, where, and how they are started again."""

    CHOICES: ClassVar = {"name": LAUNCHERS}

    name: str = key("local", "launcher")
    nodes: int = key(1, "hosts", "nodes", ge=1)
    processes: int = key(1, "ranks on every host", "processes", ge=1)
    gpus_per_node: int | None = key(None, "GPUs of every host, one rank each: sets launch.processes", "GPUs", ge=1)
    uneven: bool = key(False, "let ranks wait for others where nodes x processes do not divide the batch")
    timeout_seconds: float = key(1800.0, "a collective that takes longer is an error", "s", gt=0)
    restarts: int = key(0, "times that lost ranks are started again on the nodes at hand", "restarts", ge=0)
    preflight: bool = key(False, "check every node before training: devices, versions, disk, a matmul, an all-reduce")
    save_seconds: int = key(120, "from the signal before the end (USR2, TERM) to the end: time to save", "s", ge=1)
    window: Annotated[str, AfterValidator(a_window)] | None = key(
        None,
        "when the run works, else it pauses at a checkpoint: clean:<g/kWh> of site.curve, or hours (UTC) as 22-06",
        introduced=None,
    )
    environment: dict[str, Text] = key({}, "variables of every rank, e.g. launch.environment.NCCL_SOCKET_IFNAME=eth0")
    rendezvous: Literal["c10d", "static"] = key("c10d", "how nodes find each other; c10d lets a lost node come back")
    rendezvous_seconds: int = key(600, "wait this long for the first host, and for all nodes", "s", ge=1)

    @property
    def ranks(self) -> int:
        """Processes of the whole run."""
        return self.nodes * self.processes

    @property
    def is_here(self) -> bool:
        """Whether the ranks run on the host of the command."""
        return LAUNCHERS[self.name].runs_here(self)

    @field_validator("environment")
    @classmethod
    def _nothing_secret(cls, variables: dict[str, str]) -> dict[str, str]:
        for name in variables:
            if not VARIABLE.fullmatch(name):
                raise ValueError(f"{name!r} is no name of a variable")
            if is_secret_name(name):
                raise ValueError(
                    f"{name} looks like a secret, and this is written down; export it where you launch (SLURM takes "
                    f"it along) or name it in launch.pass_environment"
                )
        return variables

    @model_validator(mode="after")
    def _agrees(self) -> LaunchConfig:
        if self.gpus_per_node is not None:
            self.__dict__["processes"] = self.gpus_per_node
        if wrong := self._unprintable():
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
