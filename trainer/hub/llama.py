"""Llama and OLMo 2."""

from __future__ import annotations

from collections.abc import Iterator

from trainer.config.model import ModelConfig
from trainer.hub.family import Entry, Family, both
from trainer.hub.table import ACTIVATION, ROTARY, Always, Dropouts, Key, Only, Table, Written, sizes


def _table(*, epsilon: float, head_size_written: bool) -> Table:
    """epsilon: the default of transformers."""
    return (
        Only({"attention_bias": False, "mlp_bias": False}),
        Always({"family": "decoder", "gated": True, "norm": "rmsnorm", "position": "rotary", "bias": False}),
        *sizes("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size"),
        Key("max_length", "max_position_embeddings", 2048),
        Key("kv_heads", "num_key_value_heads", lambda fields: fields["heads"]),
        Key("head_size", "head_dim", lambda fields: fields["width"] // fields["heads"], written=head_size_written),
        Key("activation", "hidden_act", "silu", ACTIVATION),
        Key("norm_epsilon", "rms_norm_eps", epsilon),
        ROTARY,
        Key("tied", "tie_word_embeddings", False),
        Dropouts((), ("attention_dropout",)),
        Written("init_std", "initializer_range"),
    )


LLAMA_TABLE = _table(epsilon=1e-6, head_size_written=True)
OLMO2_TABLE = (
    *_table(epsilon=1e-5, head_size_written=False),
    Always({"norm_position": "reordered", "qk_norm": "projection"}),
)


def _entries(model: ModelConfig) -> Iterator[Entry]:
    reordered = model.norm_position == "reordered"
    attention_norm = "post_attention_layernorm" if reordered else "input_layernorm"
    feed_forward_norm = "post_feedforward_layernorm" if reordered else "post_attention_layernorm"
    yield Entry("model.embed_tokens.weight", ("tokens.weight",))
    for i in range(model.depth):
        theirs, ours = f"model.layers.{i}", f"blocks.{i}"
        for name, part in (("q_proj", "query"), ("k_proj", "key"), ("v_proj", "value"), ("o_proj", "output")):
            yield from both(f"{theirs}.self_attn.{name}", f"{ours}.attention.{part}", bias=False)
        if model.qk_norm != "none":
            yield from both(f"{theirs}.self_attn.q_norm", f"{ours}.attention.query_norm", bias=False)
            yield from both(f"{theirs}.self_attn.k_norm", f"{ours}.attention.key_norm", bias=False)
        for part in ("gate", "up", "down"):
            yield from both(f"{theirs}.mlp.{part}_proj", f"{ours}.feed_forward.{part}", bias=False)
        yield from both(f"{theirs}.{attention_norm}", f"{ours}.attention_norm", bias=False)
        yield from both(f"{theirs}.{feed_forward_norm}", f"{ours}.feed_forward_norm", bias=False)
    yield from both("model.norm", "norm", bias=False)
    if not model.tied:
        yield Entry("lm_head.weight", ("head.weight",))


_TIED = (("lm_head.weight", "model.embed_tokens.weight"),)
_OLD = (r"rotary_emb\.inv_freq$",)
LLAMA = Family("llama", "LlamaForCausalLM", LLAMA_TABLE, _entries, aliases=_TIED, prefix="model.", ignored=_OLD)
OLMO2 = Family("olmo2", "Olmo2ForCausalLM", OLMO2_TABLE, _entries, aliases=_TIED, prefix="model.", ignored=_OLD)
