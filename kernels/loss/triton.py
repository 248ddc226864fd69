"""Cross-entropy of whole logits, one row a program: losses and, in a second pass, the gradient. Imports Triton."""

# Triton's language has no types.
# mypy: disallow-untyped-defs=False
from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from kernels.device import LN2, LOG2E, tanh
from kernels.launcher import launch
from kernels.loss.reference import LossOptions

BLOCK = 4096


@triton.jit
def row_loss(
    logits_ptr, targets_ptr, losses_ptr, gradient_ptr, upstream_ptr, stride_logits, stride_losses, stride_gradient,
    classes, columns, ignore_index, smoothing, z_loss, softcap,
    SMOOTHING: tl.constexpr, Z_LOSS: tl.constexpr, SOFTCAP: tl.constexpr, GRADIENT: tl.constexpr,
    UPSTREAM: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Grid: rows. gradient may be the logits themselves: a row is read to its end before it is written.

    With p the softmax: d total / d score = p * (1 + 2 z_loss lse) - (1 - e) [target] - e / V. What an option adds is
    left out without it, as 0 times the infinity of a score would be nan.
    """
    row = tl.program_id(0).to(tl.int64)
    target = tl.load(targets_ptr + row).to(tl.int32)
    logits_ptr += row * stride_logits
    peak = float("-inf")
    weight = 0.0
    sum_scores = 0.0
    for first in range(0, classes, BLOCK):
        col = first + tl.arange(0, BLOCK)
        inside = col < classes
        scores = tl.load(logits_ptr + col, mask=inside, other=float("-inf")).to(tl.float32)
        if SOFTCAP:
            scores = tl.where(inside, softcap * tanh(scores / softcap), float("-inf"))
        new_peak = tl.maximum(peak, tl.max(scores, 0))
        shift = tl.where(new_peak == float("-inf"), 0.0, new_peak)  # nothing but -inf so far
        weight = weight * tl.exp2((peak - shift) * LOG2E) + tl.sum(tl.exp2((scores - shift) * LOG2E), 0)
        if SMOOTHING:
            sum_scores += tl.sum(tl.where(inside, scores, 0.0), 0)
        peak = new_peak
    lse = peak + tl.log2(weight) * LN2

    counts = target != ignore_index
    chosen = tl.load(logits_ptr + tl.where(counts, target, 0)).to(tl.float32)
    if SOFTCAP:
        chosen = softcap * tanh(chosen / softcap)
    plain = lse - chosen
    total = plain
    if SMOOTHING:
        total = (1.0 - smoothing) * plain + smoothing * (lse - sum_scores / classes)
    squared = 0.0
    if Z_LOSS:
        squared = z_loss * lse * lse
        total += squared
    losses_ptr += row
    tl.store(losses_ptr, tl.where(counts, total, 0.0))
    tl.store(losses_ptr + stride_losses, tl.where(counts, plain, 0.0))
    tl.store(losses_ptr + 2 * stride_losses, tl.where(counts, squared, 0.0))

    if GRADIENT:
        factor = 1.0
        if UPSTREAM:
            factor = tl.load(upstream_ptr).to(tl.float32)
        for first in range(0, columns, BLOCK):
            col = first + tl.arange(0, BLOCK)
            scores = tl.load(logits_ptr + col, mask=col < classes, other=0.0).to(tl.float32)
            slope = factor
            if SOFTCAP:
                turn = tanh(scores / softcap)
                scores = softcap * turn
                slope = factor * (1.0 - turn * turn)
            gradient = tl.exp2((scores - lse) * LOG2E)
            if Z_LOSS:
                gradient *= 1.0 + 2.0 * z_loss * lse
            share = 1.0
            if SMOOTHING:
                gradient -= smoothing / classes
                share = 1.0 - smoothing
            gradient = tl.where(col == target, gradient - share, gradient) * slope
            gradient = tl.where(counts & (col < classes), gradient, 0.0)
            place = gradient_ptr + row * stride_gradient + col
            tl.store(place, gradient.to(gradient_ptr.dtype.element_ty), mask=col < columns)


def triton_loss(
    logits: Tensor,
    targets: Tensor,
    options: LossOptions,
    losses: Tensor,
    gradient: Tensor | None,
    upstream: Tensor | None = None,
) -> None:
    """Writes into losses [3, N] what `reference_loss` sums up, 0 for what does not count, and into the gradient that of
    the total, times upstream, where one is given.

    logits: [N, V] with neighbouring columns. losses: float32, with neighbouring columns. gradient: [N, V or more], 0 in
    the columns from V on; its first V may be the logits themselves.
    """
    rows, classes = logits.shape
    columns = classes if gradient is None else gradient.shape[1]
    launch(
        row_loss,
        rows,
        (
            logits, targets, losses, gradient, upstream, logits.stride(0), losses.stride(0),
            0 if gradient is None else gradient.stride(0), classes, columns, options.ignore_index,
            options.label_smoothing, options.z_loss, options.softcap,
        ),
        {
            "SMOOTHING": options.label_smoothing > 0.0, "Z_LOSS": options.z_loss > 0.0,
            "SOFTCAP": options.softcap > 0.0, "GRADIENT": gradient is not None, "UPSTREAM": upstream is not None,
            "BLOCK": min(BLOCK, max(16, triton.next_power_of_2(columns))),
        },
        logits,
        warps=8,
    )  # fmt: skip
