"""Cohere's Command R, Aya 23 and Aya Expanse."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from trainer.config.model import ModelConfig
from trainer.hub.family import Entry, Family, both
from trainer.hub.table import ACTIVATION, Always, Dropouts, Fields, Key, Only, Words, Written, rotary_row, sizes


@dataclass(frozen=True)
class Interleaved:
    """Rows of one head after another, whose neighbours turn together there, and whose halves do here (Su et al. 2021):
    queries and keys permuted alike give the same scores."""

    heads: int

    def join(self, ours: Sequence[Tensor]) -> Tensor:
        return self._turned(ours[0], (self.heads, 2, -1))

    def split(self, theirs: Tensor, shapes: Sequence[torch.Size]) -> list[Tensor]:
        flat = theirs.reshape(shapes[0])
        return [self._turned(flat, (self.heads, -1, 2))]

    def _turned(self, rows: Tensor, shape: tuple[int, int, int]) -> Tensor:
        return rows.unflatten(0, shape).transpose(1, 2).reshape(rows.shape)


@dataclass(frozen=True)
class ByHeads(Interleaved):
    """The same of a vector, which theirs has as a row a head."""

    def join(self, ours: Sequence[Tensor]) -> Tensor:
        return super().join(ours).unflatten(0, (self.heads, -1))


def _equal_parts(fields: Fields) -> int:
    return int(fields["width"] // fields["heads"])


TABLE = (
    Only({"attention_bias": False}),
    Always({"family": "decoder", "gated": True, "norm": "layernorm", "position": "rotary", "bias": False}),
    Always({"parallel": True, "shared_norm": True}),
    *sizes("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size"),
    Key("max_length", "max_position_embeddings", 8192),
    Key("kv_heads", "num_key_value_heads", lambda fields: fields["heads"]),
    Key("head_size", "head_dim", _equal_parts, written=False),
    Key("activation", "hidden_act", "silu", ACTIVATION),
    Key("norm_epsilon", "layer_norm_eps", 1e-5),
    Key("qk_norm", "use_qk_norm", False, Words({False: "none", True: "heads"})),
    rotary_row(500_000.0),
    Key("logit_scale", "logit_scale", 0.0625),
    Key("tied", "tie_word_embeddings", True),
    Dropouts((), ("attention_dropout",)),
    Written("init_std", "initializer_range"),
)


def _entries(model: ModelConfig) -> Iterator[Entry]:
    yield Entry("model.embed_tokens.weight", ("tokens.weight",))
    for i in range(model.depth):
        theirs, ours = f"model.layers.{i}", f"blocks.{i}"
        for name, part, heads in (("q", "query", model.heads), ("k", "key", model.key_heads)):
            turned = Interleaved(heads)
            yield from both(f"{theirs}.self_attn.{name}_proj", f"{ours}.attention.{part}", layout=turned, bias=False)
            if model.qk_norm != "none":
                norm = f"{ours}.attention.{part}_norm"
                yield from both(f"{theirs}.self_attn.{name}_norm", norm, layout=ByHeads(heads), bias=False)
        for name, part in (("v", "value"), ("o", "output")):
            yield from both(f"{theirs}.self_attn.{name}_proj", f"{ours}.attention.{part}", bias=False)
        for part in ("gate", "up", "down"):
            yield from both(f"{theirs}.mlp.{part}_proj", f"{ours}.feed_forward.{part}", bias=False)
        yield from both(f"{theirs}.input_layernorm", f"{ours}.attention_norm", bias=False)
    yield from both("model.norm", "norm", bias=False)
    if not model.tied:
        yield Entry("lm_head.weight", ("head.weight",))


COHERE = Family(
    "cohere",
    "CohereForCausalLM",
    TABLE,
    _entries,
    aliases=(("lm_head.weight", "model.embed_tokens.weight"),),
    prefix="model.",
)
