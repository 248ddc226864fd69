"""Llama and what is near to it: OLMo 1 to 3, Mistral, Qwen 2, Qwen 3, SmolLM3; with experts Mixtral, OLMoE, Qwen."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from trainer.config.model import ModelConfig
from trainer.hub.experts import BY_NAME, BY_NUMBER, SHARED_EXPERT, SPARSE_LAYERS, feed_forward, mixture
from trainer.hub.family import Entry, Family, both
from trainer.hub.layouts import ByExpert
from trainer.hub.local_layers import layer_types, ropes
from trainer.hub.table import (
    ACTIVATION,
    Always,
    Dropouts,
    Fields,
    Given,
    Key,
    Only,
    Row,
    Several,
    Table,
    Written,
    only,
    rotary_row,
    sizes,
    whole,
)
from trainer.utils.errors import UserError

Default = Callable[[Fields], Any] | int | None


def _heads(fields: Fields) -> Any:
    return fields["heads"]


def _equal_parts(fields: Fields) -> Any:
    return fields["width"] // fields["heads"]


def _table(
    *,
    epsilon: float | None,
    head_size: Default = _equal_parts,
    head_size_written: bool = True,
    kv_heads: Default = _heads,
    biases: tuple[str, ...] = ("attention_bias", "mlp_bias"),
    tied: bool = False,
    longest: int = 2048,
    base: float = 10_000.0,
) -> Table:
    """Defaults of transformers where config.json is silent: epsilon (None: it has no such key), head_size, kv_heads,
    tied, longest, base of the rotary frequencies. biases: keys of config.json that must be false."""
    norm = (
        Always({"norm": "bare_layernorm", "norm_epsilon": 1e-5})
        if epsilon is None
        else Key("norm_epsilon", "rms_norm_eps", epsilon)
    )
    return (
        Only(dict.fromkeys(biases, False)),
        Always({"family": "decoder", "gated": True, "norm": "rmsnorm", "position": "rotary", "bias": False}),
        *sizes("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size"),
        Key("max_length", "max_position_embeddings", longest),
        Key("kv_heads", "num_key_value_heads", kv_heads),
        Key("head_size", "head_dim", head_size, written=head_size_written),
        Key("activation", "hidden_act", "silu", ACTIVATION),
        norm,
        rotary_row(base),
        Key("tied", "tie_word_embeddings", tied),
        Dropouts((), ("attention_dropout",)),
        Written("init_std", "initializer_range"),
    )


# --- windows, and layers without positions ----------------------------------------------------------------------------


def _windowed(usual: int | None) -> Row:
    """Theirs counts the token itself; null: every token before. usual: where config.json is silent."""

    def read(given: Given) -> Fields:
        if given.config.get("sliding_window", usual) is None:
            return {"window": None}
        return {"window": whole(given.config, "sliding_window", usual, least=2) - 1, "global_every": 1}

    return Several(read, lambda model: {"sliding_window": None if model.window is None else model.window + 1})


def _without_window(given: Given) -> Fields:
    """Raises UserError where a layer sees a window alone."""
    only(given.config, "use_sliding_window", False)
    kinds = given.config.get("layer_types")
    if kinds is not None and set(kinds) != {"full_attention"}:
        raise UserError("config.json: layer_types is not supported; 'full_attention' in all layers is")
    return {}


def _read_nope(given: Given) -> Fields:
    depth, turning = given.fields["depth"], given.config.get("no_rope_layers")
    every: int | None = whole(given.config, "no_rope_layer_interval", 4)
    if turning is not None:
        if not isinstance(turning, list) or len(turning) != depth or any(one not in (0, 1) for one in turning):
            raise UserError(f"config.json: no_rope_layers: a list of num_hidden_layers={depth!r} of 0 and 1 wanted")
        every = turning.index(0) + 1 if 0 in turning else None
        if every is not None and turning != [int((layer + 1) % every != 0) for layer in range(depth)]:
            raise UserError("config.json: no_rope_layers is not supported; every n-th layer without positions is")
    elif every is not None and every > depth:
        every = None
    if every == 1:
        raise UserError("config.json: no_rope_layers: no layer has positions; that is not supported")
    return {"nope_every": every}


def _write_nope(model: ModelConfig) -> Fields:
    return {"no_rope_layers": [int(model.turns(layer)) for layer in range(model.depth)]}


LLAMA_TABLE = _table(epsilon=1e-6)
OLMO2_TABLE = (
    *_table(epsilon=1e-5, head_size_written=False),
    Always({"norm_position": "reordered", "qk_norm": "projection"}),
)
OLMO3_TABLE = (*OLMO2_TABLE, layer_types(4, 4096), ropes(500_000.0, 500_000.0))
OLMO_TABLE = (*_table(epsilon=None, head_size_written=False, biases=("attention_bias",)), Only({"clip_qkv": None}))
MISTRAL_TABLE = (*_table(epsilon=1e-6, kv_heads=8, biases=()), _windowed(4096))
QWEN2_TABLE = (
    *_table(epsilon=1e-6, kv_heads=32, head_size_written=False, biases=(), longest=32768),
    Several(_without_window),
    Always({"qkv_bias": True}),
)
QWEN3_TABLE = (
    *_table(epsilon=1e-6, kv_heads=32, head_size=128, biases=("attention_bias",), longest=32768),
    Several(_without_window),
    Always({"qk_norm": "head"}),
)
SMOLLM3_TABLE = (
    *_table(epsilon=1e-6, kv_heads=4, head_size_written=False, tied=True, longest=32768, base=2e6),
    Several(_without_window),
    Several(_read_nope, _write_nope),
)

MIXTRAL_TABLE = (
    *_table(epsilon=1e-5, kv_heads=8, biases=(), longest=131072, base=1e6),
    _windowed(None),
    mixture("num_local_experts", (8, 2), 0.001, renormalises=True),
)
OLMOE_TABLE = (
    *_table(epsilon=1e-5, head_size_written=False, biases=("attention_bias",), longest=4096),
    Only({"clip_qkv": None}),
    Always({"qk_norm": "projection"}),
    mixture("num_experts", (64, 8), 0.01),
)
QWEN2_MOE_TABLE = (
    *_table(epsilon=1e-6, kv_heads=16, biases=(), longest=32768),
    Several(_without_window),
    Key("qkv_bias", "qkv_bias", True),
    mixture("num_experts", (60, 4), 0.001, width=1408),
    SPARSE_LAYERS,
    SHARED_EXPERT,
)
QWEN3_MOE_TABLE = (
    *_table(epsilon=1e-6, kv_heads=4, biases=("attention_bias",), longest=32768),
    Several(_without_window),
    Always({"qk_norm": "head"}),
    mixture("num_local_experts", (128, 8), 0.001, width=768, older="num_experts"),
    SPARSE_LAYERS,
)


# --- tensors ----------------------------------------------------------------------------------------------------------


def _entries(model: ModelConfig) -> Iterator[Entry]:
    reordered = model.norm_position == "reordered"
    attention_norm = "post_attention_layernorm" if reordered else "input_layernorm"
    feed_forward_norm = "post_feedforward_layernorm" if reordered else "post_attention_layernorm"
    normed = model.norm != "bare_layernorm"
    yield Entry("model.embed_tokens.weight", ("tokens.weight",))
    for i in range(model.depth):
        theirs, ours = f"model.layers.{i}", f"blocks.{i}"
        for name, part in (("q_proj", "query"), ("k_proj", "key"), ("v_proj", "value")):
            yield from both(f"{theirs}.self_attn.{name}", f"{ours}.attention.{part}", bias=model.qkv_bias)
        yield from both(f"{theirs}.self_attn.o_proj", f"{ours}.attention.output", bias=False)
        if model.qk_norm != "none":
            yield from both(f"{theirs}.self_attn.q_norm", f"{ours}.attention.query_norm", bias=False)
            yield from both(f"{theirs}.self_attn.k_norm", f"{ours}.attention.key_norm", bias=False)
        yield from feed_forward(model, i, theirs, ours)
        if normed:
            yield from both(f"{theirs}.{attention_norm}", f"{ours}.attention_norm", bias=False)
            yield from both(f"{theirs}.{feed_forward_norm}", f"{ours}.feed_forward_norm", bias=False)
    if normed:
        yield from both("model.norm", "norm", bias=False)
    if not model.tied:
        yield Entry("lm_head.weight", ("head.weight",))


def _family(
    kind: str,
    architecture: str,
    table: Table,
    by_expert: tuple[ByExpert, ...] = (),
    synonyms: Mapping[str, str] | None = None,
) -> Family:
    tied = (("lm_head.weight", "model.embed_tokens.weight"),)
    old = (r"rotary_emb\.inv_freq$",)
    family = Family(kind, architecture, table, _entries, aliases=tied, prefix="model.", ignored=old)
    return replace(family, by_expert=by_expert, synonyms=synonyms or {})


LLAMA = _family("llama", "LlamaForCausalLM", LLAMA_TABLE)
OLMO = _family("olmo", "OlmoForCausalLM", OLMO_TABLE)
OLMO2 = _family("olmo2", "Olmo2ForCausalLM", OLMO2_TABLE)
OLMO3 = _family("olmo3", "Olmo3ForCausalLM", OLMO3_TABLE)
MISTRAL = _family("mistral", "MistralForCausalLM", MISTRAL_TABLE)
QWEN2 = _family("qwen2", "Qwen2ForCausalLM", QWEN2_TABLE)
QWEN3 = _family("qwen3", "Qwen3ForCausalLM", QWEN3_TABLE)
SMOLLM3 = _family("smollm3", "SmolLM3ForCausalLM", SMOLLM3_TABLE)
MIXTRAL = _family("mixtral", "MixtralForCausalLM", MIXTRAL_TABLE, BY_NUMBER, {"num_experts": "num_local_experts"})
OLMOE = _family("olmoe", "OlmoeForCausalLM", OLMOE_TABLE, BY_NAME, {"num_local_experts": "num_experts"})
QWEN2_MOE = _family("qwen2_moe", "Qwen2MoeForCausalLM", QWEN2_MOE_TABLE, BY_NAME)
QWEN3_MOE = _family("qwen3_moe", "Qwen3MoeForCausalLM", QWEN3_MOE_TABLE, BY_NAME, {"num_experts": "num_local_experts"})
