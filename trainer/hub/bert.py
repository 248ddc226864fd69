"""BERT and its kind: RoBERTa, XLM-R, CamemBERT, ALBERT and ELECTRA's discriminator and generator."""

from __future__ import annotations

from collections.abc import Iterator

from trainer.config.model import ModelConfig
from trainer.hub.family import Entry, Family, both, token_embedding
from trainer.hub.table import (
    ACTIVATION,
    Always,
    Dropouts,
    Fields,
    Given,
    HasTensor,
    Key,
    Only,
    Several,
    Table,
    Written,
    gelu_head,
    sizes,
    whole,
)
from trainer.utils.errors import UserError

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


def _write_places(model: ModelConfig) -> Fields:
    return {"max_position_embeddings": (model.max_length or 0) + model.position_offset}


def _read_places(given: Given) -> Fields:
    return {"max_length": whole(given.config, "max_position_embeddings", 512)}


def _read_places_behind_pad(given: Given) -> Fields:
    """RoBERTa's position 0 stands in the row behind the pad token's id, which is 1 where config.json has none."""
    pad = given.config["pad_token_id"] if given.config.get("pad_token_id") is not None else 1
    offset = 1 + whole({"pad_token_id": pad}, "pad_token_id", least=0)
    places = whole(given.config, "max_position_embeddings", 512)
    if places <= offset:
        raise UserError(
            f"config.json: max_position_embeddings={places} leaves no place behind pad_token_id={pad}; more than "
            f"{offset} are wanted"
        )
    return {"position_offset": offset, "max_length": places - offset}


def _write_places_behind_pad(model: ModelConfig) -> Fields:
    return _write_places(model) | {"pad_token_id": model.position_offset - 1}


def _write_types(model: ModelConfig) -> Fields:
    return {"type_vocab_size": model.token_types}


PLACES = Several(_read_places, _write_places)
PLACES_BEHIND_PAD = Several(_read_places_behind_pad, _write_places_behind_pad)


def _table(*, activation: str = "gelu", epsilon: float = 1e-12, types: int = 2) -> Table:
    """What all have; the arguments are the defaults of transformers."""
    always = {"family": "encoder", "gated": False, "norm": "layernorm", "norm_position": "post", "position": "learned"}
    return (
        Only({"is_decoder": False, "add_cross_attention": False, "position_embedding_type": "absolute"}),
        Always(always | {"embedding_norm": True, "bias": True, "head_transform": True, "head_bias": True}),
        *sizes("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size"),
        Key("activation", "hidden_act", activation, ACTIVATION),
        Key("norm_epsilon", "layer_norm_eps", epsilon),
        Several(lambda given: {"token_types": whole(given.config, "type_vocab_size", types)}, _write_types),
        Key("tied", "tie_word_embeddings", True),
        Dropouts(("hidden_dropout_prob",), ("attention_probs_dropout_prob",)),
        Written("init_std", "initializer_range"),
    )


def _bias(model: ModelConfig) -> str:
    """The bias of the output matrix; an untied matrix has one of its own, and the other goes unused."""
    return "bias" if model.tied else "decoder.bias"


def _read_mapping(given: Given) -> Fields:
    """An ALBERT maps its embedding to its width even where the two are equal, which ours does not."""
    width = given.fields["width"]
    if given.fields["embedding_width"] == width:
        raise UserError(f"config.json: embedding_size={width} is not supported beside hidden_size={width}; others are")
    return {}


def _embeddings(prefix: str, model: ModelConfig, ours: str = "") -> Iterator[Entry]:
    yield token_embedding(f"{prefix}.word_embeddings.weight", model)
    yield Entry(f"{prefix}.position_embeddings.weight", (f"{ours}positions.weight",))
    yield Entry(f"{prefix}.token_type_embeddings.weight", (f"{ours}token_types.weight",))
    if model.embedding_norm:
        yield from both(f"{prefix}.LayerNorm", f"{ours}embedding_norm")


def _layers(prefix: str, model: ModelConfig, parts: tuple[tuple[str, str], ...], ours: str = "") -> Iterator[Entry]:
    for i in range(model.depth):
        for theirs, part in parts:
            yield from both(f"{prefix}.{i}.{theirs}", f"{ours}blocks.{i}.{part}")


# --- BERT ------------------------------------------------------------------------------------------------------------


BERT_TABLE = (
    *_table(),
    PLACES,
    HasTensor("sentence_head", "cls.seq_relationship.weight"),
    HasTensor("pooler", "bert.pooler.dense.weight", "none", "pretraining"),
)


def _bert_entries(model: ModelConfig) -> Iterator[Entry]:
    yield from _embeddings("bert.embeddings", model)
    yield from _layers("bert.encoder.layer", model, BERT_LAYER)
    if model.pooler == "pretraining":
        yield from both("bert.pooler.dense", "pooler")
    if model.sentence_head:
        yield from both("cls.seq_relationship", "sentence")
    yield from both("cls.predictions.transform.dense", "head.transform.dense")
    yield from both("cls.predictions.transform.LayerNorm", "head.transform.norm")
    yield Entry(f"cls.predictions.{_bias(model)}", ("head.output.bias",))
    if not model.tied:
        yield Entry("cls.predictions.decoder.weight", ("head.output.weight",))


