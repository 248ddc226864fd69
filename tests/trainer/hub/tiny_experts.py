"""Tiny models of transformers with experts, and odd configurations of every such type."""

from __future__ import annotations

SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48, "vocab_size": 96}
DECODER = SIZES | {"max_position_embeddings": 64, "num_key_value_heads": 2}
QWEN = DECODER | {"moe_intermediate_size": 24, "num_experts": 6, "num_experts_per_tok": 3}
SIDES = {"num_layers": 2, "num_decoder_layers": 2, "num_sparse_encoder_layers": 1, "num_sparse_decoder_layers": 1}
SWITCH = {"vocab_size": 96, "d_model": 32, "d_kv": 8, "d_ff": 48, "num_heads": 4, "num_experts": 4, **SIDES}

DECODERS = {
    "mixtral": ("MixtralForCausalLM", "MixtralConfig", DECODER | {"num_local_experts": 4}),
    "olmoe": ("OlmoeForCausalLM", "OlmoeConfig", DECODER | {"num_experts": 6, "num_experts_per_tok": 2}),
    "qwen2-moe": (
        "Qwen2MoeForCausalLM",
        "Qwen2MoeConfig",
        QWEN | {"shared_expert_intermediate_size": 48, "decoder_sparse_step": 2, "num_hidden_layers": 3},
    ),
    "qwen3-moe": (
        "Qwen3MoeForCausalLM",
        "Qwen3MoeConfig",
        QWEN | {"mlp_only_layers": [0], "norm_topk_prob": True, "head_dim": 16},
    ),
}
ENCODER_DECODERS = {
    "switch": ("SwitchTransformersForConditionalGeneration", "SwitchTransformersConfig", SWITCH),
}

PLACES = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 40}
PLACES |= {"vocab_size": 101, "max_position_embeddings": 48, "num_key_value_heads": 3}
ODD_QWEN = PLACES | {"moe_intermediate_size": 12, "num_experts": 5, "num_experts_per_tok": 2}
LINEAR = {"rope_parameters": {"rope_type": "linear", "rope_theta": 500.0, "factor": 2.0}}
YARN = {"rope_parameters": {"rope_type": "yarn", "rope_theta": 500.0, "factor": 2.0}}
SPARSE = {"num_sparse_encoder_layers": 2, "num_sparse_decoder_layers": 2}
ODD_SWITCH = {"vocab_size": 101, "d_model": 24, "d_kv": 8, "d_ff": 40, "num_heads": 3, "num_experts": 3, **SPARSE}
ODD_SWITCH |= {"num_layers": 4, "num_decoder_layers": 4}

# As `odd.CASES`.
CASES = {
    ("MixtralForCausalLM", "MixtralConfig"): (
        PLACES | {"num_local_experts": 5},
        [
            ({"num_experts_per_tok": 1, "num_key_value_heads": 1}, None),
            ({"num_experts_per_tok": 5, "sliding_window": 5, "head_dim": 16}, None),
            ({"num_local_experts": 3, "tie_word_embeddings": True, "hidden_act": "gelu"} | LINEAR, None),
            ({"num_experts_per_tok": 9}, "a token cannot read 9 of 5 experts"),
            ({"num_local_experts": 0}, "num_local_experts=0"),
            (YARN, "rope_type"),
        ],
    ),
    ("OlmoeForCausalLM", "OlmoeConfig"): (
        PLACES | {"num_experts": 5, "num_experts_per_tok": 2, "pad_token_id": 0, "eos_token_id": 2},
        [
            ({"num_key_value_heads": 1, "norm_topk_prob": True}, None),
            ({"num_experts_per_tok": 1, "hidden_act": "relu"}, None),
            ({"tie_word_embeddings": True} | LINEAR, None),
            ({"clip_qkv": 8.0}, "clip_qkv"),
            ({"attention_bias": True}, "attention_bias"),
        ],
    ),
    ("Qwen2MoeForCausalLM", "Qwen2MoeConfig"): (
        ODD_QWEN | {"shared_expert_intermediate_size": 36},
        [
            ({"qkv_bias": False, "num_key_value_heads": 1}, None),
            ({"decoder_sparse_step": 2, "num_hidden_layers": 4, "mlp_only_layers": [0, 1]}, None),
            ({"shared_expert_intermediate_size": 12, "norm_topk_prob": True, "tie_word_embeddings": True}, None),
            ({"shared_expert_intermediate_size": 25}, "shared_expert_intermediate_size"),
            ({"mlp_only_layers": [1]}, "mlp_only_layers"),
            ({"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 1}, "use_sliding_window"),
        ],
    ),
    ("Qwen3MoeForCausalLM", "Qwen3MoeConfig"): (
        ODD_QWEN,
        [
            ({"head_dim": 16, "num_key_value_heads": 1, "num_experts_per_tok": 5}, None),
            ({"decoder_sparse_step": 3, "num_hidden_layers": 3, "norm_topk_prob": True}, None),
            ({"mlp_only_layers": [0], "tie_word_embeddings": True, "rms_norm_eps": 0.1} | LINEAR, None),
            ({"mlp_only_layers": ["0"]}, "mlp_only_layers"),
            ({"attention_bias": True}, "attention_bias"),
            ({"use_sliding_window": True, "sliding_window": 4}, "use_sliding_window"),
        ],
    ),
    ("SwitchTransformersForConditionalGeneration", "SwitchTransformersConfig"): (
        ODD_SWITCH,
        [
            ({"expert_capacity": 3}, None),  # of 24 tokens at 3 experts: many find no place
            ({"num_sparse_encoder_layers": 4, "num_sparse_decoder_layers": 4, "dense_act_fn": "gelu_new"}, None),
            ({"num_sparse_encoder_layers": 1, "num_sparse_decoder_layers": 1, "num_experts": 7}, None),
            ({"num_sparse_decoder_layers": 1}, "num_sparse_decoder_layers"),
            ({"num_decoder_layers": 3}, "num_sparse_decoder_layers=2 of num_decoder_layers=3"),
            ({"num_decoder_layers": 3, "num_sparse_decoder_layers": 1, "num_sparse_encoder_layers": 1}, None),
            ({"router_bias": True}, "router_bias"),
            ({"router_dtype": "bfloat16"}, "router_dtype"),
            ({"tie_word_embeddings": False}, "tie_word_embeddings"),
        ],
    ),
}
