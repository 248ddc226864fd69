"""Dynamic tanh, in place of a norm."""

from __future__ import annotations

from typing import Any

from trainer.descriptions.norms import NormDescription
from trainer.utils.schema import key


class DynamicTanh(NormDescription):
    name = "dynamic_tanh"
    help = "tanh of a learned multiple, then weights and biases (Zhu et al. 2025)"
    implementation = "trainer.models.dynamic_tanh:DynamicTanh"

    class Keys(NormDescription.Keys):
        tanh_alpha: float = key(0.5, "the multiple before training", gt=0, introduced=0.5)

    def parameters(self, model: Any, width: int) -> int:
        return 2 * width + 1
