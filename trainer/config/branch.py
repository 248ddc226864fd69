"""The group of branches: which run a run goes on from, in the middle of its training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, model_validator

from trainer.config.init import Sha256, place
from trainer.utils.schema import Section, key


class BranchConfig(Section):
    """The stable run, the trunk, that a run goes on from; null: it begins at its beginning.

    A branch is the run that would have trained from the beginning with its schedule: where it goes on from is where its
    state comes from, and no part of its science.
    """

    run: str | None = key(None, "folder of the trunk; short: branch=<run>@<step>", introduced=None)
    step: int | None = key(
        None, "of its checkpoint; null: the newest, then written down", "steps", ge=1, introduced=None
    )
    checkpoint: Sha256 | None = key(
        None, "sha256 of that checkpoint's manifest; written down where it is there by then", introduced=None
    )

    @property
    def given(self) -> bool:
        """Whether the run goes on from a checkpoint of another run."""
        return self.run is not None

    @model_validator(mode="after")
    def _of_a_run(self) -> BranchConfig:
        if self.run is None and self != BranchConfig.model_construct():
            raise ValueError("run: name the trunk, e.g. branch=runs/<experiment>/<id>@<step>")
        return self


def _named(value: Any) -> Any:
    if value is None or isinstance(value, Mapping | BranchConfig):
        return value
    if not isinstance(value, str):
        raise ValueError(f"run: {value!r} given, one run wanted, e.g. branch=runs/<experiment>/<id>@<step>")
    said = place(value)
    if average := said.pop("average", None):
        trunk = f"{said['run']}@{said['step']}" if "step" in said else said["run"]
        raise ValueError(f"run: a branch goes on from a checkpoint, not from the average {average!r}; name {trunk}")
    return said


Branch = Annotated[BranchConfig, BeforeValidator(_named, json_schema_input_type=BranchConfig | str)]
