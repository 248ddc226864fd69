"""Functions for use inside Triton kernels. Importing this imports Triton."""

# Triton's language has no types.
# mypy: disallow-untyped-defs=False
from __future__ import annotations

import triton
import triton.language as tl

LOG2E = tl.constexpr(1.4426950408889634)
LN2 = tl.constexpr(0.6931471805599453)


@triton.jit
def tanh(x):
    """From exp2, because Triton's interpreter has no libdevice; a series near 0, where the quotient cancels."""
    decay = tl.exp2(tl.abs(x) * (-2.0 * LOG2E))
    far = (1.0 - decay) / (1.0 + decay)
    far = tl.where(x < 0, -far, far)
    x2 = x * x
    near = 1.0 + x2 * (-1.0 / 3 + x2 * (2.0 / 15 + x2 * (-17.0 / 315 + x2 * (62.0 / 2835))))
    return tl.where(x2 < 0.0625, x * near, far)
