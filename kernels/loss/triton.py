"""Cross-entropy of whole logits, one row a program: losses and, in a second pass, the gradient. Imports Triton."""

# Triton's language has no types.
# mypy: disallow-untyped-defs=False
from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels.backends import on_device
from kernels.device import LN2, LOG2E, tanh
from kernels.loss.reference import LossOptions

BLOCK = 4096


@triton.jit
def row_loss(
    logits_ptr, targets_ptr, total_ptr, plain_ptr, squared_ptr, gradient_ptr, upstream_ptr, stride_logits,
    stride_gradient, columns, ignore_index, smoothing, z_loss, softcap,
    SOFTCAP: tl.constexpr, GRADIENT: tl.constexpr, UPSTREAM: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Grid: rows. gradient may be the logits themselves: a row is read to its end before it is written.

    With p the softmax: d total / d score = p * (1 + 2 z_loss lse) - (1 - e) [target] - e / V.
    """
    row = tl.program_id(0).to(tl.int64)
    target = tl.load(targets_ptr + row).to(tl.int32)
    logits_ptr += row * stride_logits
    peak = float("-inf")
    weight = 0.0
    sum_scores = 0.0
    for first in range(0, columns, BLOCK):
        col = first + tl.arange(0, BLOCK)
        inside = col < columns
        scores = tl.load(logits_ptr + col, mask=inside, other=float("-inf")).to(tl.float32)
        if SOFTCAP:
            scores = tl.where(inside, softcap * tanh(scores / softcap), float("-inf"))
        new_peak = tl.maximum(peak, tl.max(scores, 0))
        weight = weight * tl.exp2((peak - new_peak) * LOG2E) + tl.sum(tl.exp2((scores - new_peak) * LOG2E), 0)
        sum_scores += tl.sum(tl.where(inside, scores, 0.0), 0)
        peak = new_peak
    lse = peak + tl.log2(weight) * LN2

    counts = target != ignore_index
    chosen = tl.load(logits_ptr + tl.where(counts, target, 0)).to(tl.float32)
    if SOFTCAP:
        chosen = softcap * tanh(chosen / softcap)
    plain = lse - chosen
    squared = z_loss * lse * lse
    total = (1.0 - smoothing) * plain + smoothing * (lse - sum_scores / columns) + squared
    tl.store(total_ptr + row, tl.where(counts, total, 0.0))
    tl.store(plain_ptr + row, tl.where(counts, plain, 0.0))
    tl.store(squared_ptr + row, tl.where(counts, squared, 0.0))

    if GRADIENT:
        factor = tl.where(counts, 1.0, 0.0)
        if UPSTREAM:
            factor *= tl.load(upstream_ptr)
        for first in range(0, columns, BLOCK):
            col = first + tl.arange(0, BLOCK)
            inside = col < columns
            scores = tl.load(logits_ptr + col, mask=inside, other=0.0).to(tl.float32)
            slope = 1.0
            if SOFTCAP:
                turn = tanh(scores / softcap)
                scores = softcap * turn
                slope = 1.0 - turn * turn
            gradient = tl.exp2((scores - lse) * LOG2E) * (1.0 + 2.0 * z_loss * lse) - smoothing / columns
            gradient = tl.where(col == target, gradient - (1.0 - smoothing), gradient) * slope * factor
            place = gradient_ptr + row * stride_gradient + col
            tl.store(place, gradient.to(gradient_ptr.dtype.element_ty), mask=inside)


def triton_loss(
    logits: Tensor, targets: Tensor, options: LossOptions, gradient: Tensor | None, upstream: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Sums like `reference_loss`, float32; writes the gradient of the total, times upstream, where one is given.

    logits: [N, V] with neighbouring columns; gradient: the same shape, possibly the same tensor.
    """
    rows, columns = logits.shape
    losses = torch.empty((3, rows), dtype=torch.float32, device=logits.device)
    if rows:
        with on_device(logits):
            row_loss[(rows,)](
                logits, targets, losses[0], losses[1], losses[2], gradient, upstream, logits.stride(0),
                0 if gradient is None else gradient.stride(0), columns, options.ignore_index, options.label_smoothing,
                options.z_loss, options.softcap,
                SOFTCAP=options.softcap > 0.0, GRADIENT=gradient is not None, UPSTREAM=upstream is not None,
                BLOCK=min(BLOCK, max(16, triton.next_power_of_2(columns))), num_warps=8,
            )  # fmt: skip
    sums = losses.sum(1)
    return sums[0], sums[1], sums[2]
