"""What ranks that share experts hold, against the model itself. What they send is counted in
tests/trainer/training/test_expert_ranks.py."""

from __future__ import annotations

import pytest
import torch

from trainer.books.expert_ranks import held_numbers, ring_numbers, shared_numbers, token_bytes
from trainer.compose import compose
from trainer.models import build
from trainer.models.expert_ranks import ExpertRanks, experts_shared

WORDS = ["launch.processes=4", "engine.expert_parallel=2", "model.experts.count=4", "data.sequence_length=64"]
MODELS = {
    "decoder": ["model=llama-mini", "model.experts.dense_layers=1"],
    "shared experts": ["model=llama-mini", "model.experts.shared=2", "model.experts.shared_gate=true"],
    "encoder-decoder": ["model=t5-mini", "objective=span_corruption", "model.experts.every=2"],
}


@pytest.mark.parametrize("name", MODELS)
def test_as_many_as_the_model_has(name: str) -> None:
    config = compose([*WORDS, *MODELS[name]])
    found: list[torch.nn.Parameter] = []
    ranks = ExpertRanks("two", 1, 2, None, None, found.append)  # type: ignore[arg-type]
    with torch.device("meta"), experts_shared(ranks):
        model = build(config)
    assert held_numbers(config) == sum(one.numel() for one in model.parameters())
    assert shared_numbers(config) == 2 * sum(one.numel() for one in found)
    dense = held_numbers(config) - shared_numbers(config) // 2
    assert ring_numbers(config) == pytest.approx(dense * 3 / 4 + shared_numbers(config) / 2 / 2)


def test_nothing_travels_where_each_rank_has_all() -> None:
    config = compose([*WORDS, *MODELS["decoder"], "engine.expert_parallel=1"])
    assert token_bytes(config) == 0 and held_numbers(config) > shared_numbers(config)
