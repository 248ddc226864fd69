"""Schedules of values, pieces in tokens, and what an optimizer makes of them."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from trainer.compose import compose
from trainer.config import Config, OptimConfig
from trainer.descriptions.optimizers import OPTIMIZERS
from trainer.training.faults.guard import Guard
from trainer.training.optimizers import make_optimizer, set_momentum, set_weight_decay
from trainer.training.step_settings import scheduled, step_settings
from trainer.utils.errors import UserError


def config_of(steps: int = 100, **optim: Any) -> Config:
    given = {"data": {"sequence_length": 32}, "optim": {"batch_size": 8, **optim}, "budget": {"steps": steps}}
    return Config.model_validate(given)


def along(config: Config, name: str, steps: int = 100) -> list[float]:
    return [getattr(step_settings(config, step, steps), name) for step in range(steps)]


def test_momentum_rises_as_in_modded_nanogpt() -> None:
    """m(s) = (1 - f) 0.85 + f 0.95, f = min(s / 300, 1), s counted from 1 here."""
    config = config_of(name="muon", momentum_schedule=[{"shape": "linear", "steps": 300, "start": 0.85}])
    wanted = [(1 - f) * 0.85 + f * 0.95 for f in (min(s / 300, 1) for s in range(1, 401))]
    assert along(config, "momentum", 400) == pytest.approx(wanted, rel=1e-12)
    assert along(config, "weight_decay", 3) == [None] * 3


def test_decay_falls_from_its_own_value_and_comes_back() -> None:
    pieces = [{"steps": 10}, {"shape": "cosine", "steps": 20, "to": 0.0}, {"shape": "linear", "share": 0.3}]
    found = along(config_of(weight_decay=0.2, weight_decay_schedule=pieces), "weight_decay")
    assert found[:10] == [0.2] * 10 and found[29] == pytest.approx(0.0, abs=1e-17)
    assert found[19] == pytest.approx(0.2 * 0.5 * (1 + math.cos(math.pi / 2)))
    assert found[59:] == pytest.approx([0.2] * 41) and found[44] == pytest.approx(0.1)


def test_pieces_in_tokens_are_pieces_in_steps_where_batches_stay() -> None:
    """256 tokens a step; 1,000 are four steps, rounded up."""
    by_tokens = [{"shape": "warmup", "tokens": 1000}, {"shape": "constant"}, {"shape": "sqrt", "tokens": 2560}]
    by_steps = [{"shape": "warmup", "steps": 4}, {"shape": "constant"}, {"shape": "sqrt", "steps": 10}]
    assert along(config_of(schedule=by_tokens), "lr") == along(config_of(schedule=by_steps), "lr")
    assert along(config_of(schedule=by_tokens), "warming_up") == [True] * 4 + [False] * 96


def test_pieces_in_tokens_through_growing_batches() -> None:
    """The fewest whole steps that read the tokens: of the first piece from the beginning, of the last to the end."""
    pieces = [{"shape": "warmup", "tokens": 3000}, {"shape": "constant"}, {"shape": "linear", "tokens": 6000}]
    warmup = [{"size": 2, "tokens": 2000}, {"size": 5, "tokens": 20_000}]
    config = config_of(schedule=pieces, batch_warmup=warmup, lr=1.0)
    tokens = [config.curriculum.tokens(step) for step in range(101)]
    rates = along(config, "lr")
    first = next(step for step in range(101) if tokens[step] >= 3000)
    last = max(step for step in range(101) if tokens[100] - tokens[step] >= 6000)
    assert rates[first - 1] == 1.0 > rates[first - 2] and rates[last - 1] == 1.0 > rates[last]
    assert rates[99] == 0.0 and rates[98] > 0.0


@pytest.mark.parametrize("name", [name for name, one in OPTIMIZERS.items() if one.momentum is not None])
def test_what_is_set_is_what_a_run_with_that_value_has(name: str) -> None:
    """Three updates with values that were set, against an optimizer that was made with them."""
    key = OPTIMIZERS[name].momentum
    assert key is not None
    stated = {"name": name, "lr": 0.01, "clip": None}
    set_later = OptimConfig.model_validate({**stated, "weight_decay": 0.3, key: 0.8})
    made_so = OptimConfig.model_validate({**stated, "weight_decay": 0.05, key: 0.6})
    nets = []
    for optim in (set_later, made_so):
        net = _net()
        optimizer = make_optimizer(net, optim)
        _attach(optimizer, net)
        for step in range(3):
            set_weight_decay(optimizer, 0.05)
            set_momentum(optimizer, 0.6)
            for parameter in net.parameters():
                parameter.grad = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(step))
            optimizer.step()
        nets.append(net)
    unchanged = _net()
    for one, other, before in zip(*(net.parameters() for net in (*nets, unchanged)), strict=True):
        assert torch.equal(one, other) and not torch.equal(one, before)


def _net() -> torch.nn.Module:
    from trainer.models import build, initialize

    model = {"depth": 1, "width": 32, "heads": 2, "kv_heads": 2}
    net: torch.nn.Module = build(Config.model_validate({"model": model, "tokenizer": {"vocabulary": 300}}))
    initialize(net, 0)
    return net


def _attach(optimizer: torch.optim.Optimizer, net: torch.nn.Module) -> None:
    """Tell an optimizer that works on parameters where they lie: whole, each in a tensor of its own."""
    from trainer.models.roles import roles
    from trainer.training.optimizers.pieces import PieceOptimizer, Place, Ranks

    if not isinstance(optimizer, PieceOptimizer):
        return
    by_id = {id(parameter): (name, parameter) for name, parameter in net.named_parameters()}
    role_of, stepped = roles(net), []
    for group in optimizer.param_groups:
        for tensor in group["params"]:
            name, parameter = by_id[id(tensor)]
            stepped.append((tensor, [Place(name, role_of[name], tuple(parameter.shape), 0, 0, parameter.numel())]))
    optimizer.attach(stepped, Ranks(0, 1, alone=True, gather=lambda value: [value]), torch.float32)


def test_a_record_speaks_of_what_changes() -> None:
    config = config_of(
        weight_decay_schedule=[{"shape": "linear", "to": 0.0}], batch_warmup=[{"size": 2, "tokens": 640}]
    )
    said = [scheduled(config, step_settings(config, step, 100), step) for step in (0, 9, 10)]
    assert [one["batch_size"] for one in said] == [2, 2, 8] and said[0]["weight_decay"] == pytest.approx(0.099)
    assert "momentum" not in said[0]
    assert scheduled(config_of(), step_settings(config_of(), 0, 100), 0) == {}


def test_batches_that_were_left_out_were_not_trained_on() -> None:
    guard = Guard(Config().anomalies, {})
    assert guard.trained(7) == [(0, 7)]
    guard.skip(3)
    guard.skipped_batches.append((5, 8))
    trained = [batch for first, last in guard.trained(7) for batch in range(first, last)]
    assert trained == [0, 1, 2, 4, 8, 9, 10] and guard.batch(7) == 11


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["optim.schedule=[{shape: warmup, tokens: 90m}, {}]"], r"optim\.pieces: 10987 steps in all, the run has 400"),
        (["optim.schedule=constant", "optim.warmup_steps=9", "optim.decay=999"], r"\(warmup 9, linear 999\), the run"),
        (["checkpoint.at_steps=[100, 401]"], r"checkpoint\.at_steps: 401 given, the run ends after step 400"),
        (
            ["optim.averages.a={latest: 2, every_steps: 500}"],
            r"averages\.a\.every_steps: 500 given, the run ends after",
        ),
        (["optim.schedule=[{}, {shape: sqrt, tokens: 90m}]"], r"optim\.pieces: \d+ steps in all, the run has 400"),
        (["optim.schedule=[{shape: warmup, tokens: 9m, steps: 3}]"], "state one of steps and tokens"),
        (["optim.schedule=[{}]", "optim.warmup_steps=4"], "warms up by a piece"),
        (["optim.batch_warmup=[{size: 8, tokens: 900m}]"], r"900,000,000 tokens in all, the run has 819,200: it never"),
        (["optim.batch_warmup=[{size: 64, tokens: 9m}]"], r"64 is not less than optim\.batch_size 32"),
        (
            ["optim=adafactor", "optim.momentum_schedule=[{}]"],
            "optim.name=adafactor has no momentum; adamw, lamb, lion",
        ),
        (["optim.momentum_schedule=[{shape: linear, to: 1.0}]"], r"\[0\]\.to: 1 given, it must be less than 1"),
        (["optim.weight_decay_schedule=[{to: 1.0}]"], r"\[0\]\.to: constant stays where it begins; state start"),
        (["optim.weight_decay_schedule=[{steps: 999}]"], r"weight_decay_schedule: 999 steps in all, the run has 400"),
        (["optim.weight_decay_schedule=[{}, {}]"], "state no length"),
        (["optim.weight_decay_schedule=[{shape: warmup}]"], "weight_decay_schedule"),
    ],
)
def test_schedules_that_cannot_be_are_a_line_each(words: list[str], said: str) -> None:
    with pytest.raises(UserError, match=said) as caught:
        compose(["data.sequence_length=256", "optim.batch_size=32", "budget.steps=400", *words])
    assert len(str(caught.value).splitlines()) == 1
