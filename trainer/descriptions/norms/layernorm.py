"""LayerNorm."""

from __future__ import annotations

from typing import Any

from trainer.descriptions.norms import FP32, NormDescription


class LayerNorm(NormDescription):
    name = "layernorm"
    help = "mean 0 and variance 1, then a weight and, with model.bias, a bias (Ba et al. 2016)"
    implementation = "trainer.models.norms:make_layer_norm"

    def parameters(self, model: Any, width: int) -> int:
        return width * (1 + model.bias)

    def saved(self, width: int, *, stream: int, fused: bool) -> int:
        """Its input, mean and deviation."""
        return stream * width + 2 * FP32
