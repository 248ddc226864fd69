"""RMSNorm by 1 + weight."""

from __future__ import annotations

from trainer.descriptions.norms import FP32, NormDescription


class OffsetRmsNorm(NormDescription):
    name = "offset_rmsnorm"
    help = "root mean square 1, then a factor 1 + weight (Gemma, Mesnard et al. 2024)"
    implementation = "trainer.models.norms:make_offset_rms_norm"

    def saved(self, width: int, *, stream: int, fused: bool) -> int:
        """As of RMSNorm: its input and the root; the input in fp32 where it is not fused."""
        return (stream if fused else FP32) * width + FP32
