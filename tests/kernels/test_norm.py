"""RMSNorm and LayerNorm: every backend against float64 by the two-times rule, with every gradient."""

from __future__ import annotations

from itertools import product

import pytest
import torch
import two_times

from kernels import layer_norm, rms_norm
from kernels.norm.reference import reference_norm

DTYPES = (torch.float32, torch.bfloat16, torch.float16)


@pytest.mark.parametrize("backend", ["triton", "torch", "reference"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("center", [False, True])
def test_values_and_gradients(backend: str, dtype: torch.dtype, residual: bool, center: bool, device: str) -> None:
    for shape in ((7, 96), (2, 3, 65), (1, 1), (700, 8)):
        columns = shape[-1]
        if columns == 1 and center:
            continue
        if backend == "torch" and dtype != torch.float32 and shape[0] > 100:
            continue  # PyTorch's own layer_norm adds up the gradient of the weight in half precision on the CPU
        x = torch.randn(*shape, device=device).to(dtype).transpose(0, -2).contiguous().transpose(0, -2).requires_grad_()
        other = (3 + torch.randn(shape, device=device)).to(dtype).requires_grad_() if residual else None
        weight = torch.randn(columns, device=device, requires_grad=True)
        bias = torch.randn(columns, device=device, requires_grad=True) if center else None
        inputs = [t for t in (x, other, weight, bias) if t is not None]
        pull = [torch.randn(shape, dtype=torch.float64, device=device) for _ in range(2)]

        def results(out, total, leaves, pull=pull):
            loss = (out.double() * pull[0]).sum()
            if residual:
                loss = loss + (total.double() * pull[1]).sum()
            return [out, *([total] if residual else []), *torch.autograd.grad(loss, leaves)]

        if center:
            got = layer_norm(x, weight, bias, residual=other, backend=backend)
        else:
            got = rms_norm(x, weight, residual=other, backend=backend)
        ours = results(*(got if residual else (got, None)), inputs)
        eps = 1e-5 if center else 1e-6
        peers = results(*reference_norm(x, other, weight, bias, eps, center, compute_dtype=dtype), inputs)
        wide = [t.detach().double().requires_grad_() for t in inputs]
        named = iter(wide)
        wide_x, wide_other = next(named), next(named) if residual else None
        wide_weight, wide_bias = next(named), next(named) if center else None
        oracles = results(*reference_norm(wide_x, wide_other, wide_weight, wide_bias, eps, center), wide)
        names = ["out", *(["total"] if residual else []), *(f"gradient {i}" for i in range(len(inputs)))]
        two_times.check(names, ours, peers, oracles, dtype)


@pytest.mark.parametrize("backend", ["triton", "torch", "reference"])
@pytest.mark.parametrize("narrow", ["x", "residual"])
def test_sum_of_two_dtypes(backend: str, narrow: str, device: str) -> None:
    """As PyTorch adds them: the bfloat16 half is not worth less for its partner, and the sum is not rounded to it."""
    inputs = {name: torch.randn(5, 24, device=device) for name in ("x", "residual")}
    inputs[narrow] = inputs[narrow].bfloat16()
    x, residual = (inputs[name].requires_grad_() for name in ("x", "residual"))
    weight, pull = torch.randn(24, device=device), torch.randn(2, 5, 24, device=device)

    def results(x, residual, backend):
        out, total = rms_norm(x, weight, residual=residual, backend=backend)
        return [out, total, *torch.autograd.grad((out * pull[0] + total * pull[1]).sum(), (x, residual))]

    ours = results(x, residual, backend)
    wide = results(*(t.detach().float().requires_grad_() for t in (x, residual)), "reference")
    assert [t.dtype for t in ours] == [torch.float32, torch.float32, x.dtype, residual.dtype]
    for got, wanted in zip(ours, wide, strict=True):
        torch.testing.assert_close(
            got, wanted.to(got.dtype), rtol=1e-2 if got.dtype == torch.bfloat16 else 1e-5, atol=1e-5
        )


def test_partial_sums_are_the_same_in_any_grid(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from kernels.norm import triton as norm_triton

    x, weight = torch.randn(50, 32, device=device), torch.randn(32, device=device, requires_grad=True)
    gradients = []
    for programs in (1, 7, 512):
        monkeypatch.setattr(norm_triton, "PARTIAL_ROWS", programs)
        gradients += torch.autograd.grad(rms_norm(x, weight, backend="triton").square().sum(), weight)
    torch.testing.assert_close(gradients[0], gradients[1])
    torch.testing.assert_close(gradients[0], gradients[2])


def test_opcheck_and_fullgraph(device: str) -> None:
    from kernels.norm.triton import norm_op

    x, other = (torch.randn(4, 16, device=device, requires_grad=True) for _ in range(2))
    weight, bias = (torch.randn(16, device=device, requires_grad=True) for _ in range(2))
    for residual, center in product((None, other, other.detach().bfloat16().requires_grad_()), (False, True)):
        torch.library.opcheck(norm_op, (x, residual, weight, bias if center else None, 1e-5, center))

    def block(x, other, weight, bias):
        y, stream = rms_norm(x, weight, residual=other, backend="triton")
        return layer_norm(y, weight, bias, backend="triton") + stream

    inputs = (x, other, weight, bias)
    ours, oracle = torch.compile(block, fullgraph=True)(*inputs), block(*inputs)
    torch.testing.assert_close(ours, oracle)
    for a, b in zip(torch.autograd.grad(ours.sum(), inputs), torch.autograd.grad(oracle.sum(), inputs), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("backend", ["triton", "torch", "reference"])
@pytest.mark.parametrize("center", [False, True])
@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("given", [torch.float32, torch.bfloat16], ids=str)
def test_a_result_of_another_dtype_is_rounded_once(backend: str, center: bool, residual: bool, given, device: str):
    """The result is the wide one rounded, the sum is untouched, and gradients come back in the inputs' dtypes."""
    x = torch.randn(6, 24, device=device).to(given).requires_grad_()
    other = torch.randn(6, 24, device=device).bfloat16().requires_grad_() if residual else None
    weight = torch.randn(24, device=device, requires_grad=True)
    function = layer_norm if center else rms_norm
    for dtype in (torch.bfloat16, torch.float32):
        got = function(x, weight, residual=other, dtype=dtype, backend=backend)
        out, total = got if residual else (got, x)
        wide = function(total.detach().double(), weight.double(), backend="reference")
        assert out.dtype == dtype and (not residual or total.dtype == (x + other).dtype)
        torch.testing.assert_close(out.double(), wide, rtol=2**-8 if dtype == torch.bfloat16 else 1e-5, atol=1e-5)
        leaves = [one for one in (x, other, weight) if one is not None]
        assert [g.dtype for g in torch.autograd.grad(out.float().sum(), leaves)] == [one.dtype for one in leaves]


def test_rms_norm_of_a_cpu_by_finite_differences_and_beside_pytorch():
    from kernels.norm.cpu import cpu_rms_norm

    x, weight = (torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in ((2, 3, 7), (7,)))
    assert torch.autograd.gradcheck(lambda x, weight: cpu_rms_norm(x, weight, 1e-6, torch.float64), (x, weight))
    ours, theirs = cpu_rms_norm(x, weight, 1e-6, x.dtype), torch.nn.functional.rms_norm(x, (7,), weight, 1e-6)
    torch.testing.assert_close(ours, theirs, rtol=1e-14, atol=0)
    zero = torch.zeros(1, 7, requires_grad=True)
    cpu_rms_norm(zero, torch.ones(7), 1e-6, torch.float32).sum().backward()
    assert torch.isfinite(zero.grad).all()


def test_a_dtype_that_is_none(device: str) -> None:
    with pytest.raises(ValueError, match=r"dtype is .*int32.*a floating dtype"):
        rms_norm(torch.randn(2, 4, device=device), torch.ones(4, device=device), dtype=torch.int32)
