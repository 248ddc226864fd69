"""The correction of the interpreter is right, and still needed."""

from __future__ import annotations

import pytest
import torch

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="kernels run on the GPU, not in the interpreter")


def bf16_product(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    import triton
    import triton.language as tl

    @triton.jit
    def multiply(a_ptr, b_ptr, out_ptr):
        lane = tl.arange(0, 16)
        place = lane[:, None] * 16 + lane[None, :]
        tl.store(out_ptr + place, tl.dot(tl.load(a_ptr + place), tl.load(b_ptr + place)))

    out = torch.empty(16, 16)
    multiply[(1,)](a, b, out)
    return out


def bf16_cast(x: torch.Tensor) -> torch.Tensor:
    import triton
    import triton.language as tl

    @triton.jit
    def cast(x_ptr, out_ptr):
        lane = tl.arange(0, 1024)
        tl.store(out_ptr + lane, tl.load(x_ptr + lane).to(tl.bfloat16))

    out = torch.empty(1024, dtype=torch.bfloat16)
    cast[(1,)](x, out)
    return out


def test_mended_product_and_cast_are_torchs() -> None:
    a, b = (torch.randn(16, 16).bfloat16() for _ in range(2))
    torch.testing.assert_close(bf16_product(a, b), a.float() @ b.float())
    x = torch.randn(1024)
    assert torch.equal(bf16_cast(x), x.bfloat16())


def test_tritons_own_interpreter_is_still_wrong() -> None:
    """When this fails, Triton has learnt bfloat16: remove bf16_interpreter.py."""
    import bf16_interpreter

    a, b = (torch.randn(16, 16).bfloat16() for _ in range(2))
    x = torch.randn(1024)
    with bf16_interpreter.unpatched():
        assert not torch.allclose(bf16_product(a, b), a.float() @ b.float(), atol=0.1)
        assert not torch.equal(bf16_cast(x), x.bfloat16())
    assert torch.equal(bf16_cast(x), x.bfloat16())
