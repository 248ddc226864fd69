"""What the exchange knows about one `model_type`: the keys of its config.json and the names of its tensors."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from torch import Tensor

from trainer.config.model import ModelConfig
from trainer.hub.layouts import SAME, SUMMED, ByExpert, Layout
from trainer.hub.table import Json, Table


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
    table: Table  # of config.json, without special tokens
    entries: Callable[[ModelConfig], Iterable[Entry]]
    aliases: tuple[tuple[str, str], ...] = ()  # (repeated name, the name it repeats); may be absent
    prefix: str = ""  # of the bare model's tensors; older checkpoints lack it
    synonyms: Mapping[str, str] = field(default_factory=dict)  # other names of keys in config.json -> the table's
    ignored: tuple[str, ...] = ()  # regular expressions: buffers of older versions, heads of fine-tuning
    by_expert: tuple[ByExpert, ...] = ()  # tensors that published files hold in parts
    without_pairs: str = ""  # the class of a model without the head for pairs of sentences; the same where empty
    pairs_alone: str = ""  # the class that has the head for pairs of sentences and no other; none where empty
    # Tensors that follow from the model's keys: written, and where they are there only compared.
    constants: Callable[[ModelConfig], Mapping[str, Tensor]] = lambda model: {}
    # Of a model with a generator: the class of what detects its tokens, and the tensors of that.
    discriminator: tuple[str, Callable[[ModelConfig], Iterable[Entry]]] | None = None
    stated: Callable[[Json], Family] | None = None  # the same with the names of tensors that config.json asks for

    bare: str = ""  # the class without a head, where it is not named after the one with it

    def architecture_of(self, model: ModelConfig) -> str:
        """The class of transformers that has this model's heads of pre-training, and no others."""
        return self.architecture if model.sentence_head else self.without_pairs or self.architecture

    def as_stated(self, config: Json) -> Family:
        """With the names of tensors that this config.json asks for, where a type has several."""
        return self if self.stated is None else self.stated(config)

    @property
    def body(self) -> str:
        """The class without a head."""
        return self.bare or re.sub(r"((With)?LMHead|For[A-Z][A-Za-z]*)(Model)?$", "Model", self.architecture)

    def published(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Tensors by the names of `entries` as files hold them, those of experts one by one."""
        found: dict[str, Tensor] = {}
        for name, whole in tensors.items():
            parts = next((parts for one in self.by_expert if (parts := one.split(name, whole))), {name: whole})
            found |= parts
        return found

    def ignores(self, name: str) -> bool:
        return any(re.search(pattern, name) for pattern in self.ignored)


def token_embedding(theirs: str, model: ModelConfig) -> Entry:
    """Of a model; beside a generator with an embedding of its own, that one and the difference from it."""
    if model.generator is None or model.embedding_sharing == "whole":
        return Entry(theirs, ("tokens.weight",))
    return Entry(theirs, ("tokens.weight", "delta.weight"), SUMMED)


def both(theirs: str, *ours: str, layout: Layout = SAME, bias: bool = True, bias_layout: Layout = SAME) -> list[Entry]:
    """Weight and, where there is one, bias of a layer."""
    entries = [Entry(f"{theirs}.weight", tuple(f"{name}.weight" for name in ours), layout)]
    if bias:
        entries.append(Entry(f"{theirs}.bias", tuple(f"{name}.bias" for name in ours), bias_layout))
    return entries
