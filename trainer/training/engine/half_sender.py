"""Weights in bf16 at ZeRO stages 1 and 2: on their way after an update, and where it can be between updates too.

DeepSpeed (0.19) ends a step so: for each group of parameters it copies this rank's updated partition into its place in
the group's flat buffer (`parallel_partitioned_bit16_groups`), gathers the flat buffers (`bit16_groups_flat`) of all
groups, and points the parameters into them (`_update_model_bit16_weights`, once a group). A buffer may have any dtype
there. Kept in bf16 it is the only copy of the whole weights, and fp32 are the partitions alone, which the optimizer
steps on; gradients are fp32 as ever (`grad_dtype`). An output matrix is copied into fp32 from there: the gradient that
a loss makes of it is fp32, and compiled code gives a gradient the dtype of its parameter. Or a group is lent a bf16
buffer for the time of a step, and what came in it is copied into the fp32 buffer, where the parameters stay. All that
it relies on is in these names.
"""

from __future__ import annotations

from collections.abc import Set
from typing import Any

import torch
from torch import Tensor


class HalfSender:
    """Groups whose parameters all travel in bf16. `halves`: the ids of the parameters that do; `outputs`: of output
    matrices; `stay`: whether they are kept so (`trainer.config.wire.stays_half`)."""

    def __init__(self, optimizer: Any, halves: Set[int], outputs: Set[int], *, stay: bool) -> None:
        self.optimizer = optimizer
        self.groups = [at for at, group in enumerate(optimizer.bit16_groups) if id(group[0]) in halves]
        self.kept: frozenset[int] = frozenset()  # the ids of the parameters of groups that are bf16
        self._wide: dict[int, list[tuple[Any, Tensor]]] = {}  # of each group the output matrices, in fp32
        self._own: dict[int, tuple[Tensor, list[Tensor]]] = {}  # of the groups that are lent others
        self._point = optimizer._update_model_bit16_weights
        if self.groups:
            optimizer._update_model_bit16_weights = self._pointed if stay else self._received
        if stay:
            self._keep(outputs)

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

    def _keep(self, outputs: Set[int]) -> None:
        """bf16 buffers for good."""
        for group in self.groups:
            own, _ = self._halve(group)
            self.optimizer.bit16_groups_flat[group].copy_(own)
            wide = [one for one in self.optimizer.bit16_groups[group] if id(one) in outputs]
            self._wide[group] = [(one, one.data.clone()) for one in wide]
            self._pointed(group)
            for parameter in self.optimizer.bit16_groups[group]:
                parameter.grad_dtype = torch.float32
        if self.groups:
            self.optimizer._link_all_hp_params()  # else what maps parameters to partitions holds on to the fp32 buffers
        self.kept = frozenset(id(one) for group in self.groups for one in self.optimizer.bit16_groups[group])

    def _pointed(self, group: int) -> None:
        """In the place of `_update_model_bit16_weights`, with which a step ends, where buffers are bf16."""
        self._point(group)
        for parameter, wide in self._wide.get(group, ()):
            wide.copy_(parameter.data)
            parameter.data = wide

    def repoint(self) -> None:
        """Have parameters show what the buffers hold."""
        for group in self.groups if self.kept else ():
            self._pointed(group)

    def _received(self, group: int) -> None:
        """The same where they are lent."""
        if group in self._own:
            own, parts = self._own.pop(group)
            own.copy_(self.optimizer.bit16_groups_flat[group])
            self.optimizer.bit16_groups_flat[group] = own
            self.optimizer.parallel_partitioned_bit16_groups[group] = parts
        self._point(group)
