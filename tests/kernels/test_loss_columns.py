"""Logits that are minus infinity, columns that are added for alignment, and how the fused loss divides its work."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import two_times
from test_loss import OPTIONS
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from kernels import cross_entropy, linear_cross_entropy, padded_linear
from kernels.errors import KernelInputError
from kernels.loss import op
from kernels.loss.chunks import LOGITS_BYTES, padded_columns, rows_per_chunk
from kernels.loss.eager import eager_loss
from kernels.loss.reference import LossOptions, reference_loss

INF = float("inf")


def compute(backend: str) -> Callable[..., None]:
    if backend == "torch":
        return eager_loss
    from kernels.loss.triton import triton_loss

    return triton_loss


@pytest.mark.parametrize("backend", ["triton", "torch", "reference"])
@pytest.mark.parametrize("softcap", [0.0, 5.0])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_minus_infinity_as_in_torch(backend: str, smoothing: float, softcap: float, device: str) -> None:
    """Another logit, the target, the first 4,500 of a row (more than the kernel reads at a time), a whole row."""
    logits = torch.randn(4, 5000, device=device)
    places = torch.tensor([4600, 4700, 4800, 4900], device=device)
    logits[0, 17] = logits[1, 4700] = logits[2, :4500] = logits[3] = -INF
    for row in range(4):
        ours, theirs = (logits[row : row + 1].clone().requires_grad_() for _ in range(2))
        place = places[row : row + 1]
        sums = cross_entropy(ours, place, label_smoothing=smoothing, softcap=softcap, backend=backend)
        scores = softcap * torch.tanh(theirs / softcap) if softcap else theirs
        wanted = F.cross_entropy(scores, place, label_smoothing=smoothing)
        torch.testing.assert_close(sums.total, wanted, equal_nan=True)
        torch.testing.assert_close(sums.plain, F.cross_entropy(scores, place).detach(), equal_nan=True)
        assert sums.z == 0
        for a, b in zip(*(torch.autograd.grad(x, y) for x, y in ((sums.total, ours), (wanted, theirs))), strict=True):
            torch.testing.assert_close(a, b, equal_nan=True)


@pytest.mark.parametrize("backend", ["triton", "torch", "reference"])
def test_a_row_that_does_not_count_may_hold_anything(backend: str, device: str) -> None:
    logits = torch.randn(3, 40, device=device)
    logits[1] = -INF
    logits.requires_grad_()
    places = torch.tensor([3, -100, 5], device=device)
    options = {"label_smoothing": 0.1, "z_loss": 0.01, "backend": backend}
    sums, without = cross_entropy(logits, places, **options), cross_entropy(logits[::2], places[::2], **options)
    for a, b in zip(sums, without, strict=True):
        torch.testing.assert_close(a, b)
    (gradient,) = torch.autograd.grad(sums.total, logits)
    assert gradient.isfinite().all() and (gradient[1] == 0).all()


@pytest.mark.parametrize("backend", ["triton", "torch"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_padded_columns_change_nothing(backend: str, dtype: torch.dtype, options: dict[str, Any], device: str) -> None:
    rows, classes, size = 13, 33, 16
    hidden = torch.randn(rows, size, device=device).to(dtype).requires_grad_()
    weight = (torch.randn(classes, size, device=device) / 2).requires_grad_()
    bias = torch.randn(classes, device=device, requires_grad=True)
    places = torch.randint(0, classes, (rows,), device=device)
    inputs = [hidden, weight, bias]
    wide = [one.detach().to(dtype).double().requires_grad_() for one in inputs]
    spec = LossOptions(**options)

    def results(sums: Any, leaves: list[Tensor]) -> list[Tensor]:
        return [sums[0], sums[1], sums[2], *torch.autograd.grad(sums[0], leaves)]

    def padded(backend: str, pad_to: int) -> list[Tensor]:
        sums = linear_cross_entropy(
            hidden, weight, places, bias=bias, chunk=5, pad_to=pad_to, backend=backend, **options
        )
        return results(sums, inputs)

    peers = results(reference_loss(hidden @ weight.to(dtype).t() + bias.to(dtype), places, spec, dtype), inputs)
    oracles = results(reference_loss(wide[0] @ wide[1].t() + wide[2], places, spec), wide)
    names = ["total", "plain", "z", "dhidden", "dweight", "dbias"]
    for pad_to in (1, 64):
        two_times.check(names, padded(backend, pad_to), peers, oracles, dtype)


@pytest.mark.parametrize("backend", ["triton", "torch"])
def test_padded_columns_get_no_gradient_whatever_they_hold(backend: str, device: str) -> None:
    logits = torch.full((4, 48), INF, device=device)
    logits[:, :33] = torch.randn(4, 33, device=device)
    places, losses = torch.tensor([1, 2, -100, 32], device=device), torch.empty(3, 4, device=device)
    gradient = torch.full_like(logits, torch.nan)
    compute(backend)(logits[:, :33], places, LossOptions(label_smoothing=0.1), losses, gradient)
    assert (gradient[:, 33:] == 0).all() and gradient.isfinite().all()
    torch.testing.assert_close(gradient[:, :33].sum(1), torch.zeros(4, device=device))
    wanted = F.cross_entropy(logits[:, :33], places, label_smoothing=0.1, reduction="none")
    torch.testing.assert_close(losses[0], wanted)


@pytest.mark.parametrize("amp", [False, True])
def test_padded_linear_is_linear(amp: bool, device: str) -> None:
    x, weight = torch.randn(2, 3, 8, device=device), torch.randn(33, 8, device=device)
    inputs = [one.requires_grad_() for one in (x, weight, torch.randn(33, device=device))]
    with torch.autocast(device, dtype=torch.bfloat16, enabled=amp):
        ours, theirs = padded_linear(*inputs, pad_to=64), F.linear(*inputs)
    assert ours.dtype == theirs.dtype and ours.stride(1) == 64 and theirs.stride(1) == 33
    torch.testing.assert_close(ours, theirs)
    for a, b in zip(*(torch.autograd.grad(y.float().square().sum(), inputs) for y in (ours, theirs)), strict=True):
        torch.testing.assert_close(a, b)


def test_columns_are_refused_by_name(device: str) -> None:
    x, places = torch.zeros(2, 8, device=device), torch.zeros(2, dtype=torch.int64, device=device)
    with pytest.raises(KernelInputError, match="pad_to is 0, wanted a number of columns >= 1"):
        linear_cross_entropy(x, torch.zeros(9, 8, device=device), places, pad_to=0)


def test_columns_of_two_bytes_on_a_gpu_are_a_multiple_of_64() -> None:
    assert padded_columns(50257, 2, "cuda") == 50304
    assert padded_columns(50304, 2, "cuda") == 50304
    assert padded_columns(50257, 4, "cuda") == padded_columns(50257, 2, "cpu") == 50257
    assert padded_columns(33, 4, "cpu", pad_to=16) == 48


@pytest.mark.parametrize("device_type", ["cuda", "cpu"])
@pytest.mark.parametrize("rows", [1, 100, 128, 1024, 16384, 65536])
@pytest.mark.parametrize("columns", [300, 2048, 50304, 256000])
def test_a_chunk_is_bounded(device_type: str, rows: int, columns: int) -> None:
    size = rows_per_chunk(rows, columns, 2, device_type)
    assert 1 <= size <= rows
    assert size == min(128, rows) or 2 * size * columns <= LOGITS_BYTES[device_type]
    assert size <= max(4096 if device_type == "cuda" else 128, rows // 4)


def test_chunks_of_gpt2_on_a_gpu_are_of_4096_tokens() -> None:
    assert rows_per_chunk(12 * 1024, 50304, 2, "cuda") == 4096
    assert rows_per_chunk(12 * 1024, 50304, 2, "cpu") == 2048


@pytest.mark.parametrize("wide", [False, True])
def test_the_gradient_of_the_matrix_is_added_up_in_float32(wide: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a product that adds to float32 where PyTorch has one (CUDA; here a stand-in), else product by product."""
    addmm = torch.addmm

    def adds_wide(total: Tensor, a: Tensor, b: Tensor, *, out_dtype: torch.dtype, beta: int, out: Tensor) -> Tensor:
        assert out_dtype == total.dtype == torch.float32 and out is total and a.dtype == torch.bfloat16
        return addmm(total, a.float(), b.float(), beta=beta, out=out)

    monkeypatch.setattr(op, "_adds_wide", lambda *_: wide)
    if wide:
        monkeypatch.setattr(torch, "addmm", adds_wide)
    parts = [(torch.randn(6, 4).bfloat16(), torch.randn(4, 5).bfloat16()) for _ in range(3)]
    total = torch.full((6, 5), torch.nan)  # what is there before the first counts for nothing
    for number, (a, b) in enumerate(parts):
        op._add_product(total, a, b, first=number == 0)
    oracle = sum(a.double() @ b.double() for a, b in parts)
    largest = max((a.double() @ b.double()).abs().max().item() for a, b in parts)
    error = (total.double() - oracle).abs().max().item()
    assert error <= (1e-6 if wide else 3 * 2**-8 * largest)


def test_a_chunk_is_three_products_and_a_kernel(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing small between them: what a chunk adds to the operators that PyTorch's profiler sees, views aside."""
    from kernels.loss import triton as loss

    class Nothing:
        def __getitem__(self, grid: object) -> Callable[..., None]:
            return lambda *_, **__: None

    monkeypatch.setattr(loss, "row_loss", Nothing())
    weight = torch.randn(33, 16, device=device, requires_grad=True)
    no_work = {f"aten::{name}" for name in ("slice", "t", "transpose", "as_strided", "alias", "resolve_conj")}

    def operators(rows: int) -> Counter[str]:
        hidden, places = torch.randn(rows, 16, device=device), torch.zeros(rows, dtype=torch.int64, device=device)

        def work() -> None:
            linear_cross_entropy(hidden, weight, places, chunk=8, backend="triton")

        work()
        with profile(activities=[ProfilerActivity.CPU]) as record:
            work()
        return Counter(e.name for e in record.events() if e.name.startswith("aten::") and e.name not in no_work)

    assert operators(32) - operators(24) == {"aten::mm": 2, "aten::addmm": 1}
