"""Updated weights on their way in bf16, at ZeRO stages 1 and 2.

DeepSpeed (0.19) ends a step so: for each group of parameters it copies this rank's updated partition into its place in
the group's flat buffer (`parallel_partitioned_bit16_groups`), gathers the flat buffers (`bit16_groups_flat`) of all
groups, and points the parameters into them (`_update_model_bit16_weights`, once a group). A buffer may have any dtype
there: for the time of a step it is lent one in bf16, and what came in it is copied into the fp32 buffer, where the
parameters stay. All that it relies on is in these four names.
"""

from __future__ import annotations

from collections.abc import Set
from typing import Any

import torch
from torch import Tensor


class HalfSender:
    """Groups whose parameters all travel in bf16. `halves`: the ids of the parameters that do."""

    def __init__(self, optimizer: Any, halves: Set[int]) -> None:
        self.optimizer = optimizer
        self.groups = [at for at, group in enumerate(optimizer.bit16_groups) if id(group[0]) in halves]
        self._own: dict[int, tuple[Tensor, list[Tensor]]] = {}  # of the groups that are lent others
        self._point = optimizer._update_model_bit16_weights
        if self.groups:
            optimizer._update_model_bit16_weights = self._received

    def lend(self) -> None:
        """Before a step: bf16 buffers in place of the groups' own."""
        for group in self.groups:
            own = self.optimizer.bit16_groups_flat[group]
            parts = self.optimizer.parallel_partitioned_bit16_groups[group]
            low = torch.empty_like(own, dtype=torch.bfloat16)
            self._own[group] = own, parts
            self.optimizer.bit16_groups_flat[group] = low
            self.optimizer.parallel_partitioned_bit16_groups[group] = list(low.split(parts[0].numel()))

    def _received(self, group: int) -> None:
        """In the place of `_update_model_bit16_weights`, with which a step ends."""
        if group in self._own:
            own, parts = self._own.pop(group)
            own.copy_(self.optimizer.bit16_groups_flat[group])
            self.optimizer.bit16_groups_flat[group] = own
            self.optimizer.parallel_partitioned_bit16_groups[group] = parts
        self._point(group)
