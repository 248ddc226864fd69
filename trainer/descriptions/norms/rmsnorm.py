"""RMSNorm."""

from __future__ import annotations

from trainer.descriptions.norms import FP32, NormDescription


class RmsNorm(NormDescription):
    name = "rmsnorm"
    help = "root mean square 1, then a weight (Zhang and Sennrich 2019)"
    implementation = "trainer.models.norms:make_rms_norm"

    def saved(self, width: int, *, stream: int, fused: bool) -> int:
        """Its input and the root; where it is not fused, the normalised input too."""
        return FP32 * width * (1 if fused else 2) + FP32
