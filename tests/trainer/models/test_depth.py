"""CompleteP is the standard parametrization at its base depth, and table 1 of Dey et al. 2025 at any other."""

from __future__ import annotations

import pytest
import torch

from trainer.compose import compose
from trainer.models import build, initialize, parameter_scales
from trainer.models.block import Block
from trainer.models.parametrization import Scale
from trainer.models.parts import Linear
from trainer.training.optimizers import make_optimizer
from trainer.utils.errors import UserError

# A norm before each branch, after each, on both sides; branches side by side; encoders; three branches a layer.
PRESETS = {
    "llama-mini": [],
    "olmo2-7b": [],
    "gemma2-2b": ["model.window=8"],
    "pythia-70m": [],
    "modernbert-base": ["objective=masked_lm"],
    "t5-small": ["objective=span_corruption"],
    "mbart-large-cc25": ["objective=span_corruption"],
}
BASE = "model.mup_base_depth=2"


def tiny(preset, *more):
    words = [f"model={preset}", "model.width=32", "model.heads=2", "model.kv_heads=2", "model.head_size=16"]
    words += ["model.ffn_width=64", "model.depth=2", "model.vocabulary=512", "tokenizer.vocabulary=512"]
    config = compose([*words, "model.max_length=16", "data.sequence_length=16", *PRESETS.get(preset, []), *more])
    model = build(config)
    initialize(model, seed=0)
    return model.eval(), config


def batch_of(config):
    tokens = torch.randint(4, 512, (2, 16), generator=torch.Generator().manual_seed(0))
    batch = {"tokens": tokens, "segments": torch.zeros_like(tokens), "positions": torch.arange(16).expand(2, 16)}
    if config.model.family == "encoder_decoder":
        batch |= {f"source_{name}": value for name, value in batch.items()}
    return batch


def trained(preset, *more):
    """Loss and weights after three updates."""
    model, config = tiny(preset, *more)
    optimizer, batch = make_optimizer(model, config.optim), batch_of(config)
    for _ in range(3):
        loss, count, _ = model(**batch, targets=batch["tokens"])
        optimizer.zero_grad()
        (loss / count).backward()
        optimizer.step()
    return float(loss.detach()), dict(model.named_parameters())


@pytest.mark.parametrize("preset", PRESETS)
def test_nothing_changes_at_the_base_depth(preset):
    plain, weights = trained(preset)
    loss, others = trained(preset, BASE)
    assert loss == plain
    assert all(torch.equal(weights[name], others[name]) for name in weights)


