"""GPT-Neo, whose layers are in turn dense and banded as GPT-3's are (Brown et al. 2020, section 2.1)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from trainer.config.model import ModelConfig
from trainer.hub.family import Entry, Family, both
from trainer.hub.local_layers import kinds_of, pattern
from trainer.hub.table import ACTIVATION, Always, Dropouts, Fields, Given, Key, Several, Written, sizes, whole
from trainer.utils.errors import UserError

WORDS = ("global", "local")
DEEPEST = 10_000  # layers of which a list is made
PARTS = (("q_proj", "query"), ("k_proj", "key"), ("v_proj", "value"))


def _spelled_out(types: Any, depth: int) -> list[str]:
    """The kind of every layer, of [[kinds, times], ...]."""
    told = f"config.json: attention_types={types!r:.80}: [[kinds, times], ...] wanted, of num_layers={depth!r} layers"
    if not isinstance(types, list | tuple) or not isinstance(depth, int) or not 0 < depth <= DEEPEST:
        raise UserError(told)
    layers: list[str] = []
    for pair in types:
        if not isinstance(pair, list | tuple) or len(pair) != 2 or not isinstance(pair[0], list | tuple):
            raise UserError(told)
        kinds, times = pair
        if not isinstance(times, int) or len(kinds) * times > depth:
            raise UserError(told)
        layers += list(kinds) * times
    if len(layers) != depth:
        raise UserError(told)
    return layers


def _read_layers(given: Given) -> Fields:
    depth = given.fields["depth"]
    layers = _spelled_out(given.config.get("attention_types") or [[list(WORDS), 12]], depth)
    if given.config.get("attention_layers") not in (None, layers):
        raise UserError("config.json: attention_layers: other layers than attention_types says; leave it out")
    found = pattern("attention_types", layers, depth, everywhere=WORDS[0], window=WORDS[1])
    width = whole(given.config, "window_size", 256, least=2)  # the token itself among them
    return {"window": width - 1 if WORDS[1] in layers else None, **found}


def _write_layers(model: ModelConfig) -> Fields:
    kinds = {"attention_types": [[kinds_of(model, *WORDS), 1]]}
    return kinds if model.window is None else kinds | {"window_size": model.window + 1}


TABLE = (
    Always({"family": "decoder", "gated": False, "norm": "layernorm", "position": "learned", "bias": True}),
    Always({"qkv_unbiased": True, "attention_scale": 1.0}),
    *sizes("vocab_size", "hidden_size", "num_layers", "num_heads"),
    Key("ffn_width", "intermediate_size", lambda fields: 4 * fields["width"]),
    Key("max_length", "max_position_embeddings", 2048),
    Several(_read_layers, _write_layers),
    Key("activation", "activation_function", "gelu_new", ACTIVATION),
    Key("norm_epsilon", "layer_norm_epsilon", 1e-5),
    Key("tied", "tie_word_embeddings", True),
    Dropouts(("resid_dropout", "embed_dropout"), ("attention_dropout",)),
    Written("init_std", "initializer_range"),
)


def _entries(model: ModelConfig) -> Iterator[Entry]:
    yield Entry("transformer.wte.weight", ("tokens.weight",))
    yield Entry("transformer.wpe.weight", ("positions.weight",))
    for i in range(model.depth):
        theirs, ours = f"transformer.h.{i}", f"blocks.{i}"
        for name, part in PARTS:
            yield from both(f"{theirs}.attn.attention.{name}", f"{ours}.attention.{part}", bias=False)
        yield from both(f"{theirs}.attn.attention.out_proj", f"{ours}.attention.output")
        yield from both(f"{theirs}.ln_1", f"{ours}.attention_norm")
        yield from both(f"{theirs}.ln_2", f"{ours}.feed_forward_norm")
        yield from both(f"{theirs}.mlp.c_fc", f"{ours}.feed_forward.up")
        yield from both(f"{theirs}.mlp.c_proj", f"{ours}.feed_forward.down")
    yield from both("transformer.ln_f", "norm")
    if not model.tied:
        yield Entry("lm_head.weight", ("head.weight",))


GPT_NEO = Family(
    "gpt_neo",
    "GPTNeoForCausalLM",
    TABLE,
    _entries,
    aliases=(("lm_head.weight", "transformer.wte.weight"),),
    prefix="transformer.",
    synonyms={"num_attention_heads": "num_heads", "num_hidden_layers": "num_layers"},
    ignored=(r"\.attn\.attention\.(masked_)?bias$",),
)
