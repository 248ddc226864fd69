"""muP is the standard parametrization at its base width, and table 8 of Yang et al. 2022 at any other."""

from __future__ import annotations

import pytest
import torch

from trainer.compose import compose
from trainer.models import build, initialize, learning_rate_scales
from trainer.models.parts import OutputLayer
from trainer.training.optimizers import make_optimizer, set_learning_rate
from trainer.utils.errors import UserError

PRESETS = ["llama-mini", "gpt-mini", "bert-base", "t5-small", "mbart-large-cc25"]


def model_of(*words):
    config = compose([*words, "model.vocabulary=2048", "data.sequence_length=32"])
    model = build(config)
    initialize(model, seed=0)
    return model, config


def shape(width):
    return (
        f"model.width={width}",
        "model.depth=2",
        f"model.heads={width // 32}",
        "model.kv_heads=null",
        "model.head_size=32",
    )


def wide(preset, width, *more):
    return model_of(f"model={preset}", *shape(width), f"model.ffn_width={4 * width}", *more)


@pytest.mark.parametrize("preset", PRESETS)
def test_nothing_changes_at_the_base_width(preset):
    plain, config = wide(preset, 64)
    mup, same = wide(preset, 64, "model.mup_base_width=64", "model.mup_base_head_size=32")
    assert set(learning_rate_scales(mup).values()) == {1.0}
    assert same.model.score_scale in (None, pytest.approx(config.model.attention_scale or 32**-0.5))
    for (name, one), (_, other) in zip(plain.named_parameters(), mup.named_parameters(), strict=True):
        torch.testing.assert_close(one, other, msg=name)
    tokens = torch.randint(4, 2048, (2, 32), generator=torch.Generator().manual_seed(0))
    batch = {"tokens": tokens, "targets": tokens, "segments": torch.zeros_like(tokens)}
    batch["positions"] = torch.arange(32).expand(2, 32)
    if config.model.family == "encoder_decoder":
        batch |= {f"source_{name}": batch[name] for name in ("tokens", "segments", "positions")}
    torch.testing.assert_close(plain(**batch)[0], mup(**batch)[0])


@pytest.mark.parametrize("preset", PRESETS)
def test_four_times_wider_is_table_8(preset):
    """Hidden matrices begin at half the deviation and learn at a quarter of the rate; tables and heads as before."""
    small, _ = wide(preset, 64, "model.mup_base_width=64")
    large, _ = wide(preset, 256, "model.mup_base_width=64")
    scales, before = learning_rate_scales(large), dict(small.named_parameters())
    hidden = {name for name, scale in scales.items() if scale != 1}
    assert {scales[name] for name in hidden} == {0.25}
    for name, parameter in large.named_parameters():
        grows_in = parameter.dim() == 2 and all(
            new == 4 * old for new, old in zip(parameter.shape, before[name].shape, strict=True)
        )
        assert (name in hidden) == grows_in, name
        if parameter.dim() == 2 and min(parameter.shape) > 2:
            ratio = float(parameter.detach().std() / before[name].detach().std())
            assert ratio == pytest.approx(0.5 if grows_in else 1.0, rel=0.15), name
    heads = [
        [module.scale for module in model.modules() if isinstance(module, OutputLayer)] for model in (small, large)
    ]
    assert heads[1] == pytest.approx([scale / 4 for scale in heads[0]]) and heads[0]


def test_scores_fall_as_one_over_the_head_size():
    def scale(size):
        words = ("model.heads=2", "model.kv_heads=2", f"model.head_size={size}", f"model.width={2 * size}")
        return compose([*words, "model.mup_base_width=32", "model.mup_base_head_size=16"]).model.score_scale

    assert scale(16) == pytest.approx(16**-0.5)
    assert scale(64) == pytest.approx(scale(16) / 4)


def test_the_first_update_moves_hidden_weights_less_and_decays_all_alike():
    """AdamW's first step is lr x sign of the gradient, whatever its size."""
    model, config = wide("llama-mini", 256, "model.mup_base_width=64", "optim.weight_decay=0")
    decayed, decaying = wide("llama-mini", 256, "model.mup_base_width=64", "optim.weight_decay=0.5")
    for one, settings in ((model, config), (decayed, decaying)):
        optimizer = make_optimizer(one, settings.optim)
        set_learning_rate(optimizer, 1e-2)
        before = {name: parameter.detach().clone() for name, parameter in one.named_parameters()}
        for parameter in one.parameters():
            parameter.grad = torch.ones_like(parameter)
        optimizer.step()
        for name, parameter in one.named_parameters():
            wanted = before[name]
            if one is decayed and parameter.dim() == 2:
                wanted = wanted * (1 - 1e-2 * 0.5)
            moved = wanted - parameter
            torch.testing.assert_close(
                moved, torch.full_like(moved, 1e-2 * learning_rate_scales(one)[name]), rtol=1e-3, atol=1e-6
            )


def test_learning_rate_groups_leave_no_parameter_out():
    model, config = wide("t5-small", 128, "model.mup_base_width=64")
    members = [p for group in make_optimizer(model, config.optim).param_groups for p in group["params"]]
    assert len(members) == len({id(p) for p in members}) == len(list(model.parameters()))


@pytest.mark.parametrize(
    "words, said",
    [
        (["model=xlnet-base", "objective=permuted_lm"], "muP is not worked out for model.position"),
        (["model=electra-small", "objective=replaced_token"], "muP is not worked out for model.embedding_width"),
        (["model=albert-base", "objective=albert"], "muP is not worked out for model.embedding_width=128"),
        (["model.mup_base_width=0"], "model.mup_base_width: 0 given"),
    ],
)
def test_where_it_is_not_worked_out_it_says_so(words, said):
    with pytest.raises(UserError, match=said):
        compose(["model.mup_base_width=64", *words] if "=0" not in words[0] else words)
    with pytest.raises(UserError, match=r"needs model\.mup_base_width"):
        compose(["model.mup_base_head_size=32"])
