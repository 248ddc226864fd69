"""DistilBERT."""

from __future__ import annotations

from collections.abc import Iterator

from trainer.config.model import ModelConfig
from trainer.hub.bert import PLACES
from trainer.hub.family import Entry, Family, both
from trainer.hub.table import ACTIVATION, Always, Dropouts, Key, Only, Written, sizes

TABLE = (
    Only({"sinusoidal_pos_embds": False}),
    Always({"family": "encoder", "gated": False, "norm": "layernorm", "norm_epsilon": 1e-12, "norm_position": "post"}),
    Always({"position": "learned", "embedding_norm": True, "bias": True, "head_transform": True, "head_bias": True}),
    Always({"pooler_activation": "relu"}),
    *sizes("vocab_size", "dim", "n_layers", "n_heads", "hidden_dim"),
    Key("activation", "activation", "gelu", ACTIVATION),
    PLACES,
    Key("tied", "tie_word_embeddings", True),
    Dropouts(("dropout",), ("attention_dropout",)),
    Written("init_std", "initializer_range"),
)
LAYER = (
    ("attention.q_lin", "attention.query"),
    ("attention.k_lin", "attention.key"),
    ("attention.v_lin", "attention.value"),
    ("attention.out_lin", "attention.output"),
    ("sa_layer_norm", "attention_norm"),
    ("ffn.lin1", "feed_forward.up"),
    ("ffn.lin2", "feed_forward.down"),
    ("output_layer_norm", "feed_forward_norm"),
)


def _entries(model: ModelConfig) -> Iterator[Entry]:
    yield Entry("distilbert.embeddings.word_embeddings.weight", ("tokens.weight",))
    yield Entry("distilbert.embeddings.position_embeddings.weight", ("positions.weight",))
    yield from both("distilbert.embeddings.LayerNorm", "embedding_norm")
    for i in range(model.depth):
        for theirs, ours in LAYER:
            yield from both(f"distilbert.transformer.layer.{i}.{theirs}", f"blocks.{i}.{ours}")
    yield from both("vocab_transform", "head.transform.dense")
    yield from both("vocab_layer_norm", "head.transform.norm")
    yield Entry("vocab_projector.bias", ("head.output.bias",))
    if not model.tied:
        yield Entry("vocab_projector.weight", ("head.output.weight",))


DISTILBERT = Family(
    "distilbert",
    "DistilBertForMaskedLM",
    TABLE,
    _entries,
    aliases=(("vocab_projector.weight", "distilbert.embeddings.word_embeddings.weight"),),
    prefix="distilbert.",
    synonyms={"hidden_size": "dim", "num_attention_heads": "n_heads", "num_hidden_layers": "n_layers"},
    ignored=(r"position_ids$",),
)
