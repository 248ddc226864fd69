"""Parameters against the model itself, and against published sizes."""

from __future__ import annotations

import pytest
import torch
import yaml
from parameter_cases import MODELS, config

from trainer.books import parameters
from trainer.config import Config
from trainer.models import build


@pytest.mark.parametrize("name", MODELS)
def test_equal_to_the_model(name):
    made = config(name)
    with torch.device("meta"):
        net = build(made)
    account = parameters(made)
    assert account.total == sum(p.numel() for p in net.parameters())
    stack = net.backbone.encoder if made.model.family == "encoder_decoder" else net.backbone
    assert account.block == max(sum(p.numel() for p in block.parameters()) for block in stack.blocks)
    norms = sum(p.numel() for part, p in net.named_parameters() if "norm" in part and "replaced" not in part)
    assert account.norm == norms
    generator = sum(p.numel() for part, p in net.named_parameters() if ".generator." in part or ".token_head." in part)
    assert account.generator == generator


@pytest.mark.parametrize(
    ("model", "length", "total"),
    [
        # GPT-2 small as Hugging Face counts it (Radford et al. 2019; 50,257 pieces, 1,024 positions).
        (
            {"depth": 12, "width": 768, "heads": 12, "vocabulary": 50257} | MODELS["gpt2"],
            1024,
            124_439_808,
        ),
        # Llama 7B (Touvron et al. 2023): 32 layers, width 4096, feed-forward 11008, 32,000 pieces, untied.
        (
            {
                "depth": 32,
                "width": 4096,
                "heads": 32,
                "ffn_width": 11008,
                "vocabulary": 32000,
                "tied": False,
            },
            2048,
            6_738_415_616,
        ),
        # Llama 3 8B: grouped queries with 8 key heads, feed-forward 14336, 128,256 pieces.
        (
            {
                "depth": 32,
                "width": 4096,
                "heads": 32,
                "kv_heads": 8,
                "ffn_width": 14336,
                "vocabulary": 128256,
                "tied": False,
            },
            8192,
            8_030_261_248,
        ),
    ],
    ids=["gpt2", "llama-7b", "llama3-8b"],
)
def test_published_sizes(model, length, total):
    made = Config.model_validate({"model": model, "data": {"sequence_length": length}})
    assert parameters(made).total == total


@pytest.mark.slow
def test_every_shipped_model(pytestconfig):
    files = list((pytestconfig.rootpath / "conf" / "model").glob("*.yaml"))
    assert len(files) > 5
    for file in files:
        settings = {"model": yaml.safe_load(file.read_text()), "data": {"sequence_length": 64}}
        made = Config.model_validate(settings | {"tokenizer": {"vocabulary": 300}})
        with torch.device("meta"):
            net = build(made)
        assert parameters(made).total == sum(p.numel() for p in net.parameters()), file.stem
