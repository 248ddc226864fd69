"""The models that came from fairseq, whose layers have the same names: OPT, XGLM, BART and mBART."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from trainer.config.model import ModelConfig
from trainer.hub.family import Entry, Family, both
from trainer.hub.layouts import Shaped
from trainer.hub.table import (
    ACTIVATION,
    Always,
    DecoderDepth,
    Dropouts,
    Fields,
    Given,
    Key,
    Only,
    Several,
    Table,
    Value,
    Written,
    sizes,
)

ATTENTION = (("q_proj", "query"), ("k_proj", "key"), ("v_proj", "value"), ("out_proj", "output"))
COMMON = {"gated": False, "norm": "layernorm", "norm_epsilon": 1e-5, "position_offset": 2, "bias": True}


def layers(theirs: str, ours: str, model: ModelConfig, *, cross: bool = False) -> Iterator[Entry]:
    for i in range(model.depth):
        layer, block = f"{theirs}.{i}", f"{ours}.{i}"
        for name, part in ATTENTION:
            yield from both(f"{layer}.self_attn.{name}", f"{block}.attention.{part}")
        yield from both(f"{layer}.self_attn_layer_norm", f"{block}.attention_norm")
        if cross:
            for name, part in ATTENTION:
                yield from both(f"{layer}.encoder_attn.{name}", f"{block}.cross_attention.{part}")
            yield from both(f"{layer}.encoder_attn_layer_norm", f"{block}.cross_norm")
        yield from both(f"{layer}.fc1", f"{block}.feed_forward.up")
        yield from both(f"{layer}.fc2", f"{block}.feed_forward.down")
        yield from both(f"{layer}.final_layer_norm", f"{block}.feed_forward_norm")


# --- OPT -------------------------------------------------------------------------------------------------------------


class _PreNorm(Value):
    """Our norm_position, of which OPT says whether it is "pre"."""

    def read(self, key: str, value: Any) -> str:
        return "pre" if value else "post"

    def write(self, value: str) -> bool:
        return value == "pre"


def _read_projection(given: Given) -> Fields:
    columns = given.config.get("word_embed_proj_dim") or given.fields["width"]
    return {} if columns == given.fields["width"] else {"embedding_width": columns, "embedding_projection": "tokens"}


OPT_TABLE = (
    Only({"enable_bias": True, "layer_norm_elementwise_affine": True, "_remove_final_layer_norm": False}),
    Always(COMMON | {"family": "decoder", "position": "learned"}),
    *sizes("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "ffn_dim"),
    Several(_read_projection, lambda model: {"word_embed_proj_dim": model.embedding_channels}),
    Key("max_length", "max_position_embeddings", 2048),
    Key("activation", "activation_function", "relu", ACTIVATION),
    Key("norm_position", "do_layer_norm_before", True, _PreNorm()),
    Key("tied", "tie_word_embeddings", True),
    Dropouts(("dropout",), ("attention_dropout",)),
    Written("init_std", "init_std"),
)


def _opt_entries(model: ModelConfig) -> Iterator[Entry]:
    yield Entry("model.decoder.embed_tokens.weight", ("tokens.weight",))
    yield Entry("model.decoder.embed_positions.weight", ("positions.weight",))
    if model.embedding_channels != model.width:
        yield Entry("model.decoder.project_in.weight", ("projection.weight",))
        yield Entry("model.decoder.project_out.weight", ("transform.weight",))
    yield from layers("model.decoder.layers", "blocks", model)
    if model.final_norm:
        yield from both("model.decoder.final_layer_norm", "norm")
    if not model.tied:
        yield Entry("lm_head.weight", ("head.weight",))


OPT = Family(
    "opt",
    "OPTForCausalLM",
    OPT_TABLE,
    _opt_entries,
    aliases=(("lm_head.weight", "model.decoder.embed_tokens.weight"),),
    prefix="model.",
)


# --- XGLM ------------------------------------------------------------------------------------------------------------


XGLM_TABLE = (
    Only({"add_cross_attention": False}),
    Always(COMMON | {"family": "decoder", "position": "sinusoidal"}),
    *sizes("vocab_size", "d_model", "num_layers", "attention_heads", "ffn_dim"),
    Key("max_length", "max_position_embeddings", 2048),
    Key("activation", "activation_function", "gelu", ACTIVATION),
    Key("embedding_scale", "scale_embedding", True),
    Key("tied", "tie_word_embeddings", True),
    Dropouts(("dropout",), ("attention_dropout",)),
    Written("init_std", "init_std"),
)


def _xglm_entries(model: ModelConfig) -> Iterator[Entry]:
    yield Entry("model.embed_tokens.weight", ("tokens.weight",))
    yield from layers("model.layers", "blocks", model)
    yield from both("model.layer_norm", "norm")
    if not model.tied:
        yield Entry("lm_head.weight", ("head.weight",))


XGLM = Family(
    "xglm",
    "XGLMForCausalLM",
    XGLM_TABLE,
    _xglm_entries,
    aliases=(("lm_head.weight", "model.embed_tokens.weight"),),
    prefix="model.",
    synonyms={"num_attention_heads": "attention_heads", "hidden_size": "d_model", "num_hidden_layers": "num_layers"},
    ignored=(r"embed_positions\.weights$",),
)


# --- BART and mBART --------------------------------------------------------------------------------------------------


def read_head_bias(given: Given) -> Fields:
    bias = given.tensors("final_logits_bias")
    return {"head_bias": bias is not None and bool(bias.any())}


# Keys that encoder-decoders of this kind say alike.
TWO_SIDES: Table = (
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


def _bart_table(norm_position: str) -> Table:
    always = {"family": "encoder_decoder", "norm_position": norm_position, "position": "learned"}
    return (
        Only({"tie_word_embeddings": True}),
        Always(COMMON | always | {"embedding_norm": True}),
        *TWO_SIDES,
    )


def _bart_entries(model: ModelConfig) -> Iterator[Entry]:
    yield Entry("model.shared.weight", ("encoder.tokens.weight",))
    for side, shape in (("encoder", model), ("decoder", model.decoder_side)):
        yield Entry(f"model.{side}.embed_positions.weight", (f"{side}.positions.weight",))
        yield from both(f"model.{side}.layernorm_embedding", f"{side}.embedding_norm")
        yield from layers(f"model.{side}.layers", f"{side}.blocks", shape, cross=side == "decoder")
        if model.final_norm:
            yield from both(f"model.{side}.layer_norm", f"{side}.norm")
    if model.head_bias:
        yield Entry("final_logits_bias", ("head.bias",), Shaped((1, model.vocabulary or 0)))


TWO_SIDED_ALIASES = tuple(
    (name, "model.shared.weight")
    for name in ("model.encoder.embed_tokens.weight", "model.decoder.embed_tokens.weight", "lm_head.weight")
)
TWO_SIDED_SYNONYMS = {
    "num_attention_heads": "encoder_attention_heads",
    "hidden_size": "d_model",
    "num_hidden_layers": "encoder_layers",
}
BART, MBART = (
    Family(
        kind,
        architecture,
        _bart_table(norm_position),
        _bart_entries,
        aliases=TWO_SIDED_ALIASES,
        prefix="model.",
        synonyms=TWO_SIDED_SYNONYMS,
        ignored=("^final_logits_bias$",),
    )
    for kind, architecture, norm_position in (
        ("bart", "BartForConditionalGeneration", "post"),
        ("mbart", "MBartForConditionalGeneration", "pre"),
    )
)
