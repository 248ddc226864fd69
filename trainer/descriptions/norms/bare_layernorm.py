"""LayerNorm without parameters."""

from __future__ import annotations

from typing import Any

from trainer.descriptions.norms import FP32, NormDescription


class BareLayerNorm(NormDescription):
    name = "bare_layernorm"
    help = "mean 0 and variance 1, without parameters (OLMo, Groeneveld et al. 2024)"
    implementation = "trainer.models.norms:make_bare_layer_norm"

    def parameters(self, model: Any, width: int) -> int:
        return 0

    def saved(self, width: int, *, stream: int, fused: bool) -> int:
        """Its input, mean and deviation."""
        return stream * width + 2 * FP32
