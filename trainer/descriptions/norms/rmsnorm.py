"""RMSNorm."""

from __future__ import annotations

from trainer.descriptions.norms import FP32, NormDescription


class RmsNorm(NormDescription):
    name = "rmsnorm"
    help = "root mean square 1, then a weight (Zhang and Sennrich 2019)"
    implementation = "trainer.models.norms:make_rms_norm"

    def saved(self, width: int, *, stream: int, fused: bool) -> int:
        """Its input and the root; the input in fp32 where it is not fused."""
        return (stream if fused else FP32) * width + FP32