BERT = Family(
    "bert",
    "BertForPreTraining",
    BERT_TABLE,
    _bert_entries,
    aliases=(
        ("cls.predictions.decoder.weight", "bert.embeddings.word_embeddings.weight"),
        ("cls.predictions.decoder.bias", "cls.predictions.bias"),
        ("cls.predictions.bias", "cls.predictions.decoder.bias"),
    ),
    prefix="bert.",
    ignored=(r"position_ids$",),
    without_pairs="BertForMaskedLM",
    pairs_alone="BertForNextSentencePrediction",
)


# --- RoBERTa and XLM-R -----------------------------------------------------------------------------------------------


ROBERTA_TABLE = (*_table(), gelu_head("hidden_act"), PLACES_BEHIND_PAD, Always({"pooler": "finetuning"}))
XL_TABLE = (
    *_table(epsilon=1e-5, types=1),
    gelu_head("hidden_act"),
    PLACES_BEHIND_PAD,
    Always({"pooler": "finetuning", "norm_position": "pre", "embedding_norm": False}),
)


def _roberta_entries(model: ModelConfig) -> Iterator[Entry]:
    yield from _embeddings("roberta.embeddings", model)
    yield from _layers("roberta.encoder.layer", model, BERT_LAYER if model.norm_position == "post" else XL_LAYER)
    if model.final_norm:
        yield from both("roberta.encoder.LayerNorm", "norm")
    yield from both("lm_head.dense", "head.transform.dense")
    yield from both("lm_head.layer_norm", "head.transform.norm")
    yield Entry(f"lm_head.{_bias(model)}", ("head.output.bias",))
    if not model.tied:
        yield Entry("lm_head.decoder.weight", ("head.output.weight",))


_ROBERTA_ALIASES = (
    ("lm_head.decoder.weight", "roberta.embeddings.word_embeddings.weight"),
    ("lm_head.decoder.bias", "lm_head.bias"),
    ("lm_head.bias", "lm_head.decoder.bias"),
)
_ROBERTA_IGNORED = (r"position_ids$", r"^roberta\.pooler\.")
ROBERTA, XLMR, XLMR_XL, CAMEMBERT = (
    Family(
        kind,
        architecture,
        table,
        _roberta_entries,
        aliases=_ROBERTA_ALIASES,
        prefix="roberta.",
        ignored=_ROBERTA_IGNORED,
    )
    for kind, architecture, table in (
        ("roberta", "RobertaForMaskedLM", ROBERTA_TABLE),
        ("xlm-roberta", "XLMRobertaForMaskedLM", ROBERTA_TABLE),
        ("xlm-roberta-xl", "XLMRobertaXLForMaskedLM", XL_TABLE),
        ("camembert", "CamembertForMaskedLM", ROBERTA_TABLE),
    )
)


# --- ALBERT ----------------------------------------------------------------------------------------------------------


EMBEDDING_WIDTH = Key("embedding_width", "embedding_size", 128)
ALBERT_TABLE = (
    Only({"num_hidden_groups": 1, "inner_group_num": 1}, written=True),
    *_table(activation="gelu_new"),
    PLACES,
    EMBEDDING_WIDTH,
    Several(_read_mapping),
    Always({"shared_layers": True}),
    HasTensor("sentence_head", "sop_classifier.classifier.weight"),
    HasTensor("pooler", "albert.pooler.weight", "none", "pretraining"),
)


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
    yield Entry(f"predictions.{_bias(model)}", ("head.output.bias",))
    if not model.tied:
        yield Entry("predictions.decoder.weight", ("head.output.weight",))


ALBERT = Family(
    "albert",
    "AlbertForPreTraining",
    ALBERT_TABLE,
    _albert_entries,
    aliases=(
        ("predictions.decoder.weight", "albert.embeddings.word_embeddings.weight"),
        ("predictions.decoder.bias", "predictions.bias"),
        ("predictions.bias", "predictions.decoder.bias"),
    ),
    prefix="albert.",
    ignored=(r"position_ids$",),
    without_pairs="AlbertForMaskedLM",
)


# --- ELECTRA ---------------------------------------------------------------------------------------------------------


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


def generator_places(model: ModelConfig) -> tuple[ModelConfig, str, str, str]:
    """The encoder that has the head over the vocabulary (`model`, or the generator inside of it), and by our names what
    its tensors, its embedding and its head begin with."""
    if (inside := model.generator) is None:
        return model, "", "", "head"
    ours = "replaced.generator."
    return inside, ours, ours if model.embedding_sharing == "disentangled" else "", "replaced.token_head"


def electra_generator_entries(model: ModelConfig) -> Iterator[Entry]:
    """ElectraForMaskedLM: an encoder of its own, or (`model` with a generator) the one inside."""
    encoder, ours, embedding, head = generator_places(model)
    yield from _electra_body(encoder, ours, embedding)
    yield from both("generator_predictions.dense", f"{head}.transform.dense")
    yield from both("generator_predictions.LayerNorm", f"{head}.transform.norm")
    yield Entry("generator_lm_head.bias", (f"{head}.output.bias",))
    if not model.tied:
        yield Entry("generator_lm_head.weight", (f"{head}.output.weight",))


ELECTRA = Family(
    "electra",
    "ElectraForMaskedLM",
    (*_table(), gelu_head("hidden_act"), PLACES, EMBEDDING_WIDTH),
    electra_generator_entries,
    aliases=(("generator_lm_head.weight", "electra.embeddings.word_embeddings.weight"),),
    prefix="electra.",
    ignored=(r"position_ids$",),
    discriminator=("ElectraForPreTraining", electra_discriminator_entries),
)
