"""Parts of a longer sequence, told where they begin, attend as they do in it: what ring attention merges."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from kernels import Alibi, KernelInputError, T5Bias, attention

LENGTH, HEADS, SIZE = 26, 4, 16
QUERIES = slice(7, 20)
KEYS = (slice(0, 9), slice(9, 21), slice(21, 26))

CASES: dict[str, Callable[[], dict[str, Any]]] = {
    "causal": lambda: {"causal": True},
    "window": lambda: {"window": (5, 3)},
    "causal window": lambda: {"causal": True, "window": (9, None)},
    "far window": lambda: {"window": (2, 1)},  # some parts see nothing of others, some only beyond one end
    "t5": lambda: {"bias": T5Bias(torch.randn(8, HEADS), num_buckets=8, max_distance=16)},
    "causal t5": lambda: {"causal": True, "bias": T5Bias(torch.randn(8, HEADS), False, 8, 16)},
    "causal alibi": lambda: {"causal": True, "bias": Alibi(torch.rand(HEADS))},
    "dropout": lambda: {"causal": True, "dropout_p": 0.3, "seed": 5},
}
OF_TRITON = ("causal", "window", "causal window", "far window")


def tensors(device: str) -> list[Tensor]:
    torch.manual_seed(0)
    return [torch.randn(2, LENGTH, heads, SIZE, device=device) for heads in (HEADS, 2, 2)]


def part(q: Tensor, k: Tensor, v: Tensor, keys: slice, **arguments: Any) -> tuple[Tensor, Tensor]:
    places = (QUERIES.start, keys.start)
    found = attention(q[:, QUERIES], k[:, keys], v[:, keys], places=places, return_lse=True, **arguments)
    assert isinstance(found, tuple)
    return found


@pytest.mark.parametrize("name", CASES)
def test_parts_merge_to_the_whole(name: str) -> None:
    q, k, v = tensors("cpu")
    arguments = CASES[name]()
    whole = attention(q, k, v, backend="reference", **arguments)
    outs, lses = zip(*(part(q, k, v, keys, backend="reference", **arguments) for keys in KEYS), strict=True)
    weights = torch.stack(lses).softmax(0).nan_to_num()
    merged = sum(out * weight.transpose(1, 2)[..., None] for out, weight in zip(outs, weights, strict=True))
    torch.testing.assert_close(merged, whole[:, QUERIES])  # type: ignore[index]


@pytest.mark.parametrize("name", OF_TRITON)
def test_triton_equals_the_reference_with_gradients(name: str, device: str) -> None:
    arguments = CASES[name]()
    for keys in KEYS:
        results = []
        for backend in ("reference", "triton"):
            inputs = [one.requires_grad_() for one in tensors(device)]
            out, lse = part(*inputs, keys, backend=backend, **arguments)
            pulled = (out * torch.linspace(-1, 1, SIZE, device=device)).sum() + lse.clamp(min=-9).sum()
            results.append([out, lse, *torch.autograd.grad(pulled, inputs)])
        for oracle, got in zip(*results, strict=True):
            torch.testing.assert_close(got, oracle, rtol=1e-4, atol=1e-5)


def test_what_a_backend_lacks_is_refused(device: str) -> None:
    q, k, v = tensors(device)
    with pytest.raises(KernelInputError, match="it has no places"):
        attention(q, k, v, places=(0, 3), backend="sdpa")
    slopes, table = torch.rand(HEADS, device=device), torch.rand(8, HEADS, device=device)
    biases = [{"bias": Alibi(slopes)}, {"bias": T5Bias(table, True, 8, 16)}]
    for more in (*biases, {"dropout_p": 0.5, "seed": 1}):
        with pytest.raises(KernelInputError, match="places"):
            attention(q, k, v, places=(0, 3), backend="triton", **more)
    for wrong in (3, (1,), (0, -1), (0.5, 1)):
        with pytest.raises(KernelInputError, match=r"places is .*, wanted a pair of positions"):
            attention(q, k, v, places=wrong)  # type: ignore[arg-type]
