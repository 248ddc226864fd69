"""BERT and its kind: RoBERTa, XLM-R, ALBERT and ELECTRA's discriminator and generator."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from trainer.config.model import ModelConfig
from trainer.hub.family import ACTIVATIONS, Entry, Family, Json, Names, activation, both, only, required

BERT_LAYER = (
    ("attention.self.query", "attention.query"),
    ("attention.self.key", "attention.key"),
    ("attention.self.value", "attention.value"),
    ("attention.output.dense", "attention.output"),
    ("attention.output.LayerNorm", "attention_norm"),
    ("intermediate.dense", "feed_forward.up"),
    ("output.dense", "feed_forward.down"),
    ("output.LayerNorm", "feed_forward_norm"),
)
XL_LAYER = tuple(
    {"attention_norm": ("attention.self_attn_layer_norm", ours), "feed_forward_norm": ("LayerNorm", ours)}.get(
        ours, (theirs, ours)
    )
    for theirs, ours in BERT_LAYER
)
ALBERT_LAYER = (
    ("attention.query", "attention.query"),
    ("attention.key", "attention.key"),
    ("attention.value", "attention.value"),
    ("attention.dense", "attention.output"),
    ("attention.LayerNorm", "attention_norm"),
    ("ffn", "feed_forward.up"),
    ("ffn_output", "feed_forward.down"),
    ("full_layer_layer_norm", "feed_forward_norm"),
)


def _fields(config: Json) -> dict[str, Any]:
    vocabulary, width, depth, heads, hidden = required(
        config, "vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size"
    )
    only(config, is_decoder=False, add_cross_attention=False, position_embedding_type="absolute")
    return {
        "family": "encoder",
        "vocabulary": vocabulary,
        "max_length": config.get("max_position_embeddings", 512),
        "depth": depth,
        "width": width,
        "heads": heads,
        "ffn_width": hidden,
        "activation": activation(config, "hidden_act", "gelu"),
        "gated": False,
        "norm": "layernorm",
        "norm_epsilon": config.get("layer_norm_eps", 1e-12),
        "norm_position": "post",
        "position": "learned",
        "embedding_norm": True,
        "token_types": config.get("type_vocab_size", 2),
        "bias": True,
        "tied": bool(config.get("tie_word_embeddings", True)),
        "head_transform": True,
        "head_bias": True,
    }


def _config(model: ModelConfig) -> dict[str, Any]:
    return {
        "vocab_size": model.vocabulary,
        "max_position_embeddings": (model.max_length or 0) + model.position_offset,
        "hidden_size": model.width,
        "num_hidden_layers": model.depth,
        "num_attention_heads": model.heads,
        "intermediate_size": model.ffn_channels,
        "hidden_act": ACTIVATIONS[model.activation],
        "layer_norm_eps": model.norm_epsilon,
        "type_vocab_size": model.token_types,
        "tie_word_embeddings": model.tied,
        "initializer_range": model.init_std,
    }


def _embeddings(prefix: str, model: ModelConfig, ours: str = "") -> Iterator[Entry]:
    yield Entry(f"{prefix}.word_embeddings.weight", (f"{ours}tokens.weight",))
    yield Entry(f"{prefix}.position_embeddings.weight", (f"{ours}positions.weight",))
    yield Entry(f"{prefix}.token_type_embeddings.weight", (f"{ours}token_types.weight",))
    if model.embedding_norm:
        yield from both(f"{prefix}.LayerNorm", f"{ours}embedding_norm")


def _layers(prefix: str, model: ModelConfig, parts: tuple[tuple[str, str], ...], ours: str = "") -> Iterator[Entry]:
    for i in range(model.depth):
        for theirs, part in parts:
            yield from both(f"{prefix}.{i}.{theirs}", f"{ours}blocks.{i}.{part}")


# --- BERT ------------------------------------------------------------------------------------------------------------


def _bert_fields(config: Json, names: Names) -> dict[str, Any]:
    sentence = names("cls.seq_relationship.weight") is not None
    pooler = names("bert.pooler.dense.weight") is not None
    return _fields(config) | {"sentence_head": sentence, "pooler": "pretraining" if pooler else "none"}


def _bert_entries(model: ModelConfig) -> Iterator[Entry]:
    yield from _embeddings("bert.embeddings", model)
    yield from _layers("bert.encoder.layer", model, BERT_LAYER)
    if model.pooler == "pretraining":
        yield from both("bert.pooler.dense", "pooler")
    if model.sentence_head:
        yield from both("cls.seq_relationship", "sentence")
    yield from both("cls.predictions.transform.dense", "head.transform.dense")
    yield from both("cls.predictions.transform.LayerNorm", "head.transform.norm")
    yield Entry("cls.predictions.bias", ("head.output.bias",))
    if not model.tied:
        yield Entry("cls.predictions.decoder.weight", ("head.output.weight",))


BERT = Family(
    "bert",
    "BertForPreTraining",
    _bert_fields,
    _config,
    _bert_entries,
    aliases=(
        ("cls.predictions.decoder.weight", "bert.embeddings.word_embeddings.weight"),
        ("cls.predictions.decoder.bias", "cls.predictions.bias"),
    ),
    prefix="bert.",
    ignored=(r"position_ids$",),
)


# --- RoBERTa and XLM-R -----------------------------------------------------------------------------------------------


def _roberta_fields(config: Json, names: Names) -> dict[str, Any]:
    fields = _fields(config)
    offset = 1 + (config["pad_token_id"] if config.get("pad_token_id") is not None else 1)  # behind the pad token's id
    return fields | {"position_offset": offset, "max_length": fields["max_length"] - offset, "pooler": "finetuning"}


def _xl_fields(config: Json, names: Names) -> dict[str, Any]:
    eps = {"norm_epsilon": config.get("layer_norm_eps", 1e-5)}
    return _roberta_fields(config, names) | {"norm_position": "pre", "embedding_norm": False} | eps


def _roberta_config(model: ModelConfig) -> dict[str, Any]:
    return _config(model) | {"pad_token_id": model.position_offset - 1}


def _roberta_entries(model: ModelConfig) -> Iterator[Entry]:
    yield from _embeddings("roberta.embeddings", model)
    yield from _layers("roberta.encoder.layer", model, BERT_LAYER if model.norm_position == "post" else XL_LAYER)
    if model.final_norm:
        yield from both("roberta.encoder.LayerNorm", "norm")
    yield from both("lm_head.dense", "head.transform.dense")
    yield from both("lm_head.layer_norm", "head.transform.norm")
    yield Entry("lm_head.bias", ("head.output.bias",))
    if not model.tied:
        yield Entry("lm_head.decoder.weight", ("head.output.weight",))


_ROBERTA_ALIASES = (
    ("lm_head.decoder.weight", "roberta.embeddings.word_embeddings.weight"),
    ("lm_head.decoder.bias", "lm_head.bias"),
)
_ROBERTA_IGNORED = (r"position_ids$", r"^roberta\.pooler\.")
ROBERTA, XLMR, XLMR_XL = (
    Family(
        kind,
        architecture,
        fields,
        _roberta_config,
        _roberta_entries,
        aliases=_ROBERTA_ALIASES,
        prefix="roberta.",
        ignored=_ROBERTA_IGNORED,
    )
    for kind, architecture, fields in (
        ("roberta", "RobertaForMaskedLM", _roberta_fields),
        ("xlm-roberta", "XLMRobertaForMaskedLM", _roberta_fields),
        ("xlm-roberta-xl", "XLMRobertaXLForMaskedLM", _xl_fields),
    )
)


# --- ALBERT ----------------------------------------------------------------------------------------------------------


def _albert_fields(config: Json, names: Names) -> dict[str, Any]:
    only(config, num_hidden_groups=1, inner_group_num=1)
    sentence = names("sop_classifier.classifier.weight") is not None
    pooler = names("albert.pooler.weight") is not None
    return _fields(config) | {
        "activation": activation(config, "hidden_act", "gelu_new"),
        "embedding_width": config.get("embedding_size", 128),
        "shared_layers": True,
        "sentence_head": sentence,
        "pooler": "pretraining" if pooler else "none",
    }


def _albert_config(model: ModelConfig) -> dict[str, Any]:
    groups = {"num_hidden_groups": 1, "inner_group_num": 1}
    return _config(model) | {"embedding_size": model.embedding_channels} | groups


def _albert_entries(model: ModelConfig) -> Iterator[Entry]:
    yield from _embeddings("albert.embeddings", model)
    yield from both("albert.encoder.embedding_hidden_mapping_in", "projection")
    for theirs, part in ALBERT_LAYER:
        yield from both(f"albert.encoder.albert_layer_groups.0.albert_layers.0.{theirs}", f"blocks.0.{part}")
    if model.pooler == "pretraining":
        yield from both("albert.pooler", "pooler")
    if model.sentence_head:
        yield from both("sop_classifier.classifier", "sentence")
    yield from both("predictions.dense", "head.transform.dense")
    yield from both("predictions.LayerNorm", "head.transform.norm")
    yield Entry("predictions.bias", ("head.output.bias",))
    if not model.tied:
        yield Entry("predictions.decoder.weight", ("head.output.weight",))


ALBERT = Family(
    "albert",
    "AlbertForPreTraining",
    _albert_fields,
    _albert_config,
    _albert_entries,
    aliases=(
        ("predictions.decoder.weight", "albert.embeddings.word_embeddings.weight"),
        ("predictions.decoder.bias", "predictions.bias"),
    ),
    prefix="albert.",
    ignored=(r"position_ids$",),
)


# --- ELECTRA ---------------------------------------------------------------------------------------------------------


def _electra_fields(config: Json, names: Names) -> dict[str, Any]:
    return _fields(config) | {"embedding_width": config.get("embedding_size", 128)}


def _electra_config(model: ModelConfig) -> dict[str, Any]:
    return _config(model) | {"embedding_size": model.embedding_channels}


def _electra_body(model: ModelConfig, ours: str, embedding: str) -> Iterator[Entry]:
    yield from _embeddings("electra.embeddings", model, embedding)
    if model.embedding_channels != model.width:
        yield from both("electra.embeddings_project", f"{ours}projection")
    yield from _layers("electra.encoder.layer", model, BERT_LAYER, ours)


def electra_discriminator_entries(model: ModelConfig) -> Iterator[Entry]:
    """ElectraForPreTraining: the encoder with its detector."""
    yield from _electra_body(model, "", "")
    yield from both("discriminator_predictions.dense", "replaced.dense")
    yield from both("discriminator_predictions.dense_prediction", "replaced.output")


def electra_generator_entries(model: ModelConfig) -> Iterator[Entry]:
    """ElectraForMaskedLM: an encoder of its own, or (`model` with a generator) the one inside."""
    inside = model.generator
    ours, head = ("replaced.generator.", "replaced.token_head") if inside else ("", "head")
    yield from _electra_body(inside or model, ours, "")
    yield from both("generator_predictions.dense", f"{head}.transform.dense")
    yield from both("generator_predictions.LayerNorm", f"{head}.transform.norm")
    yield Entry("generator_lm_head.bias", (f"{head}.output.bias",))
    if not model.tied:
        yield Entry("generator_lm_head.weight", (f"{head}.output.weight",))


ELECTRA = Family(
    "electra",
    "ElectraForMaskedLM",
    _electra_fields,
    _electra_config,
    electra_generator_entries,
    aliases=(("generator_lm_head.weight", "electra.embeddings.word_embeddings.weight"),),
    prefix="electra.",
    ignored=(r"position_ids$",),
)
