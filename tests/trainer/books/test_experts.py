"""What a token reads of experts, in published numbers; and the accounts that count it."""

from __future__ import annotations

import pytest
from parameter_cases import config

from trainer.books import flops, parameters
from trainer.books.experts import experts_said
from trainer.books.parameters import count
from trainer.books.plan import plan
from trainer.books.size_dial import turned
from trainer.config.model import ModelConfig

LLAMA = {"norm": "rmsnorm", "tied": False, "bias": False}
# Total and active parameters in billions, as the papers state them.
PUBLISHED = {
    # Jiang et al. 2024, section 2 and the announcement: 46.7B, of which a token reads 12.9B
    "mixtral-8x7b": (
        {"depth": 32, "width": 4096, "heads": 32, "kv_heads": 8, "ffn_width": 14336, "experts": {"count": 8}},
        *(32000, 46.7, 12.9),
    ),
    # Muennighoff et al. 2024, table 1: 6.9B, 1.3B
    "olmoe-1b-7b": (
        {
            **{"depth": 16, "width": 2048, "heads": 16, "qk_norm": "projection"},
            "experts": {"count": 64, "per_token": 8, "width": 1024},
        },
        *(50304, 6.9, 1.3),
    ),
    # Dai et al. 2024, table 2 and section 5.1: 16.4B, 2.8B
    "deepseek-moe-16b": (
        {
            **{"depth": 28, "width": 2048, "heads": 16, "ffn_width": 10944},
            "experts": {"count": 64, "per_token": 6, "width": 1408, "shared": 2, "dense_layers": 1},
        },
        *(102400, 16.4, 2.8),
    ),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_counts(name):
    fields, vocabulary, total, active = PUBLISHED[name]
    account = count(ModelConfig.model_validate(LLAMA | fields), vocabulary, 4096)
    assert account.total / 1e9 == pytest.approx(total, abs=0.05)
    assert account.active / 1e9 == pytest.approx(active, abs=0.06)


def test_six_n_d_counts_what_a_token_reads():
    made = config("shared experts")
    weights, work = parameters(made), flops(made)
    tokens = work.tokens_per_step
    assert work.six_n_step == 6 * tokens * (weights.active - weights.embedding + weights.shared)
    assert weights.idle == 2 * (8 - 3) * 3 * 64 * 20  # two layers, five experts of three matrices
    row = plan(made)["model.active"].planned
    assert row is not None and row.value == weights.active


@pytest.mark.parametrize(
    "keys",
    [{}, {"every": 2}, {"dense_layers": 1, "width": 64, "shared": 1}, {"dense_layers": 3}, {"first": 3, "every": 2}],
)
def test_the_size_dial_counts_all_experts(keys):
    for size in (10e6, 40e6):
        model = ModelConfig.model_validate({"size": size, "experts": {"count": 8, **keys}})
        made = turned(model, 1024, 128)
        assert count(made, 1024, 128).total == pytest.approx(size, rel=0.1)
        assert made.experts.count == 8 and made.experts.layers(made.depth) > 0


def test_both_sides_have_layers_with_experts():
    shape = {"family": "encoder_decoder", "depth": 1, "decoder_depth": 5, "experts": {"count": 4, "every": 2}}
    assert experts_said(ModelConfig.model_validate(shape))["layers_with_experts"] == "2"
    assert experts_said(ModelConfig.model_validate(shape | {"depth": 4}))["layers_with_experts"] == "4"
