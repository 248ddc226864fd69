"""Tiny models of transformers, every parameter random, and the same model in our terms."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path

import pytest
import tiny_experts
import torch
from tiny_decoders import DECODERS as MORE_DECODERS

transformers = pytest.importorskip("transformers")
T = transformers

SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48, "vocab_size": 96}
ENCODER = SIZES | {"max_position_embeddings": 64}
GPT = {
    "vocab_size": 96,
    "n_positions": 64,
    "n_embd": 32,
    "n_layer": 2,
    "n_head": 4,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
OPT = {
    **{name: SIZES[name] for name in ("hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size")},
    **{"ffn_dim": 48, "max_position_embeddings": 64},
}
SIDES = {f"{side}_{name}": value for side in ("encoder", "decoder") for name, value in (("layers", 2), ("ffn_dim", 48))}
BART = {"vocab_size": 96, "d_model": 32, "max_position_embeddings": 64, **SIDES}
BART |= {"encoder_attention_heads": 4, "decoder_attention_heads": 4}
T5 = {"vocab_size": 96, "d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4}
XLNET = {"vocab_size": 96, "d_model": 32, "n_layer": 2, "n_head": 4, "d_inner": 48}
ROPE = {"rope_theta": 10_000.0, "rope_type": "llama3", "factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
ROPE |= {"original_max_position_embeddings": 32}
SMOLLM3 = ENCODER | {"num_key_value_heads": 2, "no_rope_layer_interval": 2}
SMOLLM3 |= {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
XLM = {"vocab_size": 96, "emb_dim": 32, "n_layers": 2, "n_heads": 4, "max_position_embeddings": 64, "n_langs": 3}
XGLM = {"vocab_size": 96, "d_model": 32, "num_layers": 2, "attention_heads": 4, "ffn_dim": 48}
DEBERTA = ENCODER | {"relative_attention": True, "position_biased_input": False, "position_buckets": 8}
DEBERTA |= {"norm_rel_ebd": "layer_norm", "share_att_key": True, "pos_att_type": "p2c|c2p"}
DEBERTA |= {"max_relative_positions": 20}

MODELS = {
    # decoders
    "gpt": ("OpenAIGPTLMHeadModel", "OpenAIGPTConfig", {k: v for k, v in GPT.items() if "token_id" not in k}),
    "gpt2": ("GPT2LMHeadModel", "GPT2Config", GPT),
    "gpt2-relu": ("GPT2LMHeadModel", "GPT2Config", GPT | {"activation_function": "relu", "n_inner": 40}),
    "neox": ("GPTNeoXForCausalLM", "GPTNeoXConfig", ENCODER),
    "neox-serial": ("GPTNeoXForCausalLM", "GPTNeoXConfig", ENCODER | {"use_parallel_residual": False}),
    "llama": ("LlamaForCausalLM", "LlamaConfig", ENCODER | {"num_key_value_heads": 2}),
    "llama3": ("LlamaForCausalLM", "LlamaConfig", ENCODER | {"tie_word_embeddings": True, "rope_parameters": ROPE}),
    "olmo2": ("Olmo2ForCausalLM", "Olmo2Config", ENCODER | {"num_key_value_heads": 2, "pad_token_id": 0}),
    "olmo": ("OlmoForCausalLM", "OlmoConfig", ENCODER | {"pad_token_id": 0, "eos_token_id": 2}),
    "mistral": ("MistralForCausalLM", "MistralConfig", ENCODER | {"num_key_value_heads": 2, "sliding_window": 7}),
    "qwen2": ("Qwen2ForCausalLM", "Qwen2Config", ENCODER | {"num_key_value_heads": 2}),
    "qwen3": ("Qwen3ForCausalLM", "Qwen3Config", ENCODER | {"num_key_value_heads": 2, "head_dim": 16}),
    "smollm3": ("SmolLM3ForCausalLM", "SmolLM3Config", SMOLLM3),
    "opt": ("OPTForCausalLM", "OPTConfig", OPT),
    "opt-post": ("OPTForCausalLM", "OPTConfig", OPT | {"word_embed_proj_dim": 16, "do_layer_norm_before": False}),
    "bloom": ("BloomForCausalLM", "BloomConfig", {"vocab_size": 96, "hidden_size": 32, "n_layer": 2, "n_head": 4}),
    "bloom-6-heads": (
        "BloomForCausalLM",
        "BloomConfig",
        {"vocab_size": 96, "hidden_size": 48, "n_layer": 2, "n_head": 6},
    ),
    "xglm": ("XGLMForCausalLM", "XGLMConfig", XGLM | {"max_position_embeddings": 64}),
    **MORE_DECODERS,
    # encoders
    "bert": ("BertForPreTraining", "BertConfig", ENCODER),
    "distilbert": (
        "DistilBertForMaskedLM",
        "DistilBertConfig",
        {"vocab_size": 96, "dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 48, "max_position_embeddings": 64},
    ),
    "roberta": ("RobertaForMaskedLM", "RobertaConfig", ENCODER | {"type_vocab_size": 1}),
    "camembert": ("CamembertForMaskedLM", "CamembertConfig", ENCODER | {"type_vocab_size": 1}),
    "xlm-roberta": ("XLMRobertaForMaskedLM", "XLMRobertaConfig", ENCODER | {"type_vocab_size": 1}),
    "xlm-roberta-xl": ("XLMRobertaXLForMaskedLM", "XLMRobertaXLConfig", ENCODER | {"type_vocab_size": 1}),
    "albert": ("AlbertForPreTraining", "AlbertConfig", ENCODER | {"embedding_size": 16}),
    "electra-generator": ("ElectraForMaskedLM", "ElectraConfig", ENCODER | {"embedding_size": 16}),
    "xlnet": ("XLNetLMHeadModel", "XLNetConfig", XLNET),
    "modernbert": (
        "ModernBertForMaskedLM",
        "ModernBertConfig",
        ENCODER
        | {
            "num_hidden_layers": 4,
            "local_attention": 8,
            **dict.fromkeys(("pad_token_id", "bos_token_id", "eos_token_id", "cls_token_id", "sep_token_id"), 1),
        },
    ),
    "deberta": ("DebertaV2ForMaskedLM", "DebertaV2Config", DEBERTA),
    "deberta-newer": ("DebertaV2ForMaskedLM", "DebertaV2Config", DEBERTA | {"legacy": False, "share_att_key": False}),
    "xlm": ("XLMWithLMHeadModel", "XLMConfig", XLM),
    # encoder-decoders
    "bart": ("BartForConditionalGeneration", "BartConfig", BART),
    "mbart": ("MBartForConditionalGeneration", "MBartConfig", BART | {"scale_embedding": True}),
    "t5": ("T5ForConditionalGeneration", "T5Config", T5),
    "t5v1.1": (
        "T5ForConditionalGeneration",
        "T5Config",
        T5 | {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False},
    ),
    "mt5": ("MT5ForConditionalGeneration", "MT5Config", T5),
    "byt5": (
        "T5ForConditionalGeneration",
        "T5Config",
        T5 | {"feed_forward_proj": "gated-gelu", "num_decoder_layers": 1},
    ),
    "pegasus": (
        "PegasusForConditionalGeneration",
        "PegasusConfig",
        BART | {"scale_embedding": True, "activation_function": "relu", "decoder_layers": 3},
    ),
}
_FIRST = {name: list(MODELS).index(name) for name in ("bert", "bart")}  # of the encoders and of what has both sides
DECODERS = list(MODELS)[: _FIRST["bert"]]
ENCODERS = list(MODELS)[_FIRST["bert"] : _FIRST["bart"]]
ENCODER_DECODERS = list(MODELS)[_FIRST["bart"] :]
MODELS |= tiny_experts.DECODERS | tiny_experts.ENCODER_DECODERS
DECODERS += tiny_experts.DECODERS
ENCODER_DECODERS += tiny_experts.ENCODER_DECODERS
UNTIED = ("t5v1.1", "mt5", "byt5")


@cache
def tiny(name: str):
    """A model of transformers with every parameter drawn at random, so that none of them goes unnoticed."""
    kind, config, keys = MODELS[name]
    torch.manual_seed(sum(map(ord, name)))
    model = getattr(T, kind)(getattr(T, config)(**keys)).eval()
    if name in UNTIED:  # as released: transformers builds these tied
        model.lm_head.weight = torch.nn.Parameter(torch.empty_like(model.lm_head.weight))
    with torch.no_grad():
        for parameter in (one for one in model.parameters() if one.requires_grad):
            parameter.copy_(
                torch.randn(parameter.shape) * (0.1 if parameter.dim() == 1 else 0.2) + (parameter.dim() == 1) * 0.5
            )
        if hasattr(model, "final_logits_bias"):
            model.final_logits_bias.copy_(torch.randn(model.final_logits_bias.shape))
    return model


def ours(imported):
    """Our module with the imported weights, and its ModelConfig."""
    from trainer.models import pretraining_model

    model = imported.model
    net = pretraining_model(model, model.vocabulary, model.max_length or 64).eval()
    names = dict(net.named_parameters())
    assert names.keys() == imported.weights.keys()
    with torch.no_grad():
        for part, value in imported.weights.items():
            names[part].copy_(value)
    return net


@cache
def converted(name: str):
    """The tiny model of that name, by way of a checkpoint, as a module of ours."""
    from trainer.hub import read_checkpoint

    with tempfile.TemporaryDirectory() as folder:
        tiny(name).save_pretrained(folder)
        return ours(read_checkpoint(Path(folder)))
