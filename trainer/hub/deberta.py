"""DeBERTa-v3 and what else of `deberta-v2` has no convolution: with either of its two heads that predict tokens."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from trainer.config.disentangled import TERMS, score_terms
from trainer.config.model import ModelConfig
from trainer.hub.bert import BERT_LAYER, generator_places
from trainer.hub.family import Entry, Family, both, token_embedding
from trainer.hub.table import (
    ACTIVATION,
    Always,
    Dropouts,
    Fields,
    Given,
    Json,
    Key,
    Only,
    Several,
    Table,
    Words,
    Written,
    sizes,
    whole,
    yes_or_no,
)
from trainer.utils.errors import UserError

LAYER = tuple((f"{theirs}_proj" if ".self." in theirs else theirs, ours) for theirs, ours in BERT_LAYER)
POOLED = Words({"gelu": "gelu", "gelu_python": "gelu", "tanh": "tanh"})


def _read_positions(given: Given) -> Fields:
    """The table of relative positions, and which scores read it."""
    config = given.config
    for key, usual, wanted in (("relative_attention", False, True), ("position_biased_input", True, False)):
        if yes_or_no(key, value := config.get(key, usual)) != wanted:
            raise UserError(f"config.json: {key}={value!r} is not supported; {wanted} is")
    places, buckets = whole(config, "max_position_embeddings", 512), config.get("position_buckets", -1)
    farthest = config.get("max_relative_positions", -1)
    for key, value in (("position_buckets", buckets), ("max_relative_positions", farthest)):
        if isinstance(value, bool) or not isinstance(value, int):
            raise UserError(f"config.json: {key}={value!r}: a whole number wanted, -1 for none")
    return {
        "max_length": places,
        "relative_buckets": buckets if buckets > 0 else None,
        "relative_distance": farthest if farthest > 0 else places,
        "relative_terms": _terms(config.get("pos_att_type")),
        "relative_norm": _normed(config.get("norm_rel_ebd", "none")),
    }


def _terms(stated: Any) -> str:
    """Of `pos_att_type`: a list, or its words with | between them."""
    words = stated.lower().split("|") if isinstance(stated, str) else stated
    found = (
        {word.strip() for word in words} if isinstance(words, list) and all(isinstance(w, str) for w in words) else ()
    )
    for name, terms in TERMS.items():
        if found == set(terms):
            return name
    raise UserError(f"config.json: pos_att_type={stated!r} is not supported; 'c2p|p2c', 'c2p' and 'p2c' are")


def _normed(stated: Any) -> bool:
    words = {word.strip() for word in stated.lower().split("|")} if isinstance(stated, str) else set()
    if words not in ({"none"}, {"layer_norm"}):
        raise UserError(f"config.json: norm_rel_ebd={stated!r} is not supported; 'layer_norm' and 'none' are")
    return words == {"layer_norm"}


def _write_positions(model: ModelConfig) -> Fields:
    return {
        "relative_attention": True,
        "position_biased_input": False,
        "max_position_embeddings": model.max_length or model.relative_distance,
        "position_buckets": model.relative_buckets or -1,
        "max_relative_positions": model.relative_distance,
        "pos_att_type": list(score_terms(model)),
        "norm_rel_ebd": "layer_norm" if model.relative_norm else "none",
    }


def _read_sizes(given: Given) -> Fields:
    """None; raises UserError for sizes that are not those of the residual stream."""
    width, heads = given.fields["width"], given.fields["heads"]
    usual = {"embedding_size": width, "pooler_hidden_size": width}
    usual |= {"attention_head_size": width // heads} if isinstance(heads, int) and heads else {}
    for key, value in usual.items():
        if given.config.get(key) not in (None, value):
            raise UserError(f"config.json: {key}={given.config[key]!r} is not supported; {value} is")
    return {}


def _read_tied(given: Given) -> Fields:
    """The head that is not `legacy` is the embedding's matrix in any case."""
    legacy = _legacy(given.config)
    return {"tied": yes_or_no("tie_word_embeddings", given.config.get("tie_word_embeddings", True)) or not legacy}


def _legacy(config: Json) -> bool:
    return yes_or_no("legacy", config.get("legacy", True))


