"""What muP and CompleteP scale leaves as a plain model that computes the same."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from trainer.compose import compose
from trainer.config import Config
from trainer.hub.unscaled import plain_model, unscaled
from trainer.models import build, initialize, load_weights
from trainer.utils.errors import UserError

MUP = ["model.mup_base_width=16", "model.mup_base_head_size=8"]
DEPTH = ["model.mup_base_depth=2"]
# Norms before, after and around branches; tied and not; rows that are multiplied; a head behind a transform.
MODELS = {
    "llama-mini": [],
    "gpt-mini": ["model.tied=false"],
    "olmo2-7b": [],
    "gemma2-2b": ["model.window=8"],
    "qwen3-0.6b": [],
    "pythia-70m": [],
    "modernbert-base": ["objective=masked_lm"],
    "t5-small": ["objective=span_corruption"],
    "mbart-large-cc25": ["objective=span_corruption"],
}


def tiny(name: str, *more: str) -> Config:
    words = [f"model={name}", "model.width=32", "model.heads=2", "model.kv_heads=2", "model.head_size=16"]
    words += ["model.ffn_width=64", "model.depth=4", "model.vocabulary=512", "tokenizer.vocabulary=512"]
    return compose([*words, "model.max_length=16", "data.sequence_length=16", *MODELS.get(name, []), *more])


def logits(config: Config, weights: dict[str, Any]) -> torch.Tensor:
    model = build(config).eval()
    load_weights(model, weights)
    tokens = torch.randint(4, 512, (2, 16), generator=torch.Generator().manual_seed(0))
    batch = {"tokens": tokens, "segments": torch.zeros_like(tokens), "positions": torch.arange(16).expand(2, 16)}
    if config.model.family == "encoder_decoder":
        batch |= {f"source_{key}": value for key, value in batch.items()}
    return model.logits(**batch).detach()


CASES = [*((name, [*MUP, *DEPTH]) for name in MODELS), ("llama-mini", MUP), ("llama-mini", DEPTH)]


@pytest.mark.parametrize("name, words", CASES)
def test_the_plain_model_computes_the_same(name: str, words: list[str]) -> None:
    config = tiny(name, *words)
    model = build(config)
    initialize(model, seed=0)
    chance = torch.Generator().manual_seed(1)
    weights = {
        key: value.detach() + 0.1 * torch.randn(value.shape, generator=chance)
        for key, value in model.named_parameters()
    }
    plain = config.model_copy(update={"model": plain_model(config.model)})
    assert plain.model.width_growth == plain.model.depth_growth == 1
    found = logits(plain, unscaled(config.model, weights))
    right = logits(config, weights)
    assert float(right.std()) > 1e-3
    torch.testing.assert_close(found, right, rtol=1e-3, atol=1e-4 * float(right.std()))
    assert not torch.allclose(logits(plain, weights), right, rtol=1e-3, atol=1e-2 * float(right.std()))


def test_what_is_not_scaled_stays() -> None:
    model = tiny("llama-mini").model
    assert plain_model(model) is model
    weights = {"head.weight": torch.ones(2)}
    assert unscaled(model, weights)["head.weight"] is weights["head.weight"]


def test_a_norm_without_weights_is_refused() -> None:
    config = tiny("llama-mini", "model.norm=bare_layernorm", "model.tied=true", *MUP)
    with pytest.raises(UserError, match=r"model\.norm=bare_layernorm has no weights"):
        plain_model(config.model)
