"""Odd configurations of every model type: three or more of each, random weights, fixed seeds."""

from __future__ import annotations

import pytest
import tiny_experts
import torch
from odd_decoders import CASES as MORE_DECODERS

transformers = pytest.importorskip("transformers")

SIZES = {
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 40,
    "vocab_size": 101,
}
PLACES = SIZES | {"max_position_embeddings": 48}
GPT = {"vocab_size": 101, "n_positions": 48, "n_embd": 24, "n_layer": 2, "n_head": 3}
OPT = {"vocab_size": 101, "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "ffn_dim": 40}
OPT |= {"max_position_embeddings": 48}
XGLM = {"vocab_size": 101, "d_model": 24, "num_layers": 2, "attention_heads": 3, "ffn_dim": 40}
XGLM |= {"max_position_embeddings": 48}
BLOOM = {"vocab_size": 101, "hidden_size": 24, "n_layer": 2, "n_head": 3}
XLNET = {"vocab_size": 101, "d_model": 24, "n_layer": 2, "n_head": 3, "d_inner": 40}
BART = {"vocab_size": 101, "d_model": 24, "max_position_embeddings": 48}
BART |= {f"{side}_{name}": value for side in ("encoder", "decoder") for name, value in (("layers", 2), ("ffn_dim", 40))}
BART |= {"encoder_attention_heads": 3, "decoder_attention_heads": 3}
T5 = {"vocab_size": 101, "d_model": 24, "d_kv": 8, "d_ff": 40, "num_layers": 2, "num_heads": 3}
DEBERTA = PLACES | {"relative_attention": True, "position_biased_input": False, "position_buckets": 16}
DEBERTA |= {"norm_rel_ebd": "layer_norm", "share_att_key": True, "pos_att_type": "p2c|c2p"}
MODERN = PLACES | {"num_hidden_layers": 4, "local_attention": 8, "pad_token_id": 0, "bos_token_id": 1}
MODERN |= {"eos_token_id": 2, "cls_token_id": 1, "sep_token_id": 2}


def rope(kind, **more):
    return {"rope_parameters": {"rope_type": kind, "rope_theta": 500.0, **more}}


LINEAR, DYNAMIC = rope("linear", factor=2.0), rope("dynamic", factor=2.0)
YARN = rope("yarn", factor=2.0, original_max_position_embeddings=24)
LLAMA3 = rope("llama3", factor=4.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=16)
LLAMA3_OTHER = rope(
    "llama3", factor=4.0, low_freq_factor=2.0, high_freq_factor=8.0, original_max_position_embeddings=16
)
LONGROPE = rope("longrope", short_factor=[1.0] * 4, long_factor=[2.0] * 4, original_max_position_embeddings=24)
ROPES = {
    kind: {"rope_parameters": {"full_attention": {"rope_type": kind, "rope_theta": 900.0, "factor": 2.0}}}
    for kind in ("linear", "dynamic")
}
THETAS = {"full_attention": {"rope_type": "default", "rope_theta": 900.0}}
THETAS |= {"sliding_attention": {"rope_type": "default", "rope_theta": 50.0}}

# (class of transformers, class of its configuration) -> the usual keys, and changes to them with what becomes of each:
# the word that the refusal names, or null where the logits must be equal.
CASES = {
    ("GPT2LMHeadModel", "GPT2Config"): (
        GPT,
        [
            ({"activation_function": "gelu_fast", "n_inner": 33}, None),
            ({"activation_function": "gelu", "layer_norm_epsilon": 0.1}, None),
            ({"reorder_and_upcast_attn": True, "n_positions": 26}, None),
            ({"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx"),
            ({"scale_attn_weights": False}, "scale_attn_weights"),
            ({"activation_function": "quick_gelu"}, "activation_function"),
        ],
    ),
    ("OpenAIGPTLMHeadModel", "OpenAIGPTConfig"): (
        GPT,
        [({"afn": "relu"}, None), ({"afn": "swish", "layer_norm_epsilon": 0.1}, None), ({"n_head": 4}, None)],
    ),
    ("GPTNeoXForCausalLM", "GPTNeoXConfig"): (
        PLACES,
        [
            ({"use_parallel_residual": False, "hidden_act": "gelu_pytorch_tanh"}, None),
            ({"rope_parameters": {"rope_type": "default", "rope_theta": 50.0, "partial_rotary_factor": 1.0}}, None),
            ({"rope_parameters": LINEAR["rope_parameters"] | {"partial_rotary_factor": 0.5}}, None),
            ({"tie_word_embeddings": True, "layer_norm_eps": 0.1}, None),
            ({"attention_bias": False}, "attention_bias"),
            (DYNAMIC, "rope_type"),
        ],
    ),
    ("LlamaForCausalLM", "LlamaConfig"): (
        PLACES,
        [
            ({"head_dim": 16, "num_key_value_heads": 1}, None),
            (LINEAR | {"hidden_act": "gelu_accurate"}, None),
            (LLAMA3 | {"tie_word_embeddings": True}, None),
            ({"rope_parameters": {"rope_type": "default", "rope_theta": 9.0, "partial_rotary_factor": 0.5}}, None),
            ({"rope_parameters": LINEAR["rope_parameters"] | {"partial_rotary_factor": 0.5}}, "partial_rotary_factor"),
            ({"attention_bias": True}, "attention_bias"),
            ({"mlp_bias": True}, "mlp_bias"),
            (DYNAMIC, "rope_type"),
            (YARN | {"num_key_value_heads": 1}, None),
            (LONGROPE, "rope_type"),
            (LLAMA3_OTHER, "low_freq_factor"),
        ],
    ),
    ("Olmo2ForCausalLM", "Olmo2Config"): (
        PLACES | {"pad_token_id": 0, "eos_token_id": 2},
        [
            ({"num_key_value_heads": 1, "hidden_act": "relu"}, None),
            (LINEAR, None),
            ({"rms_norm_eps": 0.1, "tie_word_embeddings": True}, None),
            (YARN, None),
        ],
    ),
    ("OlmoForCausalLM", "OlmoConfig"): (
        PLACES | {"pad_token_id": 0, "eos_token_id": 2},
        [
            ({"num_key_value_heads": 1, "hidden_act": "relu"}, None),
            (LINEAR | {"tie_word_embeddings": True}, None),
            ({"num_hidden_layers": 3}, None),
            ({"clip_qkv": 8.0}, "clip_qkv"),
            ({"attention_bias": True}, "attention_bias"),
        ],
    ),
    ("MistralForCausalLM", "MistralConfig"): (
        PLACES | {"num_key_value_heads": 3},
        [
            ({"sliding_window": None, "head_dim": 16}, None),
            ({"sliding_window": 2, "num_key_value_heads": 1}, None),
            ({"sliding_window": 5, "tie_word_embeddings": True} | LINEAR, None),
            ({"sliding_window": 1}, "sliding_window"),
            (YARN | {"sliding_window": 7}, None),
        ],
    ),
    ("Qwen2ForCausalLM", "Qwen2Config"): (
        PLACES | {"num_key_value_heads": 3},
        [
            ({"num_key_value_heads": 1, "tie_word_embeddings": True}, None),
            (LINEAR | {"hidden_act": "gelu_accurate"}, None),
            ({"use_sliding_window": False, "sliding_window": 4, "max_window_layers": 1}, None),
            ({"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 1}, "use_sliding_window"),
        ],
    ),
    ("Qwen3ForCausalLM", "Qwen3Config"): (
        PLACES | {"num_key_value_heads": 3},
        [
            ({"num_key_value_heads": 1, "head_dim": 8}, None),
            ({"head_dim": 16, "tie_word_embeddings": True, "rms_norm_eps": 0.1}, None),
            (LLAMA3, None),
            ({"attention_bias": True}, "attention_bias"),
            ({"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 1}, "use_sliding_window"),
        ],
    ),
    ("SmolLM3ForCausalLM", "SmolLM3Config"): (
        PLACES | {"num_key_value_heads": 3, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2},
        [
            ({"no_rope_layer_interval": 2, "num_key_value_heads": 1}, None),
            ({"no_rope_layers": [1, 1], "tie_word_embeddings": False}, None),
            ({"no_rope_layers": [1, 1, 0, 1], "num_hidden_layers": 4} | LINEAR, None),
            ({"no_rope_layers": [0, 1]}, "no_rope_layers"),
            ({"mlp_bias": True}, "mlp_bias"),
        ],
    ),
    **MORE_DECODERS,
    ("OPTForCausalLM", "OPTConfig"): (
        OPT,
        [
            ({"do_layer_norm_before": False, "activation_function": "gelu_python"}, None),
            ({"word_embed_proj_dim": 16}, None),
            ({"layer_norm_elementwise_affine": False}, "layer_norm_elementwise_affine"),
            ({"enable_bias": False}, "enable_bias"),
            ({"_remove_final_layer_norm": True}, "_remove_final_layer_norm"),
        ],
    ),
    ("BloomForCausalLM", "BloomConfig"): (
        BLOOM,
        [
            ({"layer_norm_epsilon": 0.1}, None),
            ({"n_head": 6, "slow_but_exact": True}, None),
            ({"apply_residual_connection_post_layernorm": True}, "apply_residual_connection_post_layernorm"),
        ],
    ),
    ("XGLMForCausalLM", "XGLMConfig"): (
        XGLM,
        [
            ({"scale_embedding": False}, None),
            ({"activation_function": "relu", "attention_heads": 4}, None),
            ({"tie_word_embeddings": False}, None),
        ],
    ),
    ("BertForPreTraining", "BertConfig"): (
        PLACES,
        [
            ({"hidden_act": "relu", "layer_norm_eps": 0.1}, None),
            ({"hidden_act": "gelu_new", "type_vocab_size": 3}, None),
            ({"chunk_size_feed_forward": 4}, None),
            ({"hidden_act": "tanh"}, "hidden_act"),
        ],
    ),
    ("DistilBertForMaskedLM", "DistilBertConfig"): (
        {"vocab_size": 101, "dim": 24, "n_layers": 2, "n_heads": 3, "hidden_dim": 40, "max_position_embeddings": 48},
        [
            ({"activation": "relu"}, None),
            ({"n_layers": 3, "n_heads": 4}, None),
            ({"tie_word_embeddings": False}, None),
            ({"sinusoidal_pos_embds": True}, "sinusoidal_pos_embds"),
        ],
    ),
    ("CamembertForMaskedLM", "CamembertConfig"): (
        PLACES,
        [
            ({"type_vocab_size": 1}, None),
            ({"pad_token_id": 5, "layer_norm_eps": 0.1}, None),
            ({"tie_word_embeddings": False}, None),
            ({"hidden_act": "relu"}, "hidden_act"),
        ],
    ),
    ("RobertaForMaskedLM", "RobertaConfig"): (
        PLACES,
        [
            ({"pad_token_id": 5, "type_vocab_size": 1}, None),
            ({"layer_norm_eps": 0.1, "tie_word_embeddings": False}, None),
            ({"hidden_act": "relu"}, "hidden_act"),
        ],
    ),
    ("XLMRobertaForMaskedLM", "XLMRobertaConfig"): (
        PLACES,
        [
            ({"pad_token_id": 0, "type_vocab_size": 1}, None),
            ({"hidden_act": "gelu_python"}, None),
            ({"hidden_act": "gelu_new"}, "hidden_act"),
        ],
    ),
    ("XLMRobertaXLForMaskedLM", "XLMRobertaXLConfig"): (
        PLACES,
        [
            ({"type_vocab_size": 2}, None),
            ({"layer_norm_eps": 0.1, "pad_token_id": 3}, None),
            ({"hidden_act": "silu"}, "hidden_act"),
        ],
    ),
    ("AlbertForPreTraining", "AlbertConfig"): (
        PLACES | {"embedding_size": 16},
        [
            ({"hidden_act": "relu"}, None),
            ({"embedding_size": 20, "num_hidden_layers": 5}, None),
            ({"embedding_size": 24}, "embedding_size"),
            ({"num_hidden_groups": 2}, "num_hidden_groups"),
            ({"inner_group_num": 2}, "inner_group_num"),
        ],
    ),
    ("ElectraForMaskedLM", "ElectraConfig"): (
        PLACES | {"embedding_size": 16},
        [
            ({"embedding_size": 24}, None),
            ({"layer_norm_eps": 0.1, "type_vocab_size": 1}, None),
            ({"hidden_act": "relu"}, "hidden_act"),
        ],
    ),
    ("ElectraForPreTraining", "ElectraConfig"): (
        PLACES | {"embedding_size": 16},
        [({"embedding_size": 24}, None), ({"num_attention_heads": 4}, None), ({"hidden_act": "relu"}, "hidden_act")],
    ),
    ("XLNetLMHeadModel", "XLNetConfig"): (
        XLNET,
        [
            ({"ff_activation": "relu", "layer_norm_eps": 0.1}, None),
            ({"n_head": 4, "mem_len": None}, None),
            ({"tie_word_embeddings": False}, None),
            ({"clamp_len": 3}, "clamp_len"),
            ({"attn_type": "uni"}, "attn_type"),
            ({"same_length": True}, "same_length"),
            ({"bi_data": True}, "bi_data"),
        ],
    ),
    ("XLMWithLMHeadModel", "XLMConfig"): (
        {"vocab_size": 101, "emb_dim": 24, "n_layers": 2, "n_heads": 3, "max_position_embeddings": 48},
        [
            ({"gelu_activation": False, "n_langs": 4}, None),
            ({"sinusoidal_embeddings": True, "n_heads": 4}, None),
            ({"n_langs": 5, "use_lang_emb": False, "layer_norm_eps": 0.1}, None),
            ({"tie_word_embeddings": False, "n_layers": 3}, None),
            ({"asm": True}, "asm"),
            ({"causal": True}, "causal"),
            ({"n_langs": 3, "lang2id": {"en": 0, "de": 2}}, "lang2id"),
        ],
    ),
    ("ModernBertForMaskedLM", "ModernBertConfig"): (
        MODERN,
        [
            ({"hidden_activation": "silu", "classifier_activation": "swish"}, None),
            ({"rope_parameters": THETAS, "local_attention": 6}, None),
            ({"num_hidden_layers": 3, "layer_types": ["full_attention"] * 3}, None),
            ({"classifier_activation": "relu"}, "classifier_activation"),
            ({"hidden_activation": "relu"}, "classifier_activation"),
            (ROPES["linear"], "rope_type"),
            (ROPES["dynamic"], "rope_type"),
            ({"norm_bias": True}, "norm_bias"),
            ({"classifier_bias": True}, "classifier_bias"),
            ({"decoder_bias": False}, "decoder_bias"),
        ],
    ),
    ("DebertaV2ForMaskedLM", "DebertaV2Config"): (
        DEBERTA,
        [
            (
                {"position_buckets": 6, "max_relative_positions": 9, "type_vocab_size": 2, "hidden_act": "gelu_new"},
                None,
            ),
            (
                {"position_buckets": -1, "max_relative_positions": 5, "pos_att_type": ["p2c"], "share_att_key": False},
                None,
            ),
            (
                {"pos_att_type": "c2p", "norm_rel_ebd": "none", "tie_word_embeddings": False, "layer_norm_eps": 0.1},
                None,
            ),
            ({"legacy": False, "share_att_key": False, "hidden_act": "relu", "pooler_hidden_act": "tanh"}, None),
            ({"relative_attention": False}, "relative_attention"),
            ({"position_biased_input": True}, "position_biased_input"),
            ({"conv_kernel_size": 3}, "conv_kernel_size"),
            ({"pos_att_type": ["p2p", "c2p"]}, "pos_att_type"),
            ({"norm_rel_ebd": "layer_norm|x"}, "norm_rel_ebd"),
            ({"embedding_size": 16}, "embedding_size"),
            ({"attention_head_size": 16}, "attention_head_size"),
            ({"position_buckets": 8.5}, "position_buckets"),
        ],
    ),
    ("BartForConditionalGeneration", "BartConfig"): (
        BART,
        [
            ({"scale_embedding": True, "activation_function": "relu"}, None),
            ({"encoder_attention_heads": 4, "decoder_attention_heads": 4}, None),
            ({"decoder_layers": 3}, None),
            ({"decoder_ffn_dim": 24}, "decoder_ffn_dim"),
        ],
    ),
    ("MBartForConditionalGeneration", "MBartConfig"): (
        BART,
        [
            ({"activation_function": "gelu_new"}, None),
            ({"scale_embedding": True}, None),
            ({"encoder_layers": 1}, None),
            ({"decoder_ffn_dim": 24}, "decoder_ffn_dim"),
            ({"decoder_attention_heads": 4}, "decoder_attention_heads"),
        ],
    ),
    ("PegasusForConditionalGeneration", "PegasusConfig"): (
        BART,
        [
            ({"scale_embedding": True, "activation_function": "relu"}, None),
            ({"encoder_layers": 3, "decoder_layers": 1, "activation_function": "gelu_new"}, None),
            ({"encoder_attention_heads": 4, "decoder_attention_heads": 4, "max_position_embeddings": 19}, None),
            ({"decoder_ffn_dim": 24}, "decoder_ffn_dim"),
            ({"decoder_attention_heads": 4}, "decoder_attention_heads"),
            ({"tie_word_embeddings": False}, "tie_word_embeddings"),
        ],
    ),
    ("T5ForConditionalGeneration", "T5Config"): (
        T5,
        [
            ({"feed_forward_proj": "gated-silu", "d_kv": 5}, None),
            ({"feed_forward_proj": "gelu", "relative_attention_num_buckets": 8}, None),
            ({"feed_forward_proj": "gated-gelu_python", "relative_attention_max_distance": 20}, None),
            ({"feed_forward_proj": "gelu_new", "scale_decoder_outputs": False}, None),
            ({"num_decoder_layers": 3}, None),
            ({"num_decoder_layers": 0}, "num_decoder_layers"),
            ({"dense_act_fn": "tanh"}, "dense_act_fn"),
        ],
    ),
    ("MT5ForConditionalGeneration", "MT5Config"): (
        T5,
        [
            ({}, None),
            ({"feed_forward_proj": "relu", "layer_norm_epsilon": 0.1}, None),
            ({"num_decoder_layers": 1}, None),
            ({"num_decoder_layers": 0}, "num_decoder_layers"),
        ],
    ),
}
CASES |= tiny_experts.CASES
ODD = [
    pytest.param(kind, config, usual, changes, refused, id=f"{kind}-{number}")
    for (kind, config), (usual, several) in CASES.items()
    for number, (changes, refused) in enumerate(several)
]


def build(kind, config, keys, seed=0):
    """A model of transformers with every parameter drawn at random, so that none of them goes unnoticed."""
    torch.manual_seed(seed)
    model = getattr(transformers, kind)(getattr(transformers, config)(**keys)).eval()
    with torch.no_grad():
        for parameter in (one for one in model.parameters() if one.requires_grad):
            plain = torch.randn(parameter.shape) * (0.1 if parameter.dim() == 1 else 0.2)
            parameter.copy_(plain + (parameter.dim() == 1) * 0.5)
    return model
