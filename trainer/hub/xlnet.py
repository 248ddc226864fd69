"""XLNet."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from trainer.config.model import ModelConfig
from trainer.hub.family import ACTIVATIONS, Entry, Family, Json, Names, activation, both, only, required
from trainer.hub.layouts import Shaped

BIASES = (
    ("r_w_bias", "content_bias"),
    ("r_r_bias", "distance_bias"),
    ("r_s_bias", "type_bias"),
    ("seg_embed", "types"),
)


def _fields(config: Json, names: Names) -> dict[str, Any]:
    vocabulary, width, depth, heads, hidden = required(config, "vocab_size", "d_model", "n_layer", "n_head", "d_inner")
    only(config, attn_type="bi", untie_r=True, bi_data=False, clamp_len=-1, same_length=False)
    return {
        "family": "encoder",
        "vocabulary": vocabulary,
        "depth": depth,
        "width": width,
        "heads": heads,
        "head_size": config.get("d_head") or width // heads,
        "ffn_width": hidden,
        "activation": activation(config, "ff_activation", "gelu"),
        "gated": False,
        "norm": "layernorm",
        "norm_epsilon": config.get("layer_norm_eps", 1e-12),
        "norm_position": "post",
        "position": "relative",
        "two_stream": True,
        "bias": True,
        "tied": bool(config.get("tie_word_embeddings", True)),
        "head_bias": True,
    }


def _config(model: ModelConfig) -> dict[str, Any]:
    return {
        "vocab_size": model.vocabulary,
        "d_model": model.width,
        "n_layer": model.depth,
        "n_head": model.heads,
        "d_head": model.head_channels,
        "d_inner": model.ffn_channels,
        "ff_activation": ACTIVATIONS[model.activation],
        "layer_norm_eps": model.norm_epsilon,
        "attn_type": "bi",
        "tie_word_embeddings": model.tied,
        "initializer_range": model.init_std,
    }


def _entries(model: ModelConfig) -> Iterator[Entry]:
    shape = (model.width, model.heads, model.head_channels)
    yield Entry("transformer.mask_emb", ("query_start",), Shaped((1, 1, model.width)))
    yield Entry("transformer.word_embedding.weight", ("tokens.weight",))
    for i in range(model.depth):
        theirs, ours = f"transformer.layer.{i}", f"blocks.{i}"
        for name, part in (("q", "query"), ("k", "key"), ("v", "value"), ("r", "distance")):
            yield Entry(f"{theirs}.rel_attn.{name}", (f"{ours}.attention.{part}.weight",), Shaped(shape, True))
        yield Entry(f"{theirs}.rel_attn.o", (f"{ours}.attention.output.weight",), Shaped(shape))
        for name, part in BIASES:
            yield Entry(f"{theirs}.rel_attn.{name}", (f"{ours}.attention.{part}",))
        yield from both(f"{theirs}.rel_attn.layer_norm", f"{ours}.attention_norm")
        yield from both(f"{theirs}.ff.layer_norm", f"{ours}.feed_forward_norm")
        yield from both(f"{theirs}.ff.layer_1", f"{ours}.feed_forward.up")
        yield from both(f"{theirs}.ff.layer_2", f"{ours}.feed_forward.down")
    yield Entry("lm_loss.bias", ("head.output.bias",))
    if not model.tied:
        yield Entry("lm_loss.weight", ("head.output.weight",))


XLNET = Family(
    "xlnet",
    "XLNetLMHeadModel",
    _fields,
    _config,
    _entries,
    aliases=(("lm_loss.weight", "transformer.word_embedding.weight"),),
    prefix="transformer.",
)
