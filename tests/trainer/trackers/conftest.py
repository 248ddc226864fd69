from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from trainer.config import Config
from trainer.events import EvaluationRecord, StepRecord
from trainer.trackers import RunContext


@pytest.fixture
def make_step() -> Callable[..., StepRecord]:
    def make(step: int, **changes: Any) -> StepRecord:
        fields: dict[str, Any] = {
            "step": step,
            "samples": step * 4,
            "tokens": step * 1000,
            "targets": 990,
            "flop": step * 1e9,
            "loss": 8.0 / step,
            "grad_norm": 1.0,
            "lr": 1e-3,
            "tokens_per_second": 2000.0,
            "flop_per_second": 2e9,
            "mfu": None,
            "peak_flop_per_second": None,
            "memory_peak_bytes": 2**30,
            "seconds": {"data": 0.1, "forward_backward": 0.3, "optimizer": 0.1, "other": 0.0},
            "wall_seconds": 0.5 * step,
        }
        return StepRecord(**{**fields, **changes})

    return make


@pytest.fixture
def make_evaluation() -> Callable[..., EvaluationRecord]:
    def make(step: int, **changes: Any) -> EvaluationRecord:
        fields: dict[str, Any] = {
            "step": step,
            "tokens": step * 1000,
            "loss": 4.0,
            "bits_per_byte": 2.25,
            "unigram_bits_per_byte": 3.0,
            "targets": 500,
            "seconds": 0.2,
        }
        return EvaluationRecord(**{**fields, **changes})

    return make


@pytest.fixture
def make_context(tmp_path: Path) -> Callable[..., RunContext]:
    def make(**changes: Any) -> RunContext:
        tracker = changes.pop("tracker", {})
        steps = changes.pop("total_steps", 20)
        config = Config.model_validate({"tracker": tracker, "budget": {"steps": 1000}})
        fields: dict[str, Any] = {
            "config": config,
            "run": tmp_path,
            "total_steps": steps,
            "parameters": 4_200_000,
            "world_size": 1,
        }
        return RunContext(**{**fields, **changes})

    return make
