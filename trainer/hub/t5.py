"""T5, T5 v1.1 and mT5."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from trainer.config.model import ModelConfig
from trainer.hub.family import Entry, Family, Json, Names, both, one_of, only, required

PROJECTIONS = {
    "relu": ("relu", False),
    "gelu": ("gelu", False),
    "gated-gelu": ("gelu_tanh", True),
    "gated-relu": ("relu", True),
    "gated-silu": ("silu", True),
}
ATTENTION = (("q", "query"), ("k", "key"), ("v", "value"), ("o", "output"))


def _fields(config: Json, names: Names) -> dict[str, Any]:
    vocabulary, width, depth, heads, hidden = required(
        config, "vocab_size", "d_model", "num_layers", "num_heads", "d_ff"
    )
    only(config, num_decoder_layers=depth)
    kind, gated = one_of(config, "feed_forward_proj", "relu", PROJECTIONS)
    head, table = names("lm_head.weight"), names("shared.weight")
    untied = head is not None and (table is None or not torch.equal(head, table))
    scaled = config.get("scale_decoder_outputs", config.get("tie_word_embeddings") is not False)
    return {
        "family": "encoder_decoder",
        "vocabulary": vocabulary,
        "depth": depth,
        "width": width,
        "heads": heads,
        "head_size": config.get("d_kv", 64),
        "ffn_width": hidden,
        "activation": kind,
        "gated": gated,
        "norm": "rmsnorm",
        "norm_epsilon": config.get("layer_norm_epsilon", 1e-6),
        "position": "buckets",
        "relative_buckets": config.get("relative_attention_num_buckets", 32),
        "relative_distance": config.get("relative_attention_max_distance", 128),
        "attention_scale": 1.0,
        "bias": False,
        "tied": not untied,
        "head_scale": bool(scaled) and config.get("model_type") != "mt5",
        "init": "t5",
    }


def _config(model: ModelConfig) -> dict[str, Any]:
    kinds = {value: name for name, value in PROJECTIONS.items()}
    return {
        "vocab_size": model.vocabulary,
        "d_model": model.width,
        "num_layers": model.depth,
        "num_decoder_layers": model.depth,
        "num_heads": model.heads,
        "d_kv": model.head_channels,
        "d_ff": model.ffn_channels,
        "feed_forward_proj": kinds.get((model.activation, model.gated), "relu"),
        "layer_norm_epsilon": model.norm_epsilon,
        "relative_attention_num_buckets": model.relative_buckets,
        "relative_attention_max_distance": model.relative_distance,
        "scale_decoder_outputs": model.head_scale,
        "tie_word_embeddings": model.tied,
    }


def _entries(model: ModelConfig) -> Iterator[Entry]:
    yield Entry("shared.weight", ("encoder.tokens.weight",))
    for side in ("encoder", "decoder"):
        for i in range(model.depth):
            theirs, ours, last = f"{side}.block.{i}.layer", f"{side}.blocks.{i}", 1 + (side == "decoder")
            for name, part in ATTENTION:
                yield from both(f"{theirs}.0.SelfAttention.{name}", f"{ours}.attention.{part}", bias=False)
            if i == 0:
                bias = f"{theirs}.0.SelfAttention.relative_attention_bias"
                yield from both(bias, f"{side}.buckets", bias=False)
            yield from both(f"{theirs}.0.layer_norm", f"{ours}.attention_norm", bias=False)
            if side == "decoder":
                for name, part in ATTENTION:
                    yield from both(f"{theirs}.1.EncDecAttention.{name}", f"{ours}.cross_attention.{part}", bias=False)
                yield from both(f"{theirs}.1.layer_norm", f"{ours}.cross_norm", bias=False)
            if model.gated:
                yield from both(f"{theirs}.{last}.DenseReluDense.wi_0", f"{ours}.feed_forward.gate", bias=False)
                yield from both(f"{theirs}.{last}.DenseReluDense.wi_1", f"{ours}.feed_forward.up", bias=False)
            else:
                yield from both(f"{theirs}.{last}.DenseReluDense.wi", f"{ours}.feed_forward.up", bias=False)
            yield from both(f"{theirs}.{last}.DenseReluDense.wo", f"{ours}.feed_forward.down", bias=False)
            yield from both(f"{theirs}.{last}.layer_norm", f"{ours}.feed_forward_norm", bias=False)
        yield from both(f"{side}.final_layer_norm", f"{side}.norm", bias=False)
    if not model.tied:
        yield Entry("lm_head.weight", ("head.weight",))


_ALIASES = tuple(
    (name, "shared.weight") for name in ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight", "lm_head.weight")
)
_IGNORED = (r"^decoder\.block\.0\.layer\.1\.EncDecAttention\.relative_attention_bias",)  # unused, in old checkpoints
T5 = Family("t5", "T5ForConditionalGeneration", _fields, _config, _entries, aliases=_ALIASES, ignored=_IGNORED)
MT5 = Family("mt5", "MT5ForConditionalGeneration", _fields, _config, _entries, aliases=_ALIASES, ignored=_IGNORED)
