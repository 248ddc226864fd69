"""The norms of the residual stream."""

from __future__ import annotations

from typing import Any

from trainer.descriptions.registry import Description, Registry

FP32 = 4


class NormDescription(Description):
    """Its implementation is called with the `ModelConfig` and a number of channels, and returns a
    `trainer.models.norms.Norm`. Each token is normalised by itself: no batch, micro-batch or rank changes it."""

    def parameters(self, model: Any, width: int) -> int:
        """Of a norm over `width` channels in a model of this configuration: the group `model`."""
        return width

    def saved(self, width: int, *, stream: int, fused: bool) -> int:
        """Bytes that a norm keeps for each token until its backward pass, of a residual stream of `stream` bytes a
        number; `fused`: where the kernels of the package run. Here its input and the normalised one, and a number."""
        return FP32 * (2 * width + 1)


NORMS: Registry[NormDescription] = Registry(
    "norm", "trainer.descriptions.norms", NormDescription, chosen_by="model.norm"
)
