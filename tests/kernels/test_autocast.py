"""Every kernel under autocast, forward and backward: products are cast, all else keeps its dtypes; never a half-way
mixture. The truth is the same call outside of autocast with the casts written out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from kernels import (
    Dense,
    T5Bias,
    attention,
    cross_entropy,
    dropout,
    geglu,
    grouped_linear,
    layer_norm,
    linear_cross_entropy,
    prepare_mask,
    rms_norm,
    rotary,
    rotary_tables,
    swiglu,
)
from kernels.errors import KernelInputError

FP32, BF16, FP16, FP64 = torch.float32, torch.bfloat16, torch.float16, torch.float64
PAIRS = ((FP32, FP32), (BF16, FP32), (FP32, FP16), (FP16, BF16))
ALL, TWO = ("triton", "torch", "reference"), ("torch", "reference")


def same_with_casts_written_out(
    function: Callable[..., Any], leaves: list[Tensor], amp: torch.dtype, device: str, cast: Sequence[int] = ()
) -> None:
    """cast: numbers of the leaves that autocast casts. The backward pass is outside, where PyTorch wants it."""

    def with_gradients(found: Any) -> list[Tensor]:
        found = found if isinstance(found, tuple) else (found,)
        total = sum(one.double().square().sum() for one in found)
        return [*found, *torch.autograd.grad(total, leaves)]

    with torch.autocast(device, dtype=amp):
        ours = function(*leaves)
    oracle = function(*(one.to(amp) if place in cast else one for place, one in enumerate(leaves)))
    for a, b in zip(with_gradients(ours), with_gradients(oracle), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)
        assert a.isfinite().all()


def leaf(*shape: int, dtype: torch.dtype, device: str) -> Tensor:
    return torch.randn(*shape, device=device).to(dtype).requires_grad_()


@pytest.mark.parametrize("amp", [BF16, FP16], ids=str)
@pytest.mark.parametrize("backend", ALL)
def test_losses(backend: str, amp: torch.dtype, device: str) -> None:
    places = torch.randint(0, 12, (2, 4), device=device)

    def fused(hidden: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return linear_cross_entropy(hidden, weight, places, bias=bias, z_loss=0.1, backend=backend).total

    def alone(logits: Tensor) -> Tensor:
        return cross_entropy(logits, places, label_smoothing=0.1, backend=backend).total

    for first, second in PAIRS:
        leaves = [leaf(2, 4, 8, dtype=first, device=device), leaf(12, 8, dtype=second, device=device)]
        leaves.append(leaf(12, dtype=second, device=device))
        same_with_casts_written_out(fused, leaves, amp, device, cast=[0])
        same_with_casts_written_out(alone, [leaf(2, 4, 12, dtype=first, device=device)], amp, device)


@pytest.mark.parametrize("amp", [BF16, FP16], ids=str)
@pytest.mark.parametrize("backend", ALL)
@pytest.mark.parametrize(("first", "second"), PAIRS, ids=str)
def test_elementwise_kernels(
    first: torch.dtype, second: torch.dtype, backend: str, amp: torch.dtype, device: str
) -> None:
    cos, sin = (table.to(second) for table in rotary_tables(torch.arange(4, device=device), 8))

    def new(*shape: int, dtype: torch.dtype = first) -> Tensor:
        return leaf(*shape, dtype=dtype, device=device)

    cases: list[tuple[Callable[..., Any], list[Tensor]]] = [
        (lambda x, w, r: rms_norm(x, w, residual=r, backend=backend), [new(4, 8), new(8), new(4, 8, dtype=second)]),
        (lambda x, w, b: layer_norm(x, w, b, backend=backend), [new(4, 8), new(8, dtype=second), new(8)]),
        (lambda x: rotary(x, cos, sin, backend=backend), [new(2, 4, 2, 8)]),
        (lambda x: dropout(x, 0.3, seed=1, backend=backend), [new(4, 8)]),
        (lambda a, b: swiglu(a, b, backend=backend), [new(4, 8), new(4, 8)]),
        (lambda a, b: geglu(a, b, approximate=True, backend=backend), [new(4, 8), new(4, 8)]),
    ]
    for function, leaves in cases:
        same_with_casts_written_out(function, leaves, amp, device)
    if first != second:
        with torch.autocast(device, dtype=amp), pytest.raises(KernelInputError, match="like gate"):
            swiglu(new(4, 8), new(4, 8, dtype=second), backend=backend)


@pytest.mark.parametrize("amp", [BF16, FP16], ids=str)
@pytest.mark.parametrize("backend", TWO)
def test_grouped_linear(backend: str, amp: torch.dtype, device: str) -> None:
    ends = torch.tensor([2, 5], device=device)
    for first, second in PAIRS:
        leaves = [leaf(6, 8, dtype=first, device=device), leaf(2, 16, 8, dtype=second, device=device)]
        same_with_casts_written_out(
            lambda x, w: grouped_linear(x, w, ends, backend=backend), leaves, amp, device, cast=[0, 1]
        )


@pytest.mark.parametrize("amp", [BF16, FP16], ids=str)
@pytest.mark.parametrize("backend", ["triton", "sdpa", "reference"])
def test_attention(backend: str, amp: torch.dtype, device: str) -> None:
    """As PyTorch's own attention: q, k and v are cast, whatever they are; what is added to scores keeps its dtype."""
    for first, second in PAIRS:

        def plain(q: Tensor, k: Tensor, v: Tensor) -> Any:
            return attention(q, k, v, causal=True, backend=backend)

        def dense(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Any:
            return attention(q, k, v, bias=Dense(bias), backend=backend)

        def table(q: Tensor, k: Tensor, v: Tensor, table: Tensor) -> Any:
            mask = prepare_mask(4, device=device, dtype=q.dtype, bias=T5Bias(table, True), backend=backend)
            return attention(q, k, v, mask=mask, backend=backend)

        more = {
            plain: [],
            dense: [leaf(1, 2, 4, 4, dtype=second, device=device)],
            table: [leaf(32, 2, dtype=second, device=device)],
        }
        for function, others in more.items():
            leaves = [leaf(2, 4, 2, 8, dtype=kind, device=device) for kind in (first, second, first)]
            same_with_casts_written_out(function, [*leaves, *others], amp, device, cast=range(3))


def test_attention_without_autocast_wants_one_dtype(device: str) -> None:
    q, k = leaf(1, 4, 2, 8, dtype=FP32, device=device), leaf(1, 4, 2, 8, dtype=BF16, device=device)
    with pytest.raises(KernelInputError, match=r"k is torch\.bfloat16, wanted torch\.float32"):
        attention(q, k, k)


def test_float64_is_left_alone(device: str) -> None:
    """As by PyTorch's own products and attention."""
    q = leaf(1, 4, 2, 8, dtype=FP64, device=device)
    x, weights = leaf(4, 8, dtype=FP64, device=device), leaf(2, 8, 8, dtype=FP64, device=device)
    with torch.autocast(device, dtype=BF16):
        assert attention(q, q, q, backend="reference").dtype == FP64
        assert grouped_linear(x, weights, torch.tensor([1, 4], device=device)).dtype == FP64
        places = torch.zeros(4, dtype=torch.int64, device=device)
        assert linear_cross_entropy(x, weights[0], places, backend="torch").total.dtype == FP64


def test_a_mask_prepared_outside_is_refused_by_name(device: str) -> None:
    table, q = leaf(32, 2, dtype=FP32, device=device), leaf(1, 4, 2, 8, dtype=FP32, device=device)
    mask = prepare_mask(4, device=device, bias=T5Bias(table, True), backend="sdpa")
    with (
        torch.autocast(device, dtype=BF16),
        pytest.raises(KernelInputError, match=r"prepared for torch\.float32, wanted torch\.bfloat16"),
    ):
        attention(q, q, q, mask=mask, backend="sdpa")


def test_a_backward_pass_inside(device: str) -> None:
    """A forward pass outside of autocast and its backward pass inside give what both outside give."""
    x, weights = leaf(6, 8, dtype=FP32, device=device), leaf(2, 16, 8, dtype=FP32, device=device)
    logits, places = leaf(5, 12, dtype=FP32, device=device), torch.randint(0, 12, (5,), device=device)

    def loss() -> Tensor:
        grouped = grouped_linear(x, weights, torch.tensor([2, 5], device=device))
        return grouped.square().sum() + cross_entropy(logits, places, backend="torch").total

    oracle = torch.autograd.grad(loss(), (x, weights, logits))
    total = loss()
    with torch.autocast(device, dtype=BF16):
        ours = torch.autograd.grad(total, (x, weights, logits))
    torch.testing.assert_close(ours, oracle, rtol=0, atol=0)
