"""The learning rate against torch's own schedulers, and at its corners."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR

from trainer.config import OptimConfig
from trainer.training.lr_schedule import learning_rate


def torchs(scheduler: type, steps: int, **settings: float) -> list[float]:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    schedule = scheduler(optimizer, **settings)
    rates = []
    for _ in range(steps):
        optimizer.step()
        schedule.step()
        rates.append(schedule.get_last_lr()[0])
    return rates


def test_cosine_is_torchs() -> None:
    optim = OptimConfig(lr=1.0, warmup_steps=0, schedule="cosine", min_lr_ratio=0.1)
    ours = [learning_rate(optim, step, 40) for step in range(40)]
    assert ours == pytest.approx(torchs(CosineAnnealingLR, 40, T_max=40, eta_min=0.1), rel=1e-9)


def test_linear_is_torchs() -> None:
    optim = OptimConfig(lr=1.0, warmup_steps=0, schedule="linear", min_lr_ratio=0.25)
    ours = [learning_rate(optim, step, 40) for step in range(40)]
    assert ours == pytest.approx(torchs(LinearLR, 40, start_factor=1.0, end_factor=0.25, total_iters=40), rel=1e-9)


@pytest.mark.parametrize("schedule", ["cosine", "linear", "wsd", "constant"])
def test_warm_up_rises_to_the_peak_and_the_end_is_the_minimum(schedule: str) -> None:
    optim = OptimConfig.model_validate({"lr": 2.0, "warmup_steps": 5, "schedule": schedule, "min_lr_ratio": 0.1})
    rates = [learning_rate(optim, step, 50) for step in range(50)]
    assert rates[:5] == pytest.approx([0.4, 0.8, 1.2, 1.6, 2.0])
    assert max(rates) == pytest.approx(2.0)
    assert rates[-1] == pytest.approx(2.0 if schedule == "constant" else 0.2)
    assert all(a >= b - 1e-12 for a, b in pairwise(rates[4:]))


def test_wsd_stays_until_its_last_part() -> None:
    optim = OptimConfig(lr=1.0, warmup_steps=10, schedule="wsd", decay_fraction=0.2, min_lr_ratio=0.0)
    rates = [learning_rate(optim, step, 100) for step in range(100)]
    assert rates[9:80] == [1.0] * 71
    assert rates[-1] == pytest.approx(0.0)


def test_a_run_of_one_step_has_a_rate() -> None:
    assert learning_rate(OptimConfig(lr=1.0), 0, 1) > 0
