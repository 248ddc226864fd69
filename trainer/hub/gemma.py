"""Gemma 1, 2 and the text part of Gemma 3."""

from __future__ import annotations

from collections.abc import Iterator

from trainer.config.model import ModelConfig
from trainer.hub.family import Entry, Family, both
from trainer.hub.local_layers import layer_types, ropes
from trainer.hub.table import (
    ACTIVATIONS,
    Always,
    Dropouts,
    Fields,
    Given,
    Key,
    Only,
    Row,
    Several,
    Table,
    Words,
    Written,
    number,
    rotary_row,
    sizes,
    yes_or_no,
)
from trainer.utils.errors import UserError

USUAL = "gelu_pytorch_tanh"
ACTIVATION = Words({USUAL: "gelu_tanh", **ACTIVATIONS})
# The first release says gelu and means the one by tanh, as transformers reads it.
FIRST_ACTIVATION = Words({USUAL: "gelu_tanh", **ACTIVATIONS, "gelu": "gelu_tanh"})


def _one_way(given: Given) -> Fields:
    """Raises UserError where a token sees those after it."""
    if yes_or_no("use_bidirectional_attention", given.config.get("use_bidirectional_attention")):
        raise UserError("config.json: use_bidirectional_attention=True is not supported; false is")
    return {}


def _read_scale(given: Given) -> Fields:
    return {"attention_scale": number(given.config, "query_pre_attn_scalar", 256) ** -0.5}


def _write_scale(model: ModelConfig) -> Fields:
    """A whole number, as their class wants it."""
    return {"query_pre_attn_scalar": round((model.attention_scale or model.head_channels**-0.5) ** -2)}


def _table(*, places: int, heads: tuple[int, int], activation: Row, rotary: Row) -> Table:
    """places, heads: defaults of transformers, of max_position_embeddings, num_key_value_heads and head_dim."""
    block = {"family": "decoder", "gated": True, "norm": "offset_rmsnorm", "bias": False, "embedding_scale": True}
    return (
        Only({"attention_bias": False}),
        Several(_one_way),
        Always(block | {"position": "rotary"}),
        *sizes("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size"),
        Key("max_length", "max_position_embeddings", places),
        Key("kv_heads", "num_key_value_heads", heads[0]),
        Key("head_size", "head_dim", heads[1]),
        activation,
        Key("norm_epsilon", "rms_norm_eps", 1e-6),
        rotary,
        Key("tied", "tie_word_embeddings", True),
        Dropouts((), ("attention_dropout",)),
        Written("init_std", "initializer_range"),
    )


HIDDEN_ACTIVATION = Key("activation", "hidden_activation", USUAL, ACTIVATION)
SANDWICH = (Always({"norm_position": "sandwich"}), Several(_read_scale, _write_scale))
TABLE = _table(
    places=8192,
    heads=(16, 256),
    activation=Key("activation", "hidden_act", USUAL, FIRST_ACTIVATION),
    rotary=rotary_row(),
)
TABLE_2 = (
    *_table(places=8192, heads=(4, 256), activation=HIDDEN_ACTIVATION, rotary=rotary_row()),
    *SANDWICH,
    layer_types(2, 4096),
    Key("score_softcap", "attn_logit_softcapping", 50.0),
    Key("logit_softcap", "final_logit_softcapping", 30.0),
)
TABLE_3 = (
    *_table(
        places=131_072,
        heads=(4, 256),
        activation=HIDDEN_ACTIVATION,
        rotary=ropes(1e6, 10_000.0, ("rope_local_base_freq",)),
    ),
    *SANDWICH,
    Always({"qk_norm": "head"}),
    layer_types(None, 4096),
    Only({"attn_logit_softcapping": None}),  # which transformers does not apply
    Key("logit_softcap", "final_logit_softcapping", None),
)


def _entries(model: ModelConfig) -> Iterator[Entry]:
    norms = [("input_layernorm", "attention_norm")]
    if model.norm_position == "sandwich":
        norms += [("post_attention_layernorm", "attention_post_norm")]
        norms += [("pre_feedforward_layernorm", "feed_forward_norm")]
        norms += [("post_feedforward_layernorm", "feed_forward_post_norm")]
    else:
        norms += [("post_attention_layernorm", "feed_forward_norm")]
    if model.qk_norm != "none":
        norms += [("self_attn.q_norm", "attention.query_norm"), ("self_attn.k_norm", "attention.key_norm")]
    matrices = [(f"self_attn.{one}_proj", f"attention.{part}") for one, part in ATTENTION]
    matrices += [(f"mlp.{part}_proj", f"feed_forward.{part}") for part in ("gate", "up", "down")]
    yield Entry("model.embed_tokens.weight", ("tokens.weight",))
    for i in range(model.depth):
        for theirs, ours in (*matrices, *norms):
            yield from both(f"model.layers.{i}.{theirs}", f"blocks.{i}.{ours}", bias=False)
    yield from both("model.norm", "norm", bias=False)
    if not model.tied:
        yield Entry("lm_head.weight", ("head.weight",))


ATTENTION = (("q", "query"), ("k", "key"), ("v", "value"), ("o", "output"))
TIED = (("lm_head.weight", "model.embed_tokens.weight"),)
GEMMA = Family("gemma", "GemmaForCausalLM", TABLE, _entries, aliases=TIED, prefix="model.")
GEMMA2 = Family("gemma2", "Gemma2ForCausalLM", TABLE_2, _entries, aliases=TIED, prefix="model.")
GEMMA3 = Family(
    "gemma3_text", "Gemma3ForCausalLM", TABLE_3, _entries, aliases=TIED, prefix="model.", bare="Gemma3TextModel"
)
