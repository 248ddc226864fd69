"""What activation checkpointing of each kind costs and saves in the books; the measured bytes are in test_memory.py,
the counted operations in test_flops.py."""

from __future__ import annotations

from typing import Any

import pytest
from parameter_cases import config

from trainer.books import flops, memory, plan
from trainer.books.activations import saved
from trainer.books.fitting import RESERVE, fit
from trainer.books.lengths import lengths
from trainer.books.wire import wire
from trainer.config import Config


def made(choice: Any, attention: str = "reference", **others: Any) -> Config:
    return config(
        {"depth": 12, "width": 128, "heads": 4, "vocabulary": 512},
        optim={"batch_size": 4},
        data={"sequence_length": 512},
        engine={"activation_checkpointing": choice, "precision": "fp32", "micro_batch": 1, **others.pop("engine", {})},
        kernels={"attention": attention},
        **others,
    )


def kept(choice: Any) -> int:
    one = made(choice)
    return saved(one, 1, *lengths(one)).kept


def test_the_more_is_computed_again_the_less_is_kept() -> None:
    choices = [False, 4, 3, 2, True]
    assert [kept(choice) for choice in choices] == sorted((kept(choice) for choice in choices), reverse=True)
    assert kept(1) == kept(True) and kept(13) == kept(False)
    work = [flops(made(choice)).recomputed_per_step for choice in choices]
    assert work == sorted(work) and work[0] == 0
    assert work[3] * 2 == work[4] and work[1] * 4 == work[4]


def test_selective_is_the_scores_alone() -> None:
    """Korthikanti et al. 2022, table 2: 5 a s^2 b of every layer go, and a few percent of the operations come."""
    plain, selective = (saved(made(choice), 1, *lengths(made(choice))) for choice in (False, "selective"))
    assert plain.blocks - selective.kept >= 12 * 4 * 512**2 * 4
    account = flops(made("selective"))
    assert account.recomputed_per_step == account.scores // 2 * account.samples_per_step
    assert account.per_step == flops(made(False)).per_step


def test_a_kernel_that_keeps_no_scores_gains_little() -> None:
    found = saved(made("selective", "triton"), 1, *lengths(made("selective")))
    assert found.computed_again < 0.02 * found.blocks


def test_recomputed_blocks_keep_what_they_gathered_for_their_backward_pass() -> None:
    """Counted in tests/trainer/training/test_wire.py; what is read again soon stays gathered, and there is more between
    where blocks are read twice on the way back."""

    def weights(choice: Any, reused: int) -> float:
        raw = {"zero_optimization": {"stage3_max_reuse_distance": reused, "stage3_param_persistence_threshold": 0}}
        return wire(made(choice, engine={"zero_stage": 3, "deepspeed": raw}, launch={"processes": 4})).weights

    assert weights(False, 0) == weights(2, 0) == weights(True, 0) == weights("selective", 0)
    assert weights(False, 10**6) == weights("selective", 10**6) < weights(2, 10**6) < weights(True, 10**6)


@pytest.mark.parametrize(
    ("attention", "wanted"), [("triton", 4), ("triton", 2), ("triton", True), ("reference", "selective")]
)
def test_the_cheapest_choice_that_fits_is_proposed(attention: str, wanted: Any) -> None:
    """Selective where scores are kept, else as few blocks as will do."""
    whole, fitting = made(False, attention=attention), made(wanted, attention=attention)
    needed = memory(fitting).total
    assert needed < memory(whole).total
    machine = whole.machine.model_copy(
        update={
            "name": "small",
            "memory_bytes": round(needed / (1 - RESERVE)) + 1,
            "memory_bandwidth": 1e11,
            "peak_flops": {"fp32": 1e12},
        }
    )
    tight = whole.model_copy(update={"machine": machine, "engine": whole.engine.model_copy(update={"device": "cpu"})})
    found = fit(tight)
    assert found.fits is False and found.proposal == {"activation_checkpointing": wanted}
    assert f"engine.activation_checkpointing={str(wanted).lower()}" in found.text


def test_the_plan_tells_both_counts() -> None:
    planned = plan(made(2)).to_json()["planned"]["flop"]
    account = flops(made(2))
    assert planned["hardware"] / planned["total"] == pytest.approx(account.hardware_per_step / account.per_step)
    assert "hardware" not in plan(made(False)).to_json()["planned"]["flop"]
