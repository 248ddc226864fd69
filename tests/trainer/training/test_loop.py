"""The parts of the Trainer that need no run: the order of batches through recovery, hooks, a step that does not fit."""

from __future__ import annotations

import random
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from trainer.config import AnomaliesConfig, Config
from trainer.training.completion import AsRead
from trainer.training.faults.guard import Guard
from trainer.training.hooks import Hook
from trainer.training.loop import Trainer
from trainer.training.state import Outcome, TrainState
from trainer.utils.errors import UserError
from trainer.utils.outcomes import Status


@pytest.mark.parametrize("seed", range(20))
def test_batches_come_in_order_through_any_recovery(seed: int) -> None:
    """After batch b comes b + 1, trained on, skipped or rolled back: the iterator need not start again."""
    chance, guard, step = random.Random(seed), Guard(AnomaliesConfig(), {}), 0
    saved = (0, guard.state())
    for batch in range(200):
        assert guard.batch(step) == batch
        what = chance.choice(["update", "update", "update", "save", "skip", "rollback"])
        if what == "skip":
            guard.skip(batch)
        elif what == "rollback":
            step, state = saved
            guard.roll_back(step, state, batch)
        else:
            step += 1
            saved = (step, guard.state()) if what == "save" else saved


def bare(**attributes: Any) -> Trainer:
    """A Trainer without a run behind it."""
    trainer = Trainer.__new__(Trainer)
    vars(trainer).update(attributes)
    return trainer


def test_hooks_hear_in_order_and_are_closed_in_reverse(monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[str] = []

    class Named(Hook):
        def __init__(self, name: str) -> None:
            self.name = name

        def phase(self, name: str, step: int) -> None:
            heard.append(f"{self.name} {name} {step}")

        def closed(self, status: str, step: int, text: str) -> None:
            heard.append(f"{self.name} {text}")

    nothing = SimpleNamespace(finish=lambda *_: None, close=lambda: None)
    trainer = bare(hooks=[Named("a")], state=TrainState(step=7), trackers=nothing, engine=nothing)
    trainer.hooks.append(Named("b"))
    monkeypatch.setattr(Trainer, "_complete", lambda self, outcome: outcome)
    trainer._phase("data")
    trainer.finish(Outcome(Status.HALTED, 7, "of no use"))
    assert heard == ["a data 7", "b data 7", "b halted: of no use", "a halted: of no use"]


@pytest.mark.parametrize(("rows", "way"), [(8, "engine.micro_batch=4"), (1, "engine.activation_checkpointing=true")])
def test_a_step_that_does_not_fit_is_one_line(rows: int, way: str) -> None:
    def dry_run(micro_batches: Any) -> int:
        raise torch.OutOfMemoryError("CUDA out of memory")

    config = Config.model_validate({"budget": {"steps": 2}, "engine": {"dry_run": True, "micro_batch": rows}})
    alone = SimpleNamespace(batches=lambda drawn: drawn)  # no rank shares its sequences
    engine, loader = SimpleNamespace(dry_run=dry_run, sharing=alone), SimpleNamespace(step=lambda number: [])
    with pytest.raises(UserError, match=rf"^engine\.micro_batch: {rows} x .* does not fit .*; set {way}$"):
        bare(config=config, curriculum=config.curriculum, engine=engine, loader=loader, completer=AsRead())._dry_run()
