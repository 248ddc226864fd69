"""Odd configurations of the decoders of `tiny_decoders`, in the form of `odd.CASES`."""

from __future__ import annotations

SIZES = {"hidden_size": 24, "num_attention_heads": 3, "intermediate_size": 40, "vocab_size": 101}
SIZES |= {"num_hidden_layers": 2, "max_position_embeddings": 48, "bos_token_id": 1, "eos_token_id": 2}
LOCAL, GLOBAL = "sliding_attention", "full_attention"
GEMMA = SIZES | {"num_key_value_heads": 3, "head_dim": 16}
DEFAULT = {"rope_type": "default", "rope_theta": 50.0}
LINEAR = {"rope_type": "linear", "factor": 2.0, "rope_theta": 500.0}
LLAMA3 = {"rope_type": "llama3", "factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "rope_theta": 500.0}
LLAMA3 |= {"original_max_position_embeddings": 16}
YARN = {"rope_type": "yarn", "factor": 4.0, "rope_theta": 500.0, "original_max_position_embeddings": 24}
SHARP = YARN | {"attention_factor": 1.3, "beta_fast": 4.0, "beta_slow": 0.5}
DEEPSEEK = YARN | {"mscale": 0.7, "mscale_all_dim": 1.4}
NEO = {"vocab_size": 101, "max_position_embeddings": 48, "hidden_size": 24, "num_heads": 3, "num_layers": 4}
NEO |= {"attention_types": [[["global", "local"], 2]], "window_size": 4, "bos_token_id": 1, "eos_token_id": 2}


def ropes(far, near):
    return {"rope_parameters": {GLOBAL: far, LOCAL: near}}


CASES = {
    ("GemmaForCausalLM", "GemmaConfig"): (
        GEMMA,
        [
            ({"num_key_value_heads": 1, "hidden_act": "gelu"}, None),
            ({"tie_word_embeddings": False, "hidden_act": "relu", "rms_norm_eps": 0.1}, None),
            ({"head_dim": 8, "rope_parameters": LINEAR}, None),
            ({"attention_bias": True}, "attention_bias"),
            ({"use_bidirectional_attention": True}, "use_bidirectional_attention"),
            ({"rope_parameters": {"rope_type": "dynamic", "rope_theta": 500.0, "factor": 2.0}}, "rope_type"),
        ],
    ),
    ("Gemma2ForCausalLM", "Gemma2Config"): (
        GEMMA | {"num_hidden_layers": 4, "sliding_window": 4},
        [
            ({"query_pre_attn_scalar": 7, "attn_logit_softcapping": 2.0, "final_logit_softcapping": None}, None),
            ({"attn_logit_softcapping": None, "final_logit_softcapping": 1.5, "num_key_value_heads": 1}, None),
            ({"layer_types": [GLOBAL, LOCAL, LOCAL, GLOBAL], "hidden_activation": "silu"}, None),
            ({"layer_types": [GLOBAL] * 4, "rope_parameters": YARN}, None),
            ({"num_hidden_layers": 1, "tie_word_embeddings": False}, None),
            ({"layer_types": [LOCAL, GLOBAL, GLOBAL, LOCAL]}, "layer_types"),
            ({"sliding_window": 1}, "sliding_window"),
            ({"attention_bias": True}, "attention_bias"),
        ],
    ),
    ("Gemma3ForCausalLM", "Gemma3TextConfig"): (
        GEMMA | {"num_hidden_layers": 7, "sliding_window": 4},
        [
            ({"query_pre_attn_scalar": 11, "final_logit_softcapping": 2.0, "num_key_value_heads": 1}, None),
            ({"layer_types": [LOCAL] * 7} | ropes(LLAMA3, DEFAULT), None),
            ({"sliding_window_pattern": 3} | ropes(LINEAR, LINEAR | {"rope_theta": 70.0}), None),
            ({"num_hidden_layers": 3, "layer_types": [LOCAL, GLOBAL, LOCAL]} | ropes(SHARP, DEFAULT), None),
            ({"tie_word_embeddings": False, "head_dim": 8} | ropes(DEFAULT | {"rope_theta": 9.0}, DEFAULT), None),
            (ropes(LINEAR, LINEAR | {"factor": 3.0}), "rope_parameters"),
            (ropes(DEFAULT, LINEAR), "rope_parameters"),
            ({"rope_parameters": LINEAR}, "rope_parameters"),
            ({"attn_logit_softcapping": 3.0}, "attn_logit_softcapping"),
            ({"query_pre_attn_scalar": 0}, "query_pre_attn_scalar"),
        ],
    ),
    ("Olmo3ForCausalLM", "Olmo3Config"): (
        SIZES | {"num_key_value_heads": 3, "pad_token_id": 0, "num_hidden_layers": 4, "sliding_window": 4},
        [
            ({"num_key_value_heads": 1, "hidden_act": "relu"} | ropes(YARN, DEFAULT | {"rope_theta": 500.0}), None),
            (ropes(SHARP, SHARP), None),
            (ropes(DEEPSEEK, DEFAULT), None),
            ({"layer_types": [GLOBAL, LOCAL, LOCAL, LOCAL], "tie_word_embeddings": True}, None),
            ({"layer_types": [GLOBAL] * 4, "rms_norm_eps": 0.1}, None),
            ({"layer_types": [GLOBAL, GLOBAL, LOCAL, GLOBAL]}, "layer_types"),
            (ropes(SHARP, YARN), "rope_parameters"),
            (ropes(YARN | {"beta_fast": 0.5}, DEFAULT), "rotary_beta_fast"),
            (ropes(YARN | {"truncate": False}, DEFAULT), "truncate"),
        ],
    ),
    ("CohereForCausalLM", "CohereConfig"): (
        SIZES | {"num_key_value_heads": 3},
        [
            ({"num_key_value_heads": 1, "logit_scale": 3.0}, None),
            ({"use_qk_norm": True, "layer_norm_eps": 0.1, "rope_parameters": LINEAR}, None),
            ({"tie_word_embeddings": False, "hidden_act": "gelu_pytorch_tanh", "rope_parameters": DEFAULT}, None),
            ({"use_qk_norm": True, "num_key_value_heads": 1, "num_hidden_layers": 3, "rope_parameters": YARN}, None),
            ({"attention_bias": True}, "attention_bias"),
            ({"logit_scale": 0.0}, "logit_scale"),
        ],
    ),
    ("GPTNeoForCausalLM", "GPTNeoConfig"): (
        NEO,
        [
            ({"attention_types": [[["local"], 2], [["global"], 1], [["local"], 1]], "intermediate_size": 33}, None),
            ({"attention_types": [[["global"], 4]], "activation_function": "relu"}, None),
            ({"attention_types": [[["local"], 4]], "window_size": 2, "tie_word_embeddings": False}, None),
            ({"attention_types": [[["global", "local"], 1], [["global"], 2]]}, "attention_types"),
            ({"attention_types": [[["global", "local"], 3]]}, "attention_types"),
            ({"window_size": 1}, "window_size"),
        ],
    ),
}
