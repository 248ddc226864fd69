"""The learning rate against torch's own schedulers, and at its corners."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch
from pydantic import ValidationError
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


def of_pieces(*pieces: dict[str, Any], **keys: Any) -> OptimConfig:
    return OptimConfig.model_validate({"lr": 1.0, "schedule": list(pieces), **keys})


def rates(optim: OptimConfig, steps: int) -> list[float]:
    return [learning_rate(optim, step, steps) for step in range(steps)]


@pytest.mark.parametrize("schedule", ["cosine", "linear"])
def test_pieces_that_say_what_a_name_says(schedule: str) -> None:
    named = OptimConfig.model_validate({"lr": 1.0, "warmup_steps": 5, "schedule": schedule, "min_lr_ratio": 0.1})
    pieces = of_pieces({"shape": "warmup", "steps": 5}, {"shape": schedule, "to": 0.1})
    assert rates(pieces, 50) == pytest.approx(rates(named, 50), rel=1e-12)


def test_pieces_are_torchs_one_after_the_other() -> None:
    from torch.optim.lr_scheduler import ConstantLR, SequentialLR

    def sequence(optimizer: torch.optim.Optimizer) -> SequentialLR:
        parts = [LinearLR(optimizer, 0.1, 1.0, 9), ConstantLR(optimizer, 1.0, 1), LinearLR(optimizer, 0.9, 0.0, 9)]
        return SequentialLR(optimizer, parts, [10, 30])

    optim = of_pieces({"shape": "warmup", "steps": 10}, {"shape": "constant"}, {"shape": "linear", "share": 0.25})
    assert rates(optim, 40) == pytest.approx([1.0 * (sequence_rate) for sequence_rate in torchs_of(sequence, 40)])


def torchs_of(make: Any, steps: int) -> list[float]:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    schedule, found = make(optimizer), []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return found


def test_inverse_square_root_is_the_transformers() -> None:
    """Vaswani et al. 2017, equation 3, relative to its peak."""
    optim = of_pieces({"shape": "warmup", "steps": 8}, {"shape": "inverse_sqrt"})
    wanted = [min(n**-0.5, n * 8**-1.5) / 8**-0.5 for n in range(1, 41)]
    assert rates(optim, 40) == pytest.approx(wanted)


def test_a_decay_of_one_minus_the_root() -> None:
    found = rates(of_pieces({"shape": "constant", "steps": 6}, {"shape": "sqrt", "to": 0.2}), 10)
    assert found == pytest.approx([1.0] * 6 + [0.2 + 0.8 * (1 - (n / 4) ** 0.5) for n in (1, 2, 3, 4)])


def test_after_the_last_piece_the_rate_stays() -> None:
    assert rates(of_pieces({"shape": "linear", "steps": 4, "to": 0.5}), 8)[3:] == [0.5] * 5


@pytest.mark.parametrize(
    "pieces, said",
    [
        ([{"shape": "constant"}, {"shape": "linear"}], "state no length"),
        ([{"shape": "constant", "steps": 3, "share": 0.5}], "state one of steps and share"),
        ([{"shape": "constant", "steps": 3, "to": 0.5}], "constant ends where it comes to"),
        ([{"shape": "linear", "share": 0.7}, {"shape": "linear", "share": 0.7}], "more than 1"),
        ([], "needs at least one"),
    ],
)
def test_pieces_that_do_not_fit(pieces: list[dict[str, Any]], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        of_pieces(*pieces)


def test_a_warm_up_beside_pieces_is_refused() -> None:
    with pytest.raises(ValidationError, match="warms up by a piece"):
        of_pieces({"shape": "constant"}, warmup_steps=4)
