"""The grouped product of experts: every backend against float64 row by row, its gradients, its count of FLOPs."""

from __future__ import annotations

import pytest
import torch
import two_times
from torch.utils.flop_counter import FlopCounterMode

import kernels.experts.flops  # noqa: F401 - so that the counter knows the grouped product
from kernels import KernelInputError, grouped_linear
from kernels.experts.op import grouped_linear_op, native

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
# rows, inputs, outputs, ends: empty groups at the start, inside and at the end, rows of no group, no rows, one group
CASES = [
    (11, 6, 5, (0, 3, 3, 9, 11, 11)),
    (9, 8, 16, (4, 7)),
    (5, 3, 2, (0, 0)),
    (0, 3, 2, (0, 0, 0)),
    (7, 16, 8, (7,)),
]


def by_row(x: torch.Tensor, weights: torch.Tensor, ends: tuple[int, ...]) -> torch.Tensor:
    """Row by row, each times the matrix of the first group that ends behind it."""
    rows = []
    for row in range(len(x)):
        group = next((g for g, end in enumerate(ends) if end > row), None)
        rows.append((weights[group or 0] * x[row]).sum(1) * (group is not None))
    return torch.stack(rows) if rows else x @ weights[0].t()


@pytest.mark.parametrize("backend", ["auto", "torch", "reference"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_values_and_gradients(backend: str, dtype: torch.dtype, device: str) -> None:
    for rows, inputs, outputs, ends in CASES:
        x = torch.randn(rows, 2 * inputs, device=device).to(dtype)[:, ::2].requires_grad_()  # strided
        weights = torch.randn(len(ends), outputs, inputs, device=device).to(dtype).requires_grad_()
        pull = torch.randn(rows, outputs, device=device)
        places = torch.tensor(ends, device=device)
        wide = [one.detach().double().requires_grad_() for one in (x, weights)]
        trio = []
        for out, leaves in (
            (grouped_linear(x, weights, places, backend), (x, weights)),
            (by_row(x, weights, ends), (x, weights)),
            (by_row(*wide, ends), wide),
        ):
            gradients = torch.autograd.grad((out.double() * pull).sum(), leaves, allow_unused=True)
            found = [torch.zeros_like(leaf) if g is None else g for g, leaf in zip(gradients, leaves, strict=True)]
            trio.append([out.detach(), *found])
        if rows:
            two_times.check(["out", "dx", "dweights"], *trio, dtype)
        assert [one.dtype for one in trio[0]] == [dtype] * 3


def test_only_the_gradients_that_are_asked_for(device: str) -> None:
    x, weights = torch.randn(6, 4, device=device), torch.randn(3, 5, 4, device=device)
    ends = torch.tensor([2, 2, 5], device=device)
    for leaf in (x, weights):
        leaf.requires_grad_()
        ours = torch.autograd.grad(grouped_linear(x, weights, ends, "torch").sum(), leaf)[0]  # a gradient of stride 0
        plain = torch.autograd.grad(grouped_linear(x, weights, ends, "reference").sum(), leaf)[0]
        torch.testing.assert_close(ours, plain)
        leaf.requires_grad_(False)


def test_under_autocast_it_is_as_a_linear_layer(device: str) -> None:
    x, weights = torch.randn(8, 16, device=device), torch.randn(1, 8, 16, device=device, requires_grad=True)
    with torch.autocast(device, torch.bfloat16):
        out = grouped_linear(x, weights, torch.tensor([8], device=device))
        torch.testing.assert_close(out, torch.nn.functional.linear(x, weights[0]))
    out.float().sum().backward()
    assert out.dtype == torch.bfloat16 and weights.grad.dtype == torch.float32


@pytest.mark.parametrize("backend", ["torch", "reference"])
def test_flops_are_those_of_the_rows_that_have_a_group(backend: str) -> None:
    x, weights = torch.randn(10, 6, requires_grad=True), torch.randn(3, 5, 6, requires_grad=True)
    ends = torch.tensor([4, 4, 9])
    with FlopCounterMode(display=False) as forward:
        out = grouped_linear(x, weights, ends, backend)
    with FlopCounterMode(display=False) as backward:
        out.sum().backward()
    assert forward.get_total_flops() == 2 * 9 * 5 * 6 and backward.get_total_flops() == 2 * forward.get_total_flops()


def test_opcheck_and_fullgraph(device: str) -> None:
    x = torch.randn(9, 8, device=device, requires_grad=True)
    weights = torch.randn(3, 16, 8, device=device, requires_grad=True)
    ends = torch.tensor([2, 2, 7], dtype=torch.int32, device=device)
    torch.library.opcheck(grouped_linear_op, (x, weights, ends))

    def step(x: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        return grouped_linear(x.sin(), weights, ends).square().sum()

    compiled = torch.compile(step, backend="aot_eager", fullgraph=True)
    ours, theirs = (torch.autograd.grad(one(x, weights), (x, weights)) for one in (compiled, step))
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b)


def test_on_a_cpu_the_loop_is_ours() -> None:
    """PyTorch's grouped product is for bf16 on CUDA; where it is not, nothing asks for it."""
    assert not native(torch.zeros(8, 8, dtype=torch.bfloat16), torch.zeros(1, 8, 8, dtype=torch.bfloat16))


BAD = [
    ({"x": torch.ones(2, 3, 4)}, r"x is of shape \[2, 3, 4\], wanted \[rows, inputs\]"),
    ({"x": torch.ones(6, 4).long()}, "x is torch.int64, wanted bfloat16"),
    (
        {"weights": torch.ones(3, 5, 7)},
        r"weights is torch.float32 \[3, 5, 7\], wanted torch.float32 \[groups, outputs, 4",
    ),
    ({"weights": torch.ones(3, 5, 4).half()}, r"weights is torch.float16 \[3, 5, 4\], wanted torch.float32"),
    ({"ends": torch.tensor([2, 6])}, r"ends is of shape \[2\], wanted \[3\]"),
    ({"ends": torch.tensor([2.0, 3, 6])}, "ends is torch.float32, wanted a tensor of integers"),
    ({"ends": torch.tensor([4, 3, 6])}, r"ends is \[4, 3, 6\], wanted numbers from 0 to 6, the rows of x, not falling"),
    ({"ends": torch.tensor([2, 3, 7])}, r"ends is \[2, 3, 7\], wanted numbers from 0 to 6"),
    ({"backend": "torhc"}, "backend is 'torhc', wanted one of auto, torch, reference; did you mean 'torch'"),
]


@pytest.mark.parametrize(("given", "said"), BAD)
def test_bad_input_is_one_line(given: dict, said: str) -> None:
    usual = {"x": torch.ones(6, 4), "weights": torch.ones(3, 5, 4), "ends": torch.tensor([2, 3, 6])}
    with pytest.raises(KernelInputError, match=said):
        grouped_linear(**usual | given)
