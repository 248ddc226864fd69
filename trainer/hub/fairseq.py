"""The models that came from fairseq, whose layers have the same names: OPT, XGLM, BART and mBART."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from trainer.config.model import ModelConfig
from trainer.hub.family import ACTIVATIONS, Entry, Family, Json, Names, activation, both, only, required
from trainer.hub.layouts import Shaped

ATTENTION = (("q_proj", "query"), ("k_proj", "key"), ("v_proj", "value"), ("out_proj", "output"))
COMMON = {"gated": False, "norm": "layernorm", "norm_epsilon": 1e-5, "position_offset": 2, "bias": True}


def _layers(theirs: str, ours: str, model: ModelConfig, *, cross: bool = False) -> Iterator[Entry]:
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


def _opt_fields(config: Json, names: Names) -> dict[str, Any]:
    vocabulary, width, depth, heads, hidden = required(
        config, "vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "ffn_dim"
    )
    only(config, enable_bias=True, layer_norm_elementwise_affine=True, _remove_final_layer_norm=False)
    columns = config.get("word_embed_proj_dim") or width
    more = {} if columns == width else {"embedding_width": columns, "embedding_projection": "tokens"}
    return COMMON | {
        "family": "decoder",
        "vocabulary": vocabulary,
        "max_length": config.get("max_position_embeddings", 2048),
        "depth": depth,
        "width": width,
        "heads": heads,
        "ffn_width": hidden,
        "activation": activation(config, "activation_function", "relu"),
        "norm_position": "pre" if config.get("do_layer_norm_before", True) else "post",
        "position": "learned",
        "tied": bool(config.get("tie_word_embeddings", True)),
        **more,
    }


def _opt_config(model: ModelConfig) -> dict[str, Any]:
    return {
        "vocab_size": model.vocabulary,
        "max_position_embeddings": model.max_length,
        "hidden_size": model.width,
        "word_embed_proj_dim": model.embedding_channels,
        "num_hidden_layers": model.depth,
        "num_attention_heads": model.heads,
        "ffn_dim": model.ffn_channels,
        "activation_function": ACTIVATIONS[model.activation],
        "do_layer_norm_before": model.norm_position == "pre",
        "tie_word_embeddings": model.tied,
        "init_std": model.init_std,
    }


def _opt_entries(model: ModelConfig) -> Iterator[Entry]:
    yield Entry("model.decoder.embed_tokens.weight", ("tokens.weight",))
    yield Entry("model.decoder.embed_positions.weight", ("positions.weight",))
    if model.embedding_channels != model.width:
        yield Entry("model.decoder.project_in.weight", ("projection.weight",))
        yield Entry("model.decoder.project_out.weight", ("transform.weight",))
    yield from _layers("model.decoder.layers", "blocks", model)
    if model.final_norm:
        yield from both("model.decoder.final_layer_norm", "norm")
    if not model.tied:
        yield Entry("lm_head.weight", ("head.weight",))


OPT = Family(
    "opt",
    "OPTForCausalLM",
    _opt_fields,
    _opt_config,
    _opt_entries,
    aliases=(("lm_head.weight", "model.decoder.embed_tokens.weight"),),
    prefix="model.",
)


# --- XGLM ------------------------------------------------------------------------------------------------------------


def _xglm_fields(config: Json, names: Names) -> dict[str, Any]:
    vocabulary, width, depth, heads, hidden = required(
        config, "vocab_size", "d_model", "num_layers", "attention_heads", "ffn_dim"
    )
    return COMMON | {
        "family": "decoder",
        "vocabulary": vocabulary,
        "max_length": config.get("max_position_embeddings", 2048),
        "depth": depth,
        "width": width,
        "heads": heads,
        "ffn_width": hidden,
        "activation": activation(config, "activation_function", "gelu"),
        "position": "sinusoidal",
        "embedding_scale": bool(config.get("scale_embedding", True)),
        "tied": bool(config.get("tie_word_embeddings", True)),
    }


def _xglm_config(model: ModelConfig) -> dict[str, Any]:
    return {
        "vocab_size": model.vocabulary,
        "max_position_embeddings": model.max_length,
        "d_model": model.width,
        "num_layers": model.depth,
        "attention_heads": model.heads,
        "ffn_dim": model.ffn_channels,
        "activation_function": ACTIVATIONS[model.activation],
        "scale_embedding": model.embedding_scale,
        "tie_word_embeddings": model.tied,
        "init_std": model.init_std,
    }


def _xglm_entries(model: ModelConfig) -> Iterator[Entry]:
    yield Entry("model.embed_tokens.weight", ("tokens.weight",))
    yield from _layers("model.layers", "blocks", model)
    yield from both("model.layer_norm", "norm")
    if not model.tied:
        yield Entry("lm_head.weight", ("head.weight",))


XGLM = Family(
    "xglm",
    "XGLMForCausalLM",
    _xglm_fields,
    _xglm_config,
    _xglm_entries,
    aliases=(("lm_head.weight", "model.embed_tokens.weight"),),
    prefix="model.",
    ignored=(r"embed_positions\.weights$",),
)


# --- BART and mBART --------------------------------------------------------------------------------------------------


def _bart_fields(config: Json, names: Names, *, norm_position: str) -> dict[str, Any]:
    vocabulary, width, depth, heads, hidden = required(
        config, "vocab_size", "d_model", "encoder_layers", "encoder_attention_heads", "encoder_ffn_dim"
    )
    only(config, decoder_layers=depth, decoder_attention_heads=heads, decoder_ffn_dim=hidden, tie_word_embeddings=True)
    bias = names("final_logits_bias")
    return COMMON | {
        "family": "encoder_decoder",
        "vocabulary": vocabulary,
        "max_length": config.get("max_position_embeddings", 1024),
        "depth": depth,
        "width": width,
        "heads": heads,
        "ffn_width": hidden,
        "activation": activation(config, "activation_function", "gelu"),
        "norm_position": norm_position,
        "position": "learned",
        "embedding_norm": True,
        "embedding_scale": bool(config.get("scale_embedding", False)),
        "tied": True,
        "head_bias": bias is not None and bool(bias.any()),
    }


def _bart_config(model: ModelConfig) -> dict[str, Any]:
    return {
        "vocab_size": model.vocabulary,
        "max_position_embeddings": model.max_length,
        "d_model": model.width,
        **{f"{side}_layers": model.depth for side in ("encoder", "decoder")},
        **{f"{side}_attention_heads": model.heads for side in ("encoder", "decoder")},
        **{f"{side}_ffn_dim": model.ffn_channels for side in ("encoder", "decoder")},
        "activation_function": ACTIVATIONS[model.activation],
        "scale_embedding": model.embedding_scale,
        "tie_word_embeddings": model.tied,
        "init_std": model.init_std,
    }


def _bart_entries(model: ModelConfig) -> Iterator[Entry]:
    yield Entry("model.shared.weight", ("encoder.tokens.weight",))
    for side in ("encoder", "decoder"):
        yield Entry(f"model.{side}.embed_positions.weight", (f"{side}.positions.weight",))
        yield from both(f"model.{side}.layernorm_embedding", f"{side}.embedding_norm")
        yield from _layers(f"model.{side}.layers", f"{side}.blocks", model, cross=side == "decoder")
        if model.final_norm:
            yield from both(f"model.{side}.layer_norm", f"{side}.norm")
    if model.head_bias:
        yield Entry("final_logits_bias", ("head.bias",), Shaped((1, model.vocabulary or 0)))


_BART_ALIASES = tuple(
    (name, "model.shared.weight")
    for name in ("model.encoder.embed_tokens.weight", "model.decoder.embed_tokens.weight", "lm_head.weight")
)
BART = Family(
    "bart",
    "BartForConditionalGeneration",
    lambda config, names: _bart_fields(config, names, norm_position="post"),
    _bart_config,
    _bart_entries,
    aliases=_BART_ALIASES,
    prefix="model.",
    ignored=("^final_logits_bias$",),
)
MBART = Family(
    "mbart",
    "MBartForConditionalGeneration",
    lambda config, names: _bart_fields(config, names, norm_position="pre"),
    _bart_config,
    _bart_entries,
    aliases=_BART_ALIASES,
    prefix="model.",
    ignored=("^final_logits_bias$",),
)
