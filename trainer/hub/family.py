"""What the exchange knows about one `model_type`: the keys of its config.json and the names of its tensors."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from trainer.config.model import ModelConfig
from trainer.hub.layouts import SAME, Layout
from trainer.hub.table import Table


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
    without_pairs: str = ""  # the class of a model without the head for pairs of sentences; the same where empty
    pairs_alone: str = ""  # the class that has the head for pairs of sentences and no other; none where empty

    def architecture_of(self, model: ModelConfig) -> str:
        """The class of transformers that has this model's heads of pre-training, and no others."""
        return self.architecture if model.sentence_head else self.without_pairs or self.architecture

    @property
    def body(self) -> str:
        """The class without a head."""
        return re.sub(r"((With)?LMHead|For[A-Z][A-Za-z]*)(Model)?$", "Model", self.architecture)

    def ignores(self, name: str) -> bool:
        return any(re.search(pattern, name) for pattern in self.ignored)


def both(theirs: str, *ours: str, layout: Layout = SAME, bias: bool = True, bias_layout: Layout = SAME) -> list[Entry]:
    """Weight and, where there is one, bias of a layer."""
    entries = [Entry(f"{theirs}.weight", tuple(f"{name}.weight" for name in ours), layout)]
    if bias:
        entries.append(Entry(f"{theirs}.bias", tuple(f"{name}.bias" for name in ours), bias_layout))
    return entries
