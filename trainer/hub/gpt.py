"""GPT, GPT-2, GPT-NeoX and BLOOM."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from trainer.config.model import ModelConfig
from trainer.hub.family import Entry, Family, both
from trainer.hub.layouts import TRANSPOSED, ByHead
from trainer.hub.table import (
    ACTIVATION,
    Always,
    Dropouts,
    Fields,
    Given,
    Key,
    Only,
    Several,
    Table,
    Words,
    Written,
    number,
    read_rotary,
    rope_parameters,
    sizes,
    table_in,
    usual_head_size,
)

QKV = ("query", "key", "value")


def _gpt_table(norm_position: str, places: int) -> Table:
    """places: the default of transformers."""
    always = {"family": "decoder", "gated": False, "norm": "layernorm", "norm_position": norm_position, "bias": True}
    return (
        Only({"scale_attn_weights": True, "scale_attn_by_inverse_layer_idx": False, "add_cross_attention": False}),
        Always(always | {"position": "learned"}),
        *sizes("vocab_size", "n_embd", "n_layer", "n_head"),
        Key("max_length", "n_positions", places),
        Key("norm_epsilon", "layer_norm_epsilon", 1e-5),
        Key("tied", "tie_word_embeddings", True),
        Dropouts(("resid_pdrop", "embd_pdrop"), ("attn_pdrop",)),
        Written("init_std", "initializer_range"),
    )


# Its "gelu" is the one by tanh, and it has no other names.
AFN = Words({"gelu": "gelu_tanh", "relu": "relu", "silu": "silu", "swish": "silu"})


def _usual_hidden(fields: Fields) -> Any:
    return 4 * fields["width"]


GPT2_TABLE = (
    *_gpt_table("pre", 1024),
    Key("ffn_width", "n_inner", _usual_hidden),
    Key("activation", "activation_function", "gelu_new", ACTIVATION),
)
GPT_TABLE = (
    *_gpt_table("post", 512),
    Several(lambda given: {"ffn_width": _usual_hidden(given.fields)}),  # whatever n_inner says
    Key("activation", "afn", "gelu", AFN),
)


def _gpt_entries(model: ModelConfig) -> Iterator[Entry]:
    first = model.norm_position == "post"
    embedding, places = ("tokens_embed", "positions_embed") if first else ("wte", "wpe")
    yield Entry(f"transformer.{embedding}.weight", ("tokens.weight",))
    yield Entry(f"transformer.{places}.weight", ("positions.weight",))
    for i in range(model.depth):
        theirs, ours = f"transformer.h.{i}", f"blocks.{i}"
        yield from both(f"{theirs}.ln_1", f"{ours}.attention_norm")
        yield from both(f"{theirs}.attn.c_attn", *(f"{ours}.attention.{part}" for part in QKV), layout=TRANSPOSED)
        yield from both(f"{theirs}.attn.c_proj", f"{ours}.attention.output", layout=TRANSPOSED)
        yield from both(f"{theirs}.ln_2", f"{ours}.feed_forward_norm")
        yield from both(f"{theirs}.mlp.c_fc", f"{ours}.feed_forward.up", layout=TRANSPOSED)
        yield from both(f"{theirs}.mlp.c_proj", f"{ours}.feed_forward.down", layout=TRANSPOSED)
    if not first:
        yield from both("transformer.ln_f", "norm")
    if not model.tied:
        yield Entry("lm_head.weight", ("head.weight",))


_SYNONYMS = {
    "hidden_size": "n_embd",
    "max_position_embeddings": "n_positions",
    "num_attention_heads": "n_head",
    "num_hidden_layers": "n_layer",
}
GPT2 = Family(
    "gpt2",
    "GPT2LMHeadModel",
    GPT2_TABLE,
    _gpt_entries,
    aliases=(("lm_head.weight", "transformer.wte.weight"),),
    prefix="transformer.",
    synonyms=_SYNONYMS,
    ignored=(r"\.attn\.(masked_)?bias$",),
)
GPT = Family(
    "openai-gpt",
    "OpenAIGPTLMHeadModel",
    GPT_TABLE,
    _gpt_entries,
    aliases=(("lm_head.weight", "transformer.tokens_embed.weight"),),
    prefix="transformer.",
    synonyms=_SYNONYMS,
    ignored=(r"\.attn\.bias$", r"position_ids$"),
)


def _read_partly_rotary(given: Given) -> Fields:
    usual_head_size(given)
    rope = table_in(given.config, "rope_scaling") or table_in(given.config, "rope_parameters")
    share = rope.get("partial_rotary_factor", given.config.get("rotary_pct", 0.25))
    base = number(given.config, "rotary_emb_base", 10_000.0)
    return {"rotary_fraction": number({"rotary_pct": share}, "rotary_pct"), **_read_without_base(given, base)}


def _read_without_base(given: Given, base: float) -> Fields:
    """This type reads no rope_theta beside rope_parameters."""
    return read_rotary({key: value for key, value in given.config.items() if key != "rope_theta"}, base)


def _write_partly_rotary(model: ModelConfig) -> Fields:
    return {"rope_parameters": rope_parameters(model) | {"partial_rotary_factor": model.rotary_fraction}}


NEOX_TABLE = (
    Only({"attention_bias": True, "is_decoder": False}),
    Always({"family": "decoder", "gated": False, "norm": "layernorm", "position": "rotary", "bias": True}),
    *sizes("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size"),
    Key("max_length", "max_position_embeddings", 2048),
    Several(_read_partly_rotary, _write_partly_rotary),
    Key("activation", "hidden_act", "gelu", ACTIVATION),
    Key("norm_epsilon", "layer_norm_eps", 1e-5),
    Key("parallel", "use_parallel_residual", True),
    Key("tied", "tie_word_embeddings", False),
    Dropouts(("hidden_dropout",), ("attention_dropout",)),
    Written("init_std", "initializer_range"),
)


def _megatron_layers(model: ModelConfig, layers: str, attention: str) -> Iterator[Entry]:
    """Blocks as Megatron-LM named them; GPT-NeoX and BLOOM were trained with its descendants."""
    packed = ByHead(model.heads)
    for i in range(model.depth):
        theirs, ours = f"{layers}.{i}", f"blocks.{i}"
        parts = [f"{ours}.attention.{part}" for part in QKV]
        yield from both(f"{theirs}.input_layernorm", f"{ours}.attention_norm")
        yield from both(f"{theirs}.{attention}.query_key_value", *parts, layout=packed, bias_layout=packed)
        yield from both(f"{theirs}.{attention}.dense", f"{ours}.attention.output")
        yield from both(f"{theirs}.post_attention_layernorm", f"{ours}.feed_forward_norm")
        yield from both(f"{theirs}.mlp.dense_h_to_4h", f"{ours}.feed_forward.up")
        yield from both(f"{theirs}.mlp.dense_4h_to_h", f"{ours}.feed_forward.down")


def _neox_entries(model: ModelConfig) -> Iterator[Entry]:
    yield Entry("gpt_neox.embed_in.weight", ("tokens.weight",))
    yield from _megatron_layers(model, "gpt_neox.layers", "attention")
    yield from both("gpt_neox.final_layer_norm", "norm")
    if not model.tied:
        yield Entry("embed_out.weight", ("head.weight",))


NEOX = Family(
    "gpt_neox",
    "GPTNeoXForCausalLM",
    NEOX_TABLE,
    _neox_entries,
    aliases=(("embed_out.weight", "gpt_neox.embed_in.weight"),),
    prefix="gpt_neox.",
    ignored=(r"\.attention\.(masked_)?bias$", r"rotary_emb\.inv_freq$"),
)


BLOOM_TABLE = (
    Only({"apply_residual_connection_post_layernorm": False}),
    Always({"family": "decoder", "activation": "gelu_tanh", "gated": False, "norm": "layernorm"}),
    Always({"position": "alibi", "embedding_norm": True, "bias": True}),
    Key("vocabulary", "vocab_size"),
    Key("width", "hidden_size", 64),
    Key("depth", "n_layer", 2),
    Key("heads", "n_head", 8),
    Several(lambda given: {"ffn_width": _usual_hidden(given.fields)}),
    Key("norm_epsilon", "layer_norm_epsilon", 1e-5),
    Key("tied", "tie_word_embeddings", True),
    Dropouts(("hidden_dropout",), ("attention_dropout",)),
    Written("init_std", "initializer_range"),
)


def _bloom_entries(model: ModelConfig) -> Iterator[Entry]:
    yield Entry("transformer.word_embeddings.weight", ("tokens.weight",))
    yield from both("transformer.word_embeddings_layernorm", "embedding_norm")
    yield from _megatron_layers(model, "transformer.h", "self_attention")
    yield from both("transformer.ln_f", "norm")
    if not model.tied:
        yield Entry("lm_head.weight", ("head.weight",))


BLOOM = Family(
    "bloom",
    "BloomForCausalLM",
    BLOOM_TABLE,
    _bloom_entries,
    aliases=(("lm_head.weight", "transformer.word_embeddings.weight"),),
    prefix="transformer.",
    synonyms={"n_embed": "hidden_size", "num_hidden_layers": "n_layer", "num_attention_heads": "n_head"},
)