@pytest.mark.parametrize("preset", PRESETS)
def test_the_factor_of_the_branches_is_that_of_their_last_weights(preset):
    """A model four times deeper computes what the standard one does whose branches end in a quarter of the weights."""
    deep, config = tiny(preset, "model.depth=8", BASE)
    plain, _ = tiny(preset, "model.depth=8")
    plain.load_state_dict(deep.state_dict())
    closing = {
        "pre": ("attention.output", "cross_attention.output", "feed_forward.down"),
        "reordered": ("attention_norm", "feed_forward_norm"),
        "sandwich": ("attention_post_norm", "feed_forward_post_norm"),
    }[config.model.norm_position]
    with torch.no_grad():
        for block in (module for module in plain.modules() if isinstance(module, Block)):
            parts = {name: part for name, part in block.named_modules() if name in closing}
            assert len(parts) >= 2
            for name, part in parts.items():
                if "norm" in name and config.model.norm == "offset_rmsnorm":  # its factor is 1 + weight
                    part.weight.copy_((1 + part.weight) / 4 - 1)
                    continue
                for value in part.parameters():
                    value.mul_(0.25)
    batch = batch_of(config)
    torch.testing.assert_close(deep.logits(**batch), plain.logits(**batch), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("preset", ["llama-mini", "modernbert-base", "mbart-large-cc25"])
def test_initial_weights_are_those_of_the_base(preset):
    shallow, deep = (
        dict(tiny(preset)[0].named_parameters()),
        dict(tiny(preset, "model.depth=8", BASE)[0].named_parameters()),
    )
    assert all(torch.equal(weight, deep[name]) for name, weight in shallow.items())


def scales(*more, **options):
    model, _ = tiny("gpt-mini", "model.tied=false", "model.depth=8", BASE, *more)
    found = parameter_scales(model, **options)
    return {
        "table": found["tokens.weight"],
        "matrix": found["blocks.7.feed_forward.down.weight"],
        "bias": found["blocks.7.attention.query.bias"],
        "norm": found["blocks.0.attention_norm.weight"],
        "last norm": found["norm.weight"],
        "head": found["head.weight"],
    }


def test_table_1():
    """Twice as wide, four times deeper."""
    wide = ["model.mup_base_width=16"]
    outside, inside = Scale(1, 1, 1 / 2), Scale(1, 1, 1 / 8)
    plain = {"table": outside, "bias": inside, "norm": inside, "last norm": outside, "head": outside}
    assert scales(*wide) == plain | {"matrix": Scale(1 / 2, 1 / 2, 1 / 8)}
    half = Scale(1 / 2, 1, 1 / 4)  # a rate of 4 ** (1/2 - 1)
    found = scales(*wide, "model.mup_depth_power=0.5")
    assert found == plain | {"bias": half, "norm": half, "matrix": Scale(1 / 4, 1 / 2, 1 / 4)}
    assert scales(*wide, decay="standard")["matrix"] == Scale(1 / 2, 1, 1 / 8)


def test_rates_of_updates_that_are_as_long_as_the_gradient():
    """Gradients fall by 4 where the factor does, and the weights must move as before: four times the rate, and what
    decay takes away stays."""
    assert scales(follows_gradient=True)["matrix"] == Scale(4, 4, 1 / 4)
    assert scales("model.mup_depth_power=0.5", follows_gradient=True)["matrix"] == Scale(1, 2, 1 / 2)


@pytest.mark.parametrize("name", ["adamw", "lamb", "muon", "schedule_free"])
def test_epsilon_of_every_parameter(name):
    model, config = tiny("gpt-mini", "model.depth=8", BASE, f"optim={name}", "optim.epsilon=0.004")
    inside = {id(one) for block in model.modules() if isinstance(block, Block) for one in block.parameters()}
    groups = make_optimizer(model, config.optim).param_groups
    assert len([one for group in groups for one in group["params"]]) == len(list(model.parameters()))
    for group in groups:
        wanted = [0.001 if id(one) in inside else 0.004 for one in group["params"]]
        assert wanted == pytest.approx([group.get("eps", config.optim.epsilon)] * len(wanted))


def test_decay_of_wide_models():
    """What a step takes away: the same at every width, or as the rate falls."""
    for words, taken in (([], 0.1), (["optim.mup_weight_decay=standard"], 0.025)):
        model, config = tiny("llama-mini", "model.mup_base_width=8", "optim.lr=1", *words)
        hidden = {id(one.weight) for name, one in model.named_modules() if isinstance(one, Linear) and name != "head"}
        for group in make_optimizer(model, config.optim).param_groups:
            if {id(one) for one in group["params"]} & hidden:
                assert group["lr"] * group["weight_decay"] == pytest.approx(taken)


@pytest.mark.parametrize(
    "words, said",
    [
        (["model=bert-base", BASE], r"model\.norm_position=post; its norms are on the residual stream"),
        (["model=byt5-small", BASE], r"model\.decoder_depth=4; both sides must be of one depth, model\.depth is 12"),
        (["model.shared_layers=true", BASE], r"model\.shared_layers=True; one block learns from all depths"),
        (["model.experts.count=4", BASE], "experts.count: not with model.mup_base_depth; CompleteP is not worked out"),
        (["model.mup_depth_power=0.5"], r"mup_depth_power: needs model\.mup_base_depth"),
        (["model.mup_depth_power=2", BASE], "mup_depth_power: 2 given"),
        (["model.mup_base_depth=0"], r"mup_base_depth: 0 given"),
        (["optim.mup_weight_decay=standard"], r"standard needs model\.mup_base_width"),
        (["optim.mup_weight_decay=none", "model.mup_base_width=8"], "'independent' or 'standard'"),
    ],
)
def test_where_it_is_not_worked_out_it_says_so(words, said):
    with pytest.raises(UserError, match=said) as raised:
        compose(words)
    assert len(str(raised.value).splitlines()) == 1
