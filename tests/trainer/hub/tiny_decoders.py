"""Further decoders of `tiny.MODELS`: with local layers, norms on both sides, parallel blocks."""

from __future__ import annotations

SIZES = {"hidden_size": 32, "num_attention_heads": 4, "intermediate_size": 48, "vocab_size": 96}
SIZES |= {"max_position_embeddings": 64, "num_hidden_layers": 2}
LOCAL, GLOBAL = "sliding_attention", "full_attention"
GEMMA = SIZES | {"num_key_value_heads": 2, "head_dim": 16}
LINEAR = {"rope_type": "linear", "factor": 2.0, "rope_theta": 500.0}
YARN = {"rope_type": "yarn", "factor": 4.0, "rope_theta": 500.0, "original_max_position_embeddings": 32}
GPT_NEO = {"vocab_size": 96, "max_position_embeddings": 64, "hidden_size": 32, "num_heads": 4, "num_layers": 2}
GPT_NEO |= {"bos_token_id": 1, "eos_token_id": 2}

DECODERS = {
    "gemma": ("GemmaForCausalLM", "GemmaConfig", GEMMA | {"num_key_value_heads": 1}),
    "gemma2": (
        "Gemma2ForCausalLM",
        "Gemma2Config",
        GEMMA
        | {"num_hidden_layers": 4, "sliding_window": 5, "query_pre_attn_scalar": 20}
        | {"attn_logit_softcapping": 3.0, "final_logit_softcapping": 2.0},
    ),
    "gemma3": (
        "Gemma3ForCausalLM",
        "Gemma3TextConfig",
        GEMMA
        | {"num_hidden_layers": 4, "sliding_window": 5, "layer_types": [LOCAL, LOCAL, GLOBAL, LOCAL]}
        | {"rope_parameters": {GLOBAL: LINEAR, LOCAL: {"rope_type": "default", "rope_theta": 50.0}}},
    ),
    "olmo3": (
        "Olmo3ForCausalLM",
        "Olmo3Config",
        SIZES
        | {"num_key_value_heads": 2, "pad_token_id": 0, "num_hidden_layers": 4, "sliding_window": 5}
        | {"rope_parameters": {GLOBAL: YARN, LOCAL: {"rope_type": "default", "rope_theta": 500.0}}},
    ),
    "cohere": ("CohereForCausalLM", "CohereConfig", SIZES | {"num_key_value_heads": 2, "logit_scale": 0.3}),
    "cohere-normed": ("CohereForCausalLM", "CohereConfig", SIZES | {"num_key_value_heads": 2, "use_qk_norm": True}),
    "gpt-neo": (
        "GPTNeoForCausalLM",
        "GPTNeoConfig",
        GPT_NEO | {"attention_types": [[["global", "local"], 1]], "window_size": 5},
    ),
}
for _kind, _config, _keys in DECODERS.values():
    if not _kind.startswith("GPTNeo"):
        _keys.setdefault("eos_token_id", 2)
        _keys.setdefault("bos_token_id", 1)
