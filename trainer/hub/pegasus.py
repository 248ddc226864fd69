"""PEGASUS."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from trainer.config.model import ModelConfig
from trainer.hub.fairseq import TWO_SIDED_ALIASES, TWO_SIDED_SYNONYMS, TWO_SIDES, layers
from trainer.hub.family import Entry, Family, both
from trainer.hub.layouts import Shaped
from trainer.hub.table import Always, Only
from trainer.models.positions import formula_sinusoids

SIDES = ("encoder", "decoder")
TABLE = (
    Only({"tie_word_embeddings": True}),
    Always({"family": "encoder_decoder", "gated": False, "norm": "layernorm", "norm_epsilon": 1e-5, "bias": True}),
    Always({"norm_position": "pre", "position": "sinusoidal", "sinusoids": "formula"}),
    *TWO_SIDES,
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
    aliases=TWO_SIDED_ALIASES,
    prefix="model.",
    synonyms=TWO_SIDED_SYNONYMS,
    ignored=("^final_logits_bias$", r"\.embed_positions\.weight$"),
    constants=_positions,
)
