"""The fused loss as the books count it: chunks of logits, columns that are added, what it leaves behind."""

from __future__ import annotations

import importlib
from typing import Any

import pytest
import torch

from trainer.books import kernels as planned
from trainer.books.activations import saved
from trainer.config import Config

GPT2 = {"depth": 2, "width": 768, "heads": 12, "vocabulary": 50257}


def test_a_fused_loss_divides_its_work_as_planned(monkeypatch: pytest.MonkeyPatch) -> None:
    """The buffer of logits that the operator makes, and the rows of the matrix's gradient that it leaves."""
    loss = importlib.import_module("kernels.loss.op")
    made: list[tuple[int, ...]] = []
    eager = importlib.import_module("kernels.loss.eager").eager_loss

    def watched(logits: torch.Tensor, *rest: Any) -> None:
        made.append(tuple(logits.shape))
        eager(logits, *rest)

    monkeypatch.setattr(importlib.import_module("kernels.loss.eager"), "eager_loss", watched)
    tokens, vocabulary, width = 2048, 300, 8
    hidden, weight = torch.zeros(tokens, width, requires_grad=True), torch.zeros(vocabulary, width)
    _, _, _, _, dweight, _ = loss.linear_cross_entropy_op(
        hidden, weight, None, torch.zeros(tokens, dtype=torch.int64), -100, 0.0, 0.0, 0.0, 320, 0, True, False
    )
    assert made[0] == (planned.chunks.rows_per_chunk(tokens, 320, 4, "cpu"), vocabulary)
    assert dweight.untyped_storage().nbytes() == 4 * 320 * width


def test_a_plan_for_a_gpu_counts_padded_logits() -> None:
    """GPT-2's 50,257 columns in bf16: 4,096 tokens of 50,304, and an fp32 gradient of as many rows."""
    made = {"model": GPT2, "data": {"sequence_length": 1024}}
    found = {}
    for device in ("cuda", "cpu"):
        engine = {"device": device, "precision": "bf16", "micro_batch": 12}
        config = Config.model_validate({**made, "engine": engine, "optim": {"batch_size": 12}})
        found[device] = saved(config, 12, 1024, 0)
    tokens = 12 * 1024
    assert found["cuda"].logits == 2 * 4096 * 50304
    assert found["cuda"].head_gradients == 2 * tokens * 768 + 4 * 50304 * 768
    assert found["cuda"].head_copy == 2 * 50304 * 768
    assert (found["cpu"].logits, found["cpu"].head_gradients) == (3 * 4 * tokens * 50257, 0)
    assert found["cpu"].head_copy == 2 * 50257 * 768
