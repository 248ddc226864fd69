"""Small decoders that differ in every part that has parameters."""

from __future__ import annotations

from trainer.config import Config

MODELS = {
    "gpt2": {
        "gated": False,
        "activation": "gelu_tanh",
        "norm": "layernorm",
        "position": "learned",
        "bias": True,
        "tied": True,
    },
    "llama": {},
    "grouped, untied": {"kv_heads": 2, "tied": False, "ffn_width": 200},
    "odd heads": {
        "width": 48,
        "heads": 3,
        "head_size": 10,
        "kv_heads": 1,
        "position": "learned",
        "gated": False,
    },
    "layernorm without bias": {"norm": "layernorm", "bias": False},
    "rmsnorm with bias": {"norm": "rmsnorm", "bias": True, "gated": True},
}


def config(model: dict, **other) -> Config:
    base = {"depth": 3, "width": 64, "heads": 4, "vocabulary": 512}
    tokenizer = {"vocabulary": 400}
    return Config.model_validate(
        {
            "model": base | model,
            "tokenizer": tokenizer,
            "data": {"sequence_length": 32},
            **other,
        }
    )
