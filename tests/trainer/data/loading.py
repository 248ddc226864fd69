"""Arguments of a StepLoader whose steps all have one size."""

from __future__ import annotations

from typing import Any

from trainer.config import Curriculum, DataConfig


def fixed(batch_size: int, micro_batch: int) -> dict[str, Any]:
    return {"curriculum": Curriculum(DataConfig(), batch_size), "micro_batch": lambda _: micro_batch}
