"""ModernBERT."""

from __future__ import annotations

from collections.abc import Iterator

from trainer.config.model import ModelConfig
from trainer.hub.family import Entry, Family, both
from trainer.hub.table import (
    ACTIVATION,
    Always,
    Dropouts,
    Fields,
    Given,
    Key,
    Only,
    Several,
    Written,
    number,
    only,
    sizes,
    table_in,
    usual_head_size,
    whole,
)
from trainer.utils.errors import UserError


def _read_windows(given: Given) -> Fields:
    kinds, depth = given.config.get("layer_types"), given.fields["depth"]
    every = whole(given.config, "global_attn_every_n_layers", 3)
    if kinds is not None:
        if not isinstance(kinds, list) or len(kinds) != depth:
            raise UserError(f"config.json: layer_types: a list of num_hidden_layers={depth!r} names wanted")
        rest = [i for i, kind in enumerate(kinds) if kind == "full_attention"]
        every = rest[1] - rest[0] if len(rest) > 1 else max(depth, 2)
        if kinds != ["full_attention" if i % every == 0 else "sliding_attention" for i in range(depth)]:
            raise UserError("config.json: layer_types is not supported; every n-th layer, from the first on, is global")
    width = whole(given.config, "local_attention", 128, least=0 if every == 1 else 2)
    only(given.config, "sliding_window", width // 2)
    return {"window": None if every == 1 else width // 2, "global_every": every}  # 1: no layer is local


def _write_windows(model: ModelConfig) -> Fields:
    kinds = ["sliding_attention" if model.local(layer) else "full_attention" for layer in range(model.depth)]
    return {"layer_types": kinds, "local_attention": 2 * (model.window or 0)}


def _read_bases(given: Given) -> Fields:
    usual_head_size(given)
    ropes = table_in(given.config, "rope_parameters")
    older = table_in(given.config, "rope_scaling")

    def base(kind: str, key: str, default: float) -> float:
        rope = table_in(ropes, kind) | older
        for name in ("rope_type", "type"):
            only(rope, name, "default")
        return number(
            rope if rope.get("rope_theta") is not None else {"rope_theta": given.config.get(key, default)}, "rope_theta"
        )

    return {
        "rotary_base": base("full_attention", "global_rope_theta", 160_000.0),
        "rotary_base_local": base("sliding_attention", "local_rope_theta", 10_000.0),
    }


def _read_head(given: Given) -> Fields:
    """The head has an activation of its own in transformers; ours is as the blocks are."""
    name = given.config.get("classifier_activation", "gelu")
    if ACTIVATION.read("classifier_activation", name) != given.fields["activation"]:
        raise UserError(
            f"config.json: classifier_activation={name!r} is not supported beside another hidden_activation, "
            f"{given.config.get('hidden_activation', 'gelu')!r}; the head has that of the blocks here"
        )
    return {}


def _write_bases(model: ModelConfig) -> Fields:
    local = model.rotary_base if model.rotary_base_local is None else model.rotary_base_local
    bases = {"full_attention": model.rotary_base, "sliding_attention": local}
    return {"rope_parameters": {kind: {"rope_type": "default", "rope_theta": base} for kind, base in bases.items()}}


TABLE = (
    Only({"attention_bias": False, "mlp_bias": False, "norm_bias": False}),
    Only({"decoder_bias": True, "classifier_bias": False}),
    Always({"family": "encoder", "gated": True, "norm": "layernorm", "first_norm": False, "position": "rotary"}),
    Always({"embedding_norm": True, "bias": False, "head_transform": True, "head_bias": True}),
    *sizes("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size"),
    Several(_read_windows, _write_windows),
    Several(_read_bases, _write_bases),
    Key("max_length", "max_position_embeddings", 8192),
    Key("activation", "hidden_activation", "gelu", ACTIVATION),
    Key("norm_epsilon", "norm_eps", 1e-5),
    Key("tied", "tie_word_embeddings", True),
    Several(_read_head, lambda model: {"classifier_activation": ACTIVATION.write(model.activation)}),
    Dropouts(("embedding_dropout", "mlp_dropout"), ("attention_dropout",)),
    Written("init_std", "initializer_range"),
)


def _entries(model: ModelConfig) -> Iterator[Entry]:
    yield Entry("model.embeddings.tok_embeddings.weight", ("tokens.weight",))
    yield from both("model.embeddings.norm", "embedding_norm", bias=False)
    for i in range(model.depth):
        theirs, ours = f"model.layers.{i}", f"blocks.{i}"
        if i > 0:
            yield from both(f"{theirs}.attn_norm", f"{ours}.attention_norm", bias=False)
        queries = [f"{ours}.attention.{part}" for part in ("query", "key", "value")]
        yield from both(f"{theirs}.attn.Wqkv", *queries, bias=False)
        yield from both(f"{theirs}.attn.Wo", f"{ours}.attention.output", bias=False)
        yield from both(f"{theirs}.mlp_norm", f"{ours}.feed_forward_norm", bias=False)
        yield from both(f"{theirs}.mlp.Wi", f"{ours}.feed_forward.gate", f"{ours}.feed_forward.up", bias=False)
        yield from both(f"{theirs}.mlp.Wo", f"{ours}.feed_forward.down", bias=False)
    yield from both("model.final_norm", "norm", bias=False)
    yield from both("head.dense", "head.transform.dense", bias=False)
    yield from both("head.norm", "head.transform.norm", bias=False)
    yield Entry("decoder.bias", ("head.output.bias",))
    if not model.tied:
        yield Entry("decoder.weight", ("head.output.weight",))


MODERNBERT = Family(
    "modernbert",
    "ModernBertForMaskedLM",
    TABLE,
    _entries,
    aliases=(("decoder.weight", "model.embeddings.tok_embeddings.weight"),),
    prefix="model.",
)
