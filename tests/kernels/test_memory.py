"""How many bytes a forward and backward pass holds, by the allocator's own record: O(S), not O(S^2)."""

from __future__ import annotations

import gc
from collections.abc import Callable
from itertools import accumulate
from typing import Any

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from kernels import T5Bias, attention, linear_cross_entropy

PACKED = {"causal": True, "segments": True, "bias": "t5"}


def allocations(work: Callable[[], Any]) -> list[int]:
    """Bytes of every allocation (positive) and release (negative) during the work, in order, after a warm-up."""
    work()
    gc.collect()  # nothing of the warm-up is released inside the record
    gpu = [ProfilerActivity.CUDA] if torch.cuda.is_available() else []
    with profile(activities=[ProfilerActivity.CPU, *gpu], profile_memory=True) as record:
        work()
    events = [event for event in record.profiler.kineto_results.events() if event.name() == "[memory]"]
    return [event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())]


def peak(sizes: list[int]) -> int:
    return max(accumulate(sizes))


def attention_bytes(length: int, backend: str, device: str, options: dict[str, Any]) -> int:
    q, k, v = (torch.randn(1, length, 1, 16, device=device, requires_grad=True) for _ in range(3))
    arguments = dict(options)
    inputs = [q, k, v]
    if arguments.pop("segments", None):
        arguments["segments"] = torch.arange(length, device=device).div(50, rounding_mode="floor")
    if arguments.get("bias") == "t5":
        table = torch.randn(32, 1, device=device, requires_grad=True)
        arguments["bias"] = T5Bias(table, False)
        inputs.append(table)

    def work() -> None:
        torch.autograd.grad(attention(q, k, v, backend=backend, **arguments).sum(), inputs)

    return peak(allocations(work))


@pytest.mark.parametrize("options", [{"causal": True}, PACKED, {"dropout_p": 0.1, "seed": 1}], ids=str)
def test_attention_is_linear_in_length(options: dict[str, Any], device: str) -> None:
    short, long = (attention_bytes(n, "triton", device, options) for n in (128, 256))
    assert 0 < long <= 2.2 * short


def test_the_instrument_sees_a_square(device: str) -> None:
    """The reference does hold S x S, and the count must show it."""
    short, long = (attention_bytes(n, "reference", device, {"causal": True}) for n in (256, 512))
    assert long > 3 * short


@pytest.mark.parametrize("backend", ["triton", "torch"])
def test_linear_cross_entropy_holds_one_chunk_of_logits(backend: str, device: str) -> None:
    """The largest single allocation is a chunk's logits, however many tokens there are."""
    classes, size, chunk = 1000, 8, 16

    def largest(rows: int, name: str) -> int:
        hidden, weight = (torch.randn(*s, device=device, requires_grad=True) for s in ((rows, size), (classes, size)))
        places = torch.randint(0, classes, (rows,), device=device)

        def work() -> None:
            total = linear_cross_entropy(hidden, weight, places, chunk=chunk, backend=name).total
            torch.autograd.grad(total, (hidden, weight))

        return max(allocations(work))

    bound = 4 * classes * chunk
    assert largest(64, backend) <= bound and largest(256, backend) <= bound
    assert largest(256, "reference") >= 4 * classes * 256
