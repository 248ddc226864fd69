"""What only a GPU can show: the compiled kernels, races, 64-bit offsets over real memory, peak memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attention_cases as cases
import pytest
import torch
import torch.nn.functional as F

from kernels import Dense, T5Bias, attention, linear_cross_entropy, rms_norm, rotary, rotary_tables, swiglu

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"),
]
PAIRWISE = cases.pairwise(cases.FACTORS)


def qkv(length: int, heads: int = 4, dim: int = 64, batch: int = 2) -> list[torch.Tensor]:
    shape = (batch, length, heads, dim)
    return [torch.randn(shape, device="cuda", dtype=torch.bfloat16, requires_grad=True) for _ in range(3)]


@pytest.mark.parametrize("case", PAIRWISE, ids=lambda case: f"{PAIRWISE.index(case):02d}")
def test_features_meet_in_pairs_at_real_sizes(case: dict[str, Any]) -> None:
    longer = {(48, 48): (512, 512), (33, 70): (300, 515), (70, 33): (515, 300), (1, 65): (1, 1000)}
    cases.run(case | {"lengths": longer[case["lengths"]]}, "cuda")


@pytest.mark.parametrize("head_dim", [64, 80, 96, 128, 192, 256])
def test_head_sizes(head_dim: int) -> None:
    plain = dict.fromkeys(cases.FACTORS) | {"softcap": 0.0, "dropout_p": 0.0, "layout": "dense", "causal": True}
    for dtype in (torch.bfloat16, torch.float32):
        cases.run(plain | {"dtype": dtype, "lengths": (333, 333), "heads": (4, 2), "head_dim": head_dim}, "cuda")


def repeats(work: Callable[[], list[torch.Tensor]], times: int = 20) -> None:
    first = work()
    for _ in range(times - 1):
        assert all(torch.equal(a, b) for a, b in zip(first, work(), strict=True))


@pytest.mark.parametrize("name", ["causal", "packed T5", "dropout", "order", "dense", "softcap sink window"])
def test_attention_repeats_bit_for_bit(name: str) -> None:
    q, k, v = qkv(1024)
    table = torch.randn(32, 4, device="cuda", requires_grad=True)
    dense = torch.randn(1, 4, 1024, 1024, device="cuda", dtype=torch.bfloat16, requires_grad=True)
    sink = torch.randn(4, device="cuda", requires_grad=True)
    segments = torch.sort(torch.randint(0, 5, (2, 1024), device="cuda"), dim=1).values
    options: dict[str, dict[str, Any]] = {
        "causal": {"causal": True},
        "packed T5": {"bias": T5Bias(table), "segments": segments},
        "dropout": {"dropout_p": 0.1, "seed": 7},
        "order": {"order": torch.randperm(1024, device="cuda"), "strict": True},
        "dense": {"bias": Dense(dense)},
        "softcap sink window": {"softcap": 20.0, "sink": sink, "window": (100, 20)},
    }
    leaves = {"packed T5": [table], "dense": [dense], "softcap sink window": [sink]}.get(name, [])
    dout = torch.randn_like(q)

    def work() -> list[torch.Tensor]:
        out = attention(q, k, v, backend="triton", **options[name])
        return [out, *torch.autograd.grad(out, [q, k, v, *leaves], dout)]

    repeats(work)


def test_the_rest_of_the_step_repeats_bit_for_bit() -> None:
    x = torch.randn(2000, 512, device="cuda", dtype=torch.bfloat16, requires_grad=True)
    weight = torch.randn(512, device="cuda", requires_grad=True)
    matrix = torch.randn(5000, 512, device="cuda", dtype=torch.bfloat16, requires_grad=True)
    places = torch.randint(0, 5000, (2000,), device="cuda")
    cos, sin = rotary_tables(torch.arange(100, device="cuda"), 64)

    def work() -> list[torch.Tensor]:
        y = rms_norm(x, weight, backend="triton")
        y = rotary(y.view(20, 100, 8, 64), cos, sin, backend="triton").reshape(2000, 512)
        y = swiglu(y, x, backend="triton")
        sums = linear_cross_entropy(y, matrix, places, backend="triton")
        return [sums.total, *torch.autograd.grad(sums.total, [x, weight, matrix])]

    repeats(work)


def test_agrees_with_flash_attention_at_length() -> None:
    q, k, v = qkv(8192, batch=1)
    dout = torch.randn_like(q)
    ours = attention(q, k, v, causal=True, backend="triton")
    theirs = F.scaled_dot_product_attention(*(x.transpose(1, 2) for x in (q, k, v)), is_causal=True).transpose(1, 2)
    torch.testing.assert_close(ours, theirs, rtol=2e-2, atol=2e-2)
    for a, b in zip(*(torch.autograd.grad(out, (q, k, v), dout) for out in (ours, theirs)), strict=True):
        torch.testing.assert_close(a, b, rtol=5e-2, atol=5e-2)


def test_tensors_of_more_than_2_to_31_elements() -> None:
    if torch.cuda.get_device_properties(0).total_memory < 60e9:
        pytest.skip("needs 60 GB")
    batch, length, heads, dim = 33, 16384, 32, 128  # 2.2e9 elements
    q = torch.randn(batch, length, heads, dim, device="cuda", dtype=torch.bfloat16)
    out = attention(q, q, q, window=(64, 0), backend="triton")
    last = q[-1:]
    torch.testing.assert_close(out[-1:], attention(last, last, last, window=(64, 0), backend="triton"))


def test_peak_memory_is_linear() -> None:
    peaks = []
    for length in (4096, 8192):
        q, k, v = qkv(length, batch=1)
        table = torch.randn(32, 4, device="cuda", requires_grad=True)
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        out = attention(q, k, v, bias=T5Bias(table), backend="triton")
        torch.autograd.grad(out, (q, k, v, table), torch.randn_like(out))
        peaks.append(torch.cuda.max_memory_allocated() - before)
        del out
    assert peaks[1] <= 2.2 * peaks[0]


def test_the_loss_at_an_odd_vocabulary() -> None:
    """GPT-2's 50,257 columns, padded, in four chunks whose parts of the matrix's gradient are added up in float32."""
    hidden = torch.randn(2048, 256, device="cuda").bfloat16().requires_grad_()
    weight = torch.randn(50257, 256, device="cuda").mul_(0.1).requires_grad_()
    places = torch.randint(0, 50257, (2048,), device="cuda")
    total = linear_cross_entropy(hidden, weight, places, chunk=512, backend="triton").total
    wide = [one.detach().bfloat16().double().requires_grad_() for one in (hidden, weight)]
    oracle = F.cross_entropy(wide[0] @ wide[1].t(), places, reduction="sum")
    torch.testing.assert_close(total.double(), oracle, rtol=1e-4, atol=0)
    gradients = (torch.autograd.grad(x, y) for x, y in ((total, (hidden, weight)), (oracle, wide)))
    for a, b in zip(*gradients, strict=True):
        assert (a.double() - b).norm() <= 1e-2 * b.norm()
