"""What the exchange knows about one `model_type`: its config.json and the names of its tensors."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from trainer.config.model import ModelConfig
from trainer.hub.layouts import SAME, Layout
from trainer.utils.errors import UserError

Json = Mapping[str, Any]
Names = Callable[[str], Tensor | None]  # a tensor of the checkpoint by name, None where there is none


@dataclass(frozen=True)
class Entry:
    """One tensor of theirs and the tensors of ours that it holds."""

    theirs: str
    ours: tuple[str, ...]
    layout: Layout = SAME


@dataclass(frozen=True)
class Family:
    """One `model_type` of transformers, in both directions."""

    type: str
    architecture: str  # the class that AutoModel's pre-training head resolves to
    fields: Callable[[Json, Names], dict[str, Any]]  # of our ModelConfig, from config.json
    config: Callable[[ModelConfig], dict[str, Any]]  # config.json without special tokens
    entries: Callable[[ModelConfig], Iterable[Entry]]
    aliases: tuple[tuple[str, str], ...] = ()  # (repeated name, the name it repeats); may be absent
    prefix: str = ""  # of the bare model's tensors; older checkpoints lack it
    ignored: tuple[str, ...] = ()  # regular expressions: buffers of older versions, heads of fine-tuning

    def ignores(self, name: str) -> bool:
        return any(re.search(pattern, name) for pattern in self.ignored)


def both(theirs: str, *ours: str, layout: Layout = SAME, bias: bool = True, bias_layout: Layout = SAME) -> list[Entry]:
    """Weight and, where there is one, bias of a layer."""
    entries = [Entry(f"{theirs}.weight", tuple(f"{name}.weight" for name in ours), layout)]
    if bias:
        entries.append(Entry(f"{theirs}.bias", tuple(f"{name}.bias" for name in ours), bias_layout))
    return entries


ACTIVATIONS = {"gelu": "gelu", "gelu_tanh": "gelu_new", "relu": "relu", "silu": "silu"}
_OURS = {theirs: ours for ours, theirs in ACTIVATIONS.items()} | {"gelu_pytorch_tanh": "gelu_tanh", "swish": "silu"}


def activation(config: Json, key: str, default: str) -> str:
    """Our name of the activation that config.json asks for. Raises UserError for one that the zoo has not."""
    return str(one_of(config, key, default, _OURS))


def one_of(config: Json, key: str, default: Any, allowed: Mapping[Any, Any]) -> Any:
    """The meaning of a key of config.json. Raises UserError naming what is allowed."""
    value = config.get(key, default)
    if value not in allowed:
        raise UserError(f"config.json: {key}={value!r} is not supported; {', '.join(map(repr, allowed))} are")
    return allowed[value]


def only(config: Json, **wanted: Any) -> None:
    """Raise UserError where config.json asks for something that the zoo has not. A key that is absent is as wanted."""
    for key, value in wanted.items():
        if config.get(key, value) != value:
            raise UserError(f"config.json: {key}={config[key]!r} is not supported; {value!r} is")


def rotary(config: Json) -> dict[str, Any]:
    """Our keys for the rotary positions of config.json, in the form of transformers 5 (rope_parameters) or older."""
    rope = dict(config.get("rope_parameters") or config.get("rope_scaling") or {})
    kind = rope.get("rope_type", rope.get("type", "default"))
    fields: dict[str, Any] = {"rotary_base": float(rope.get("rope_theta") or config.get("rope_theta") or 10_000.0)}
    if kind == "default":
        return fields
    if kind not in ("linear", "llama3"):
        raise UserError(f"config.json: rope_type={kind!r} is not supported; 'default', 'linear', 'llama3' are")
    fields |= {"rotary_scaling": kind, "rotary_factor": float(rope["factor"])}
    if kind == "llama3":
        only(rope, low_freq_factor=1.0, high_freq_factor=4.0)
        fields["rotary_original_length"] = int(rope["original_max_position_embeddings"])
    return fields


def rope_parameters(model: ModelConfig) -> dict[str, Any]:
    """The reverse of `rotary`, in the form of transformers 5."""
    rope: dict[str, Any] = {"rope_theta": model.rotary_base, "rope_type": "default"}
    if model.rotary_scaling != "none":
        rope |= {"rope_type": model.rotary_scaling, "factor": model.rotary_factor}
    if model.rotary_scaling == "llama3":
        rope |= {"low_freq_factor": 1.0, "high_freq_factor": 4.0}
        rope["original_max_position_embeddings"] = model.rotary_original_length
    return rope


def required(config: Json, *keys: str) -> list[Any]:
    """Values of keys that config.json must have. Raises UserError naming those it lacks."""
    missing = [key for key in keys if config.get(key) is None]
    if missing:
        raise UserError(f"config.json: {', '.join(missing)} missing")
    return [config[key] for key in keys]
