"""T5, T5 v1.1, mT5 and ByT5."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch

from trainer.config.model import ModelConfig
from trainer.hub.family import Entry, Family, both
from trainer.hub.table import ACTIVATION, Always, DecoderDepth, Dropouts, Fields, Given, Key, Several, Table, yes_or_no
from trainer.utils.errors import UserError

ATTENTION = (("q", "query"), ("k", "key"), ("v", "value"), ("o", "output"))


# (activation, gated) -> feed_forward_proj, where it is not its own name behind "gated-" or alone
PROJECTIONS = {("gelu_tanh", True): "gated-gelu", ("gelu", True): "gated-gelu_python", ("gelu_tanh", False): "gelu_new"}


def _projection(usual: str) -> Several:
    """The row of the feed-forward. usual: what transformers takes where config.json says nothing.

    As in transformers, gated-gelu is the one by tanh and gelu is not; dense_act_fn and is_gated_act have their way.
    """

    def read(given: Given) -> Fields:
        kind = given.config.get("feed_forward_proj", usual)
        words = kind.split("-") if isinstance(kind, str) else []
        if len(words) not in (1, 2) or (len(words) == 2 and words[0] != "gated"):
            raise UserError(
                f"config.json: feed_forward_proj={kind!r} is not supported; an activation, or gated-<activation>, is"
            )
        act = "gelu_new" if kind == "gated-gelu" else words[-1]
        key = "dense_act_fn" if "dense_act_fn" in given.config else "feed_forward_proj"
        gated = given.config.get("is_gated_act", words[0] == "gated")
        return {
            "activation": ACTIVATION.read(key, given.config.get("dense_act_fn", act)),
            "gated": yes_or_no("is_gated_act", gated),
        }

    return Several(read, _write_projection)


def _write_projection(model: ModelConfig) -> Fields:
    plain = f"gated-{model.activation}" if model.gated else model.activation
    return {"feed_forward_proj": PROJECTIONS.get((model.activation, model.gated), plain)}


def _read_tied(given: Given) -> Fields:
    """Tied is what the tensors are; without scale_decoder_outputs, tie_word_embeddings tells the head's scale."""
    head, table = given.tensors("lm_head.weight"), given.tensors("shared.weight")
    untied = head is not None and (table is None or not torch.equal(head, table))
    scaled = given.config.get("scale_decoder_outputs", given.config.get("tie_word_embeddings") is not False)
    return {"tied": not untied, "head_scale": yes_or_no("scale_decoder_outputs", scaled)}


def _write_tied(model: ModelConfig) -> Fields:
    return {"tie_word_embeddings": model.tied, "scale_decoder_outputs": model.head_scale}


def _write_tied_of_mt5(model: ModelConfig) -> Fields:
    """Its class does not know `scale_decoder_outputs`, and never scales."""
    return {"tie_word_embeddings": model.tied}


ALWAYS = {"family": "encoder_decoder", "norm": "rmsnorm", "position": "buckets", "attention_scale": 1.0, "bias": False}
ALWAYS |= {"dropout_inside": True}


def _table(projection: str, write_tied: Callable[[ModelConfig], Fields] = _write_tied) -> Table:
    return (
        Always(ALWAYS | {"init": "t5"}),
        Key("vocabulary", "vocab_size"),
        Key("width", "d_model"),
        Key("depth", "num_layers"),
        DecoderDepth("decoder_depth", "num_decoder_layers", None),
        Key("heads", "num_heads"),
        Key("ffn_width", "d_ff"),
        _projection(projection),
        Key("head_size", "d_kv", 64),
        Key("norm_epsilon", "layer_norm_epsilon", 1e-6),
        Key("relative_buckets", "relative_attention_num_buckets", 32),
        Key("relative_distance", "relative_attention_max_distance", 128),
        Dropouts(("dropout_rate",), ("dropout_rate",)),
        Several(_read_tied, write_tied),
    )


TABLE = _table("relu")
MT5_TABLE = (*_table("gated-gelu", _write_tied_of_mt5), Always({"head_scale": False}))  # whatever its config.json says


def _entries(model: ModelConfig) -> Iterator[Entry]:
    yield Entry("shared.weight", ("encoder.tokens.weight",))
    for side, depth in (("encoder", model.depth), ("decoder", model.decoder_side.depth)):
        for i in range(depth):
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
_SYNONYMS = {
    "hidden_size": "d_model",
    "num_attention_heads": "num_heads",
    "num_hidden_layers": "num_layers",
    "head_dim": "d_kv",
}
T5 = Family("t5", "T5ForConditionalGeneration", TABLE, _entries, aliases=_ALIASES, ignored=_IGNORED, synonyms=_SYNONYMS)
MT5 = Family(
    "mt5", "MT5ForConditionalGeneration", MT5_TABLE, _entries, aliases=_ALIASES, ignored=_IGNORED, synonyms=_SYNONYMS
)
