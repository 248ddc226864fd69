"""Ulysses: around attention each rank gives positions of all heads for all positions of some heads (Jacobs et al. 2023,
DeepSpeed Ulysses, section 3). So any attention runs as it is, of heads / ranks heads.

Keys and values of fewer heads than ranks are repeated, and their gradients added up. All else is by head: slopes of
ALiBi, columns of a table of relative positions, sinks; dropout counts its rows so that each head keeps its mask.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from kernels import Alibi, T5Bias, prepare_mask
from trainer.models.products import computing_dtype
from trainer.models.sequence.shared import Shared


class Ulysses(Shared):
    """Each rank holds a stretch of positions, and attends with a part of the heads."""

    def mask(self, q_len: int, k_len: int, **asked: Any) -> Any:
        return prepare_mask(q_len, k_len, **{**asked, "bias": self._of_heads(asked.get("bias"))})

    def _of_heads(self, bias: Any) -> Any:
        """A bias of all heads, for those of this rank."""
        if isinstance(bias, Alibi):
            return replace(bias, slopes=self._mine(bias.slopes))
        if isinstance(bias, T5Bias):
            return replace(bias, table=self._mine(bias.table))
        return bias

    def _mine(self, by_head: Tensor) -> Tensor:
        """This rank's part of the last axis."""
        return by_head.chunk(self.slices.ranks, dim=-1)[self.slices.rank]

    def attend(self, query: Tensor, key: Tensor, value: Tensor, mask: Any, **options: Any) -> Tensor:
        bias, sink = options.pop("bias", None), options.pop("sink", None)
        ranks, low = self.slices.ranks, computing_dtype(query)
        copies = math.lcm(key.shape[2], ranks) // key.shape[2]
        if copies > 1:
            key, value = key.repeat_interleave(copies, dim=2), value.repeat_interleave(copies, dim=2)
        query = self._to_heads(query.to(low))
        # Beside each other for every rank: one exchange.
        pair = torch.cat([one.to(low).unflatten(2, (ranks, -1)) for one in (key, value)], dim=3).flatten(2, 3)
        key, value = self._to_heads(pair).chunk(2, dim=2)
        if options.get("dropout_rows") is not None:  # row x heads + head, of all heads
            options["dropout_rows"] = options["dropout_rows"] * ranks + self.slices.rank
        first = self.slices.rank * query.shape[2]
        options |= {
            "sink": None if sink is None else self._mine(sink),
            "bias": None if bias is None else lambda q, k, _: bias(q, k, slice(first, first + q.shape[2])),
        }
        return self._to_positions(super().attend(query, key, value, mask, **options))

    def _to_heads(self, x: Tensor) -> Tensor:
        """[B, s, H, D] of some positions -> [B, S, H / ranks, D] of all."""
        parts = x.unflatten(2, (self.slices.ranks, -1)).movedim(2, 0)
        return exchanged(parts, self.group).movedim(0, 1).flatten(1, 2)

    def _to_positions(self, x: Tensor) -> Tensor:
        """[B, S, H / ranks, D] -> [B, s, H, D]."""
        parts = x.unflatten(1, (self.slices.ranks, -1)).movedim(1, 0)
        return exchanged(parts, self.group).movedim(0, 2).flatten(2, 3)


def exchanged(parts: Tensor, group: dist.ProcessGroup) -> Tensor:
    """[ranks, ...]: of parts [ranks, ...], one for each rank of the group, those that the ranks have for this one."""
    received: Tensor = _Exchange.apply(parts, group)
    return received


class _Exchange(torch.autograd.Function):
    """All to all, whose gradient goes back the same way."""

    @staticmethod
    def forward(ctx: Any, parts: Tensor, group: dist.ProcessGroup) -> Tensor:
        ctx.group = group
        return _all_to_all(parts, group)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return _all_to_all(gradient, ctx.group), None


def _all_to_all(parts: Tensor, group: dist.ProcessGroup) -> Tensor:
    sent = parts.contiguous()
    received = torch.empty_like(sent)
    dist.all_to_all_single(received, sent, group=group)
    return received
