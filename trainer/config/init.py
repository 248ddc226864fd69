"""The group of continued pre-training: whose weights a run begins from."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, model_validator

from trainer.utils.schema import Section, key
from trainer.utils.which_weights import parse

Sha256 = str


class InitConfig(Section):
    """The trained weights that a new run begins from; null: it begins from random ones."""

    run: str | None = key(
        None, "folder of a run or of an imported model; short: init=<run>@<step>:<average>", introduced=None
    )
    step: int | None = key(
        None, "of its checkpoint; null: the newest intact one, then written down", "steps", ge=0, introduced=None
    )
    average: str | None = key(
        None, "average of its weights, as optim.averages or isoflop merge names it; null: the weights", introduced=None
    )
    weights: Sha256 | None = key(None, "sha256 of those weights; written down, and their identity", introduced=None)
    tokenizer: Sha256 | None = key(
        None, "sha256 of its tokenizer, where this run reads with the same one; written down", introduced=None
    )

    @property
    def given(self) -> bool:
        """Whether the run begins from weights of another run."""
        return self.run is not None

    @model_validator(mode="after")
    def _of_a_run(self) -> InitConfig:
        if self.run is None and self != InitConfig.model_construct():
            raise ValueError("run: name the run, e.g. init=runs/<experiment>/<id>")
        return self


def place(run: str) -> dict[str, Any]:
    """What `init=<run>`, `<run>@<step>` and `<run>@<step>:<average>` say. A path that has such an end itself is told by
    `init.run`."""
    name, which = parse(run)
    stated = {"step": which.step, "average": which.average}
    return {"run": name, **{key: value for key, value in stated.items() if value is not None}}


def _named(value: Any) -> Any:
    return place(value) if isinstance(value, str) else value


Init = Annotated[InitConfig, BeforeValidator(_named, json_schema_input_type=InitConfig | str)]
