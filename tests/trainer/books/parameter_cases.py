"""Small models that differ in every part that has parameters or operations."""

from __future__ import annotations

from typing import Any

from trainer.config import Config

BERT = {
    "family": "encoder",
    "gated": False,
    "activation": "gelu",
    "norm": "layernorm",
    "norm_position": "post",
    "position": "learned",
    "bias": True,
    "token_types": 2,
    "embedding_norm": True,
    "head_transform": True,
    "head_bias": True,
}
XLNET = BERT | {"position": "relative", "two_stream": True, "embedding_norm": False, "head_transform": False}
BART = {k: v for k, v in BERT.items() if k not in ("token_types", "head_transform")} | {
    "family": "encoder_decoder",
    "position_offset": 2,
}
DEBERTA = BERT | {"position": "disentangled", "token_types": 0, "relative_buckets": 8, "relative_distance": 20}
T5 = {"family": "encoder_decoder", "position": "buckets", "tied": False, "relative_buckets": 8, "relative_distance": 16}

MODELS: dict[str, dict[str, Any]] = {
    "gpt2": {"gated": False, "activation": "gelu_tanh", "norm": "layernorm", "position": "learned", "bias": True},
    "llama": {},
    "grouped, untied": {"kv_heads": 2, "tied": False, "ffn_width": 200},
    "odd heads": {"width": 48, "heads": 3, "head_size": 10, "kv_heads": 1, "position": "learned", "gated": False},
    "layernorm without bias": {"norm": "layernorm", "bias": False},
    "rmsnorm with bias": {"norm": "rmsnorm", "bias": True, "gated": True},
    "olmo2": {"norm_position": "reordered", "qk_norm": "projection", "kv_heads": 2},
    "qk norm per head": {"qk_norm": "head", "window": 8, "global_every": 2},
    "neox": {"parallel": True, "norm": "layernorm", "bias": True, "rotary_fraction": 0.5, "tied": False},
    "opt-350m": {"embedding_width": 24, "embedding_projection": "tokens", "position": "learned", "position_offset": 2},
    "bloom": {"position": "alibi", "embedding_norm": True, "norm": "layernorm", "bias": True},
    "factorised sum": {"embedding_width": 24, "position": "learned", "token_types": 2},
    "bert": BERT | {"pooler": "pretraining", "sentence_head": True},
    "roberta": BERT | {"token_types": 0, "position_offset": 2},
    "xlm": BERT | {"token_types": 0, "head_transform": False, "languages": ("de", "en", "fr")},
    "albert": BERT | {"embedding_width": 24, "shared_layers": True, "pooler": "pretraining", "sentence_head": True},
    "modernbert": {"family": "encoder", "first_norm": False, "window": 8, "global_every": 3, "head_transform": True},
    "electra": BERT | {"embedding_width": 32, "generator_width": 16, "generator_heads": 2},
    "electra, same width": BERT | {"generator_width": 64, "generator_heads": 4},
    "xlnet": XLNET,
    "deberta": DEBERTA | {"generator_width": 64, "generator_depth": 1, "embedding_sharing": "disentangled"},
    "deberta, long distances": DEBERTA | {"relative_buckets": None, "relative_distance": 64, "relative_norm": False},
    "deberta, own matrices": DEBERTA | {"relative_shared": False, "relative_distance": 9},
    "deberta, one term": DEBERTA | {"relative_shared": False, "relative_terms": "p2c", "bias": False},
    "electra, own embedding": BERT | {"generator_width": 16, "generator_heads": 2, "embedding_sharing": "disentangled"},
    "t5": T5,
    "t5 tied": T5 | {"tied": True, "head_scale": True, "kv_heads": 2, "qk_norm": "head"},
    "bart": BART,
    "byt5": T5 | {"depth": 4, "decoder_depth": 1},
    "pegasus": BART | {"norm_position": "pre", "position": "sinusoidal", "embedding_norm": False, "decoder_depth": 5},
    "shared layers of two depths": T5 | {"shared_layers": True, "decoder_depth": 2},
    "capped scores": {"score_softcap": 20.0, "logit_softcap": 10.0},
    "sinks": {"sinks": True, "kv_heads": 2},
    "gemma": {"norm": "offset_rmsnorm", "norm_position": "sandwich", "qk_norm": "head", "embedding_scale": True},
    "gemma, local": {"norm_position": "sandwich", "window": 8, "global_every": 2, "global_last": True, "kv_heads": 2},
    "cohere": {"parallel": True, "shared_norm": True, "norm": "layernorm", "kv_heads": 2, "logit_scale": 0.5},
    "command r+": {"parallel": True, "shared_norm": True, "norm": "layernorm", "qk_norm": "heads", "kv_heads": 2},
    "gpt-neo": {"gated": False, "norm": "layernorm", "position": "learned", "bias": True, "qkv_unbiased": True},
    "t5, sandwich": T5 | {"norm_position": "sandwich"},
    "bart, sinks": BART | {"sinks": True},
    "experts": {"experts": {"count": 8}, "kv_heads": 2},
    "switch": {"experts": {"count": 4, "per_token": 1, "every": 2, "capacity": 0.75}, "gated": False},
    "shared experts": {"experts": {"count": 8, "per_token": 3, "width": 20, "shared": 2, "dense_layers": 1}},
    "gated shared": {"experts": {"count": 4, "shared": 1, "shared_gate": True}, "norm_position": "reordered"},
    "t5 of experts": T5 | {"experts": {"count": 4, "capacity": 1.25}},
    "bert of experts": BERT | {"experts": {"count": 4}},
}
# The objective that trains each, where it is not the first that the family can do.
OBJECTIVES: dict[str, dict[str, Any]] = {
    "bert": {"name": "masked_lm", "question": "nsp"},
    "roberta": {"name": "masked_lm"},
    "xlm": {"name": "masked_lm"},
    "albert": {"name": "masked_lm", "question": "sop"},
    "modernbert": {"name": "masked_lm"},
    "electra": {"name": "replaced_token"},
    "electra, same width": {"name": "replaced_token"},
    "xlnet": {"name": "permuted_lm"},
    "deberta": {"name": "replaced_token"},
    "electra, own embedding": {"name": "replaced_token"},
    **{f"deberta, {one}": {"name": "masked_lm"} for one in ("long distances", "own matrices", "one term")},
    "t5": {"name": "span_corruption"},
    "t5 tied": {"name": "mass"},
    "t5, sandwich": {"name": "span_corruption"},
    "bart": {"name": "bart", "noises": ("text_infilling",)},
    "byt5": {"name": "span_corruption", "mean_span": 20.0},
    "pegasus": {"name": "gap_sentences"},
    "shared layers of two depths": {"name": "mass"},
    "bart, sinks": {"name": "bart", "noises": ("text_infilling",)},
    "t5 of experts": {"name": "span_corruption"},
    "bert of experts": {"name": "masked_lm"},
}


def config(model: dict[str, Any] | str, **other: Any) -> Config:
    """A small configuration; a name out of MODELS brings its objective along."""
    if isinstance(model, str):
        other.setdefault("objective", OBJECTIVES.get(model, {"name": "causal"}))
        model = MODELS[model]
    base = {"depth": 3, "width": 64, "heads": 4, "vocabulary": 512}
    tokenizer = {"vocabulary": 400}
    settings = {"model": base | model, "tokenizer": tokenizer, "data": {"sequence_length": 32}, **other}
    return Config.model_validate(settings)
