"""XLNet."""

from __future__ import annotations

from collections.abc import Iterator

from trainer.config.model import ModelConfig
from trainer.hub.family import Entry, Family, both
from trainer.hub.layouts import Shaped
from trainer.hub.table import ACTIVATION, Always, Dropouts, Key, Only, Written, sizes

BIASES = (
    ("r_w_bias", "content_bias"),
    ("r_r_bias", "distance_bias"),
    ("r_s_bias", "type_bias"),
    ("seg_embed", "types"),
)


TABLE = (
    Only({"attn_type": "bi"}, written=True),
    Only({"untie_r": True, "bi_data": False, "clamp_len": -1, "same_length": False}),
    Always({"family": "encoder", "gated": False, "norm": "layernorm", "norm_position": "post", "position": "relative"}),
    Always({"two_stream": True, "bias": True, "head_bias": True, "dropout_inside": True}),
    *sizes("vocab_size", "d_model", "n_layer", "n_head", "d_inner"),
    Key("head_size", "d_head", lambda fields: fields["width"] // fields["heads"]),
    Key("activation", "ff_activation", "gelu", ACTIVATION),
    Key("norm_epsilon", "layer_norm_eps", 1e-12),
    Key("tied", "tie_word_embeddings", True),
    Dropouts(("dropout",), ("dropout",)),
    Written("init_std", "initializer_range"),
)


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
    TABLE,
    _entries,
    aliases=(("lm_loss.weight", "transformer.word_embedding.weight"),),
    prefix="transformer.",
    synonyms={
        "n_token": "vocab_size",
        "hidden_size": "d_model",
        "num_attention_heads": "n_head",
        "num_hidden_layers": "n_layer",
    },
)
