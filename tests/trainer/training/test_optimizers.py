"""Which parameters an optimizer takes, and which decay."""

from __future__ import annotations

import pytest
from torch import nn

from trainer.config import Config, OptimConfig
from trainer.descriptions.optimizers import OPTIMIZERS
from trainer.models import build
from trainer.training.optimizers import make_optimizer
from trainer.utils.errors import UserError


def test_matrices_decay_and_vectors_do_not() -> None:
    config = Config.model_validate({"model": {"width": 32, "depth": 1, "heads": 2}, "tokenizer": {"vocabulary": 300}})
    groups = make_optimizer(build(config), config.optim).param_groups
    decays = {(one.dim() > 1, group["weight_decay"]) for group in groups for one in group["params"]}
    assert decays == {(True, 0.1), (False, 0.0)}


def test_a_parameter_that_it_does_not_take(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(OPTIMIZERS["adamw"], "takes", lambda shape: len(shape) == 2)
    with pytest.raises(UserError, match=r"^optim.name: adamw does not take bias, whose shape is \(3,\)$"):
        make_optimizer(nn.Linear(2, 3), OptimConfig())
