"""`optim.decay`: the end of a schedule that holds its rate, said apart from it (Zhai et al. 2022; Hu et al. 2024).

A configuration holds the pieces that it comes to (`optim.schedule=pieces`), so that one schedule has one identity,
however it was said.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, TypeAdapter, ValidationError, model_validator

from trainer.utils.schema import Count, Section, key

HOLDS = ("constant", "inverse_sqrt")  # shapes of pieces off which a rate can decay
LENGTHS = ("steps", "share", "tokens")
WARMUP = {"shape": "warmup", "share": 0.1, "most": 2000}  # what optim.warmup_steps=null stands for


class DecayConfig(Section):
    """How the rate falls at the end of a schedule that held it until then."""

    shape: Literal["linear", "cosine", "sqrt"] = key("linear", "linear, cosine or sqrt (1 - sqrt), down to `to`")
    steps: Count | None = key(None, "its length", "steps", ge=1)
    share: float | None = key(None, "its length as a share of the run's steps", gt=0, lt=1)
    tokens: Count | None = key(None, "its length, rounded up to whole steps", "tokens", ge=1)
    to: float = key(0.0, "share of the peak rate at its last step", ge=0, lt=1)

    @model_validator(mode="after")
    def _one_length(self) -> DecayConfig:
        stated = [name for name in LENGTHS if getattr(self, name) is not None]
        if len(stated) != 1:
            got = " and ".join(stated) or "none"
            raise ValueError(f"steps: state exactly one of {', '.join(LENGTHS)}, got {got}")
        return self

    def piece(self, steps: int | None = None) -> dict[str, Any]:
        """As the last piece of a schedule; steps: its length, where it is known by now."""
        stated = (
            {"steps": self.steps, "share": self.share, "tokens": self.tokens} if steps is None else {"steps": steps}
        )
        length = {unit: value for unit, value in stated.items() if value is not None}
        return {"shape": self.shape, **length, **({"to": self.to} if self.to else {})}


def _length(value: Any) -> Any:
    """`0.2` is a share of the run, `200` are steps."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return value
    return {"share": value} if isinstance(value, float) and not value.is_integer() else {"steps": value}


Decay = Annotated[DecayConfig, BeforeValidator(_length, json_schema_input_type=DecayConfig | int | float | str)]
_DECAY: TypeAdapter[DecayConfig] = TypeAdapter(Decay)


def read_decay(value: Any) -> DecayConfig:
    """What the words of `optim.decay` say. Raises pydantic's ValidationError."""
    return _DECAY.validate_python(value)


def with_decay(optim: dict[str, Any]) -> dict[str, Any]:
    """The plain data of the optimizer's group with its decay as the last piece of the schedule.

    Raises ValueError where the schedule falls by itself. A decay that is not understood is left for the schema to tell.
    """
    if optim.get("decay") is None:
        return optim
    try:
        decay = read_decay(optim["decay"])
    except ValidationError:
        return optim
    held = _held(optim)
    return optim | {"decay": None, "schedule": "pieces", "pieces": [*held, decay.piece()], "warmup_steps": None}


def _held(optim: dict[str, Any]) -> list[Any]:
    """The pieces before the decay. Raises ValueError where they fall already."""
    schedule = optim.get("schedule", "cosine")
    if schedule == "constant":
        warmup = optim.get("warmup_steps")
        first = WARMUP if warmup is None else {"shape": "warmup", "steps": warmup}
        return [*([first] if warmup != 0 else []), {"shape": "constant"}]
    pieces = list(optim.get("pieces") or ())
    if schedule != "pieces":
        raise ValueError(f"decay: optim.schedule={schedule} falls by itself; add optim.schedule=constant")
    last = pieces[-1] if pieces else {}
    shape = last.get("shape", "constant") if isinstance(last, dict) else getattr(last, "shape", "constant")
    if shape not in HOLDS:
        raise ValueError(f"decay: optim.pieces ends in {shape}, off which no rate decays; end it in {HOLDS[0]}")
    return pieces