TABLE: Table = (
    Only({"conv_kernel_size": 0}),
    Always({"family": "encoder", "gated": False, "norm": "layernorm", "norm_position": "post"}),
    Always({"position": "disentangled", "embedding_norm": True, "bias": True}),
    Always({"head_transform": True, "head_bias": True}),
    *sizes("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size"),
    Several(_read_sizes),
    Key("activation", "hidden_act", "gelu", ACTIVATION),
    Key("norm_epsilon", "layer_norm_eps", 1e-7),
    Key("token_types", "type_vocab_size", 0),
    Several(_read_positions, _write_positions),
    Key("relative_shared", "share_att_key", False),
    Key("pooler_activation", "pooler_hidden_act", "gelu", POOLED),
    Several(_read_tied, lambda model: {"tie_word_embeddings": model.tied}),
    Dropouts(("hidden_dropout_prob",), ("attention_probs_dropout_prob",)),
    Written("init_std", "initializer_range"),
)


def _body(model: ModelConfig, ours: str = "", embedding: str = "") -> Iterator[Entry]:
    """ours, embedding: beginnings of the names of the stack's own parameters, and of its embedding's."""
    yield token_embedding("deberta.embeddings.word_embeddings.weight", model)
    if model.token_types:
        yield Entry("deberta.embeddings.token_type_embeddings.weight", (f"{embedding}token_types.weight",))
    yield from both("deberta.embeddings.LayerNorm", f"{embedding}embedding_norm")
    yield Entry("deberta.encoder.rel_embeddings.weight", (f"{ours}relative.table.weight",))
    if model.relative_norm:
        yield from both("deberta.encoder.LayerNorm", f"{ours}relative.norm")
    for i in range(model.depth):
        theirs, block = f"deberta.encoder.layer.{i}", f"{ours}blocks.{i}"
        for name, part in LAYER:
            yield from both(f"{theirs}.{name}", f"{block}.{part}")
        for term, part in () if model.relative_shared else (("c2p", "key"), ("p2c", "query")):
            if term in score_terms(model):
                yield from both(f"{theirs}.attention.self.pos_{part}_proj", f"{block}.attention.position_{part}")


def discriminator_entries(model: ModelConfig) -> Iterator[Entry]:
    """Of a model with a generator: the encoder. Transformers has no class that detects replaced tokens with it."""
    return _body(model)


def _entries(model: ModelConfig) -> Iterator[Entry]:
    """DebertaV2ForMaskedLM: an encoder of its own, or (`model` with a generator) the one inside."""
    encoder, ours, embedding, head = generator_places(model)
    yield from _body(encoder, ours, embedding)
    yield from both("cls.predictions.transform.dense", f"{head}.transform.dense")
    yield from both("cls.predictions.transform.LayerNorm", f"{head}.transform.norm")
    yield Entry(f"cls.predictions.{'bias' if model.tied else 'decoder.bias'}", (f"{head}.output.bias",))
    if not model.tied:
        yield Entry("cls.predictions.decoder.weight", (f"{head}.output.weight",))


def _newer_entries(model: ModelConfig) -> Iterator[Entry]:
    """As `_entries`, with the head by the names of `legacy=false`."""
    for entry in _entries(model):
        name = entry.theirs.replace("cls.predictions.transform.", "lm_predictions.lm_head.")
        yield replace(entry, theirs=name.replace("cls.predictions.", "lm_predictions.lm_head."))


# A head that detects replaced tokens, as released models have it; no class of transformers reads it.
_DETECTOR = r"^mask_predictions\."
DEBERTA: Family = Family(
    "deberta-v2",
    "DebertaV2ForMaskedLM",
    TABLE,
    _entries,
    aliases=(
        ("cls.predictions.decoder.weight", "deberta.embeddings.word_embeddings.weight"),
        ("cls.predictions.decoder.bias", "cls.predictions.bias"),
        ("cls.predictions.bias", "cls.predictions.decoder.bias"),
    ),
    prefix="deberta.",
    ignored=(r"position_ids$", r"embeddings\.position_embeddings\.", r"^lm_predictions\.", _DETECTOR),
    discriminator=("DebertaV2Model", discriminator_entries),
    stated=lambda config: DEBERTA if _legacy(config) else NEWER,
)
NEWER: Family = replace(
    DEBERTA, entries=_newer_entries, aliases=(), ignored=(*DEBERTA.ignored[:2], r"^cls\.", _DETECTOR)
)
