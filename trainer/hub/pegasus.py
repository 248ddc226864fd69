"""PEGASUS."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from trainer.config.model import ModelConfig
from trainer.hub.fairseq import layers, read_head_bias
from trainer.hub.family import Entry, Family, both
from trainer.hub.layouts import Shaped
from trainer.hub.table import ACTIVATION, Always, DecoderDepth, Dropouts, Key, Only, Several, Written
from trainer.models.positions import formula_sinusoids

SIDES = ("encoder", "decoder")
TABLE = (
    Only({"tie_word_embeddings": True}),
    Always({"family": "encoder_decoder", "gated": False, "norm": "layernorm", "norm_epsilon": 1e-5, "bias": True}),
    Always({"norm_position": "pre", "position": "sinusoidal", "sinusoids": "formula"}),
    Key("vocabulary", "vocab_size"),
    Key("width", "d_model"),
    Key("depth", "encoder_layers"),
    DecoderDepth("decoder_depth", "decoder_layers", 12),
    Key("heads", "encoder_attention_heads", also="decoder_attention_heads"),
    Key("ffn_width", "encoder_ffn_dim", also="decoder_ffn_dim"),
    Key("max_length", "max_position_embeddings", 1024),
    Key("activation", "activation_function", "gelu", ACTIVATION),
    Key("embedding_scale", "scale_embedding", False),
    Key("tied", "tie_word_embeddings", True),
    Several(read_head_bias),
    Dropouts(("dropout",), ("attention_dropout",)),
    Written("init_std", "init_std"),
)


def _entries(model: ModelConfig) -> Iterator[Entry]:
    yield Entry("model.shared.weight", ("encoder.tokens.weight",))
    for side, shape in zip(SIDES, (model, model.decoder_side), strict=True):
        yield from layers(f"model.{side}.layers", f"{side}.blocks", shape, cross=side == "decoder")
        yield from both(f"model.{side}.layer_norm", f"{side}.norm")
    if model.head_bias:
        yield Entry("final_logits_bias", ("head.bias",), Shaped((1, model.vocabulary or 0)))


def _positions(model: ModelConfig) -> Mapping[str, Tensor]:
    """The sinusoids, which transformers keeps as tensors of the checkpoint."""
    places = torch.arange(model.max_length or 1)
    return {f"model.{side}.embed_positions.weight": formula_sinusoids(places, model.width) for side in SIDES}


PEGASUS = Family(
    "pegasus",
    "PegasusForConditionalGeneration",
    TABLE,
    _entries,
    aliases=tuple(
        (name, "model.shared.weight")
        for name in ("model.encoder.embed_tokens.weight", "model.decoder.embed_tokens.weight", "lm_head.weight")
    ),
    prefix="model.",
    synonyms={
        "num_attention_heads": "encoder_attention_heads",
        "hidden_size": "d_model",
        "num_hidden_layers": "encoder_layers",
    },
    ignored=("^final_logits_bias$", r"\.embed_positions\.weight$"),
    constants=_positions,
)
