"""Numbers for texts: what is read of a record, the head that says a number, and how far off it is."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from trainer.models.losses import NOT_A_TARGET
from trainer.models.model import Output
from trainer.models.task_heads import PooledHead
from trainer.tasks import metrics
from trainer.tasks.formats import Format, Formatted
from trainer.tasks.records import Record
from trainer.utils.errors import UserError


class Numbers(Format):
    """Texts in a row, and a number as target."""

    def __call__(self, record: Record) -> Formatted:
        tokens, types, cut = self.row([self.tokenizer.encode(record.text(name)) for name in self.task.text])
        field = self.task.answer[0]
        try:
            number = float(record.get(field))
        except (TypeError, ValueError):
            raise UserError(f"{record.where}: {field}: {record.get(field)!r} found, a number wanted") from None
        return Formatted(self.arrays(tokens, types) | {"targets": np.array(number, np.float32)}, cut)


class NumberHead(PooledHead):
    """One number a row. Targets [B], float32."""

    def forward(self, hidden_states: Tensor, targets: Tensor, **batch: Tensor) -> Output:
        """Sum of the rows' Huber losses."""
        there = targets != NOT_A_TARGET
        said = self.logits(hidden_states, **batch)[:, 0]
        each = F.huber_loss(said, targets, reduction="none", delta=self.task.linear_from)
        return torch.where(there, each, 0.0).sum(), there.sum(), {}


@torch.no_grad()
def score_numbers(tuned: Any) -> dict[str, Any]:
    """Mean absolute error, and that of saying the mean of all."""
    errors, numbers = [], []
    for batch in tuned.batches():
        targets = batch.pop("targets")
        errors.append((tuned.model.logits(**batch)[:, 0] - targets).abs().cpu().numpy())
        numbers.append(targets.cpu().numpy())
    error, number = np.concatenate(errors), np.concatenate(numbers)
    return {
        "metrics": {"absolute_error": float(error.mean())},
        "intervals": {"absolute_error": metrics.mean_interval(error)},
        "baselines": {"the mean": {"absolute_error": float(np.abs(number - number.mean()).mean())}},
    }
