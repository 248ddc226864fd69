"""Rotary embedding and gated activations: every backend against float64, and against what they must preserve."""

from __future__ import annotations

import pytest
import torch
import two_times

from kernels import geglu, rotary, rotary_tables, swiglu
from kernels.gated import reference_gated
from kernels.rotary import rotate

DTYPES = (torch.float32, torch.bfloat16, torch.float16)


@pytest.mark.parametrize("backend", ["triton", "torch"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("interleaved", [False, True])
def test_rotary_values_and_gradients(backend: str, dtype: torch.dtype, interleaved: bool, device: str) -> None:
    for batch, length, heads, dim, size in ((2, 5, 3, 16, 16), (1, 7, 2, 40, 20), (2, 3, 5, 10, 6), (1, 1, 1, 2, 2)):
        fused = torch.randn(batch, heads, length, 2 * dim, device=device).to(dtype)
        x = fused[..., ::2].transpose(1, 2).detach().requires_grad_()
        positions = torch.randint(0, 500, (batch, length), device=device)
        cos, sin = rotary_tables(positions, size)
        pull = torch.randn(x.shape, dtype=torch.float64, device=device)
        out = rotary(x, cos, sin, interleaved=interleaved, backend=backend)
        peer = rotate(x, cos.to(dtype), sin.to(dtype), interleaved, compute_dtype=dtype)
        wide = x.detach().double().requires_grad_()
        oracle = rotate(wide, cos.double(), sin.double(), interleaved)
        trio = [
            [y, *torch.autograd.grad((y.double() * pull).sum(), leaf)]
            for y, leaf in ((out, x), (peer, x), (oracle, wide))
        ]
        two_times.check(["out", "dx"], *trio, dtype)


def test_rotary_scores_depend_on_distance_only(device: str) -> None:
    """The property it exists for, on which both pairings must agree with the complex definition."""
    q, k = (torch.randn(1, 1, 1, 8, device=device, dtype=torch.float64) for _ in range(2))
    for interleaved in (False, True):
        scores = []
        for start in (0, 37):
            cos, sin = rotary_tables(torch.tensor([start, start + 5], device=device), 8)
            turned = [rotary(x, cos[i : i + 1], sin[i : i + 1], interleaved=interleaved) for i, x in enumerate((q, k))]
            scores.append((turned[0] * turned[1]).sum())
        torch.testing.assert_close(scores[0], scores[1], rtol=1e-4, atol=1e-5)
    cos, sin = rotary_tables(torch.tensor([3], device=device), 8)
    pairs = torch.view_as_complex(q.reshape(1, 1, 1, 4, 2))
    turned = pairs * torch.polar(torch.ones(4, dtype=torch.float64), 3 * 10000.0 ** (-torch.arange(4.0).double() / 4))
    expected = torch.view_as_real(turned.to(pairs.device)).reshape(1, 1, 1, 8)
    torch.testing.assert_close(rotary(q, cos, sin, interleaved=True), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("axis", range(4))
def test_rotary_reaches_past_32_bits(axis: int, device: str) -> None:
    """Neighbours along one axis, and so a head's own entries, may lie more than 2^31 elements apart."""
    near = torch.randn(2, 3, 2, 6, device=device).half()
    far_apart = 2**31 // (near.shape[axis] - 1) + 8
    strides = [near.stride(i) for i in range(4)]
    strides[axis] = far_apart
    try:
        storage = torch.empty(far_apart * (near.shape[axis] - 1) + 72, dtype=torch.float16, device=device)
    except RuntimeError:
        pytest.skip("no room for 4 GiB of address space")
    far = torch.as_strided(storage, near.shape, strides).copy_(near)
    for size in (4, 6):
        tables = rotary_tables(torch.arange(3, device=device), size)
        expected = rotary(near, *tables, backend="reference")
        torch.testing.assert_close(rotary(far, *tables, backend="triton"), expected, rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("backend", ["triton", "torch", "reference"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("activation", ["silu", "gelu", "gelu_tanh"])
def test_gated_values_and_gradients(backend: str, dtype: torch.dtype, activation: str, device: str) -> None:
    for shape in ((3, 70), (2, 3, 1030), (5,)):
        fused = (4 * torch.randn(*shape[:-1], 2 * shape[-1], device=device)).to(dtype).requires_grad_()
        pull = torch.randn(shape, dtype=torch.float64, device=device)

        def run(leaf, function, pull=pull):
            out = function(*leaf.chunk(2, dim=-1))
            return [out, *torch.autograd.grad((out.double() * pull).sum(), leaf)]

        def public(gate, up):
            if activation == "silu":
                return swiglu(gate, up, backend=backend)
            return geglu(gate, up, approximate=activation == "gelu_tanh", backend=backend)

        ours = run(fused, public)
        peers = run(fused, lambda g, u: reference_gated(g, u, activation, compute_dtype=dtype))
        wide = fused.detach().double().requires_grad_()
        oracles = run(wide, lambda g, u: reference_gated(g, u, activation))
        two_times.check(["out", "gradient"], ours, peers, oracles, dtype)


def test_opcheck_and_fullgraph(device: str) -> None:
    from kernels.gated.triton import gated_op
    from kernels.rotary.triton import rotary_op

    x = torch.randn(2, 3, 2, 8, device=device, requires_grad=True)
    cos, sin = rotary_tables(torch.arange(3, device=device), 8)
    torch.library.opcheck(rotary_op, (x, cos.unsqueeze(0), sin.unsqueeze(0), True))
    gate, up = (torch.randn(4, 6, device=device, requires_grad=True) for _ in range(2))
    torch.library.opcheck(gated_op, (gate, up, "silu"))

    def block(x, gate, up):
        return rotary(x, cos, sin, backend="triton").sum() * swiglu(gate, up, backend="triton").sum()

    inputs = (x, gate, up)
    ours, oracle = torch.compile(block, fullgraph=True)(*inputs), block(*inputs)
    torch.testing.assert_close(ours, oracle)
    for a, b in zip(torch.autograd.grad(ours, inputs), torch.autograd.grad(oracle, inputs), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
