"""Weights in bf16 at ZeRO stages 1 and 2: on their way after an update, and where it can be between updates too.

DeepSpeed (0.19) ends a step so: for each group of parameters it copies this rank's updated partition into its place in
the group's flat buffer (`parallel_partitioned_bit16_groups`), gathers the flat buffers (`bit16_groups_flat`) of all
groups, and points the parameters into them (`_update_model_bit16_weights`, once a group). A buffer may have any dtype
there. Kept in bf16 it is the only copy of the whole weights, and fp32 are the partitions that the optimizer steps on
alone; gradients are fp32 as ever (`grad_dtype`). Or it is lent a bf16 buffer for the time of a step, and what came in
it is copied into the fp32 buffer, where the parameters stay. All that it relies on is in these names.
"""

from __future__ import annotations

from collections.abc import Set
from typing import Any

import torch
from torch import Tensor


class HalfSender:
    """Groups whose parameters all travel in bf16. `halves`: the ids of the parameters that do; `stay`: whether they are
    kept so (`trainer.config.wire.stays_half`)."""

    def __init__(self, optimizer: Any, halves: Set[int], *, stay: bool) -> None:
        self.optimizer = optimizer
        self.groups = [at for at, group in enumerate(optimizer.bit16_groups) if id(group[0]) in halves]
        self.kept: frozenset[int] = frozenset()  # the ids of parameters that are bf16
        self._own: dict[int, tuple[Tensor, list[Tensor]]] = {}  # of the groups that are lent others
        self._point = optimizer._update_model_bit16_weights
        if stay:
            self._keep()
        elif self.groups:
            optimizer._update_model_bit16_weights = self._received

    def lend(self) -> None:
        """Before a step: bf16 buffers in place of the groups' own."""
        if not self.kept:
            self._own = {group: self._halve(group) for group in self.groups}

    def _halve(self, group: int) -> tuple[Tensor, list[Tensor]]:
        """An empty bf16 buffer in the place of a group's. Returns its own, and their partitions."""
        own = self.optimizer.bit16_groups_flat[group]
        parts = self.optimizer.parallel_partitioned_bit16_groups[group]
        low = torch.empty_like(own, dtype=torch.bfloat16)
        self.optimizer.bit16_groups_flat[group] = low
        self.optimizer.parallel_partitioned_bit16_groups[group] = list(low.split(parts[0].numel()))
        return own, parts

    def _keep(self) -> None:
        """bf16 buffers for good."""
        for group in self.groups:
            own, _ = self._halve(group)
            self.optimizer.bit16_groups_flat[group].copy_(own)
            self._point(group)
            for parameter in self.optimizer.bit16_groups[group]:
                parameter.grad_dtype = torch.float32
        self.kept = frozenset(id(one) for group in self.groups for one in self.optimizer.bit16_groups[group])

    def _received(self, group: int) -> None:
        """In the place of `_update_model_bit16_weights`, with which a step ends."""
        if group in self._own:
            own, parts = self._own.pop(group)
            own.copy_(self.optimizer.bit16_groups_flat[group])
            self.optimizer.bit16_groups_flat[group] = own
            self.optimizer.parallel_partitioned_bit16_groups[group] = parts
        self._point(group)
