"""Cross-entropy, alone and fused with its linear layer: every backend against float64 and PyTorch's own."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
import two_times

from kernels import cross_entropy, linear_cross_entropy
from kernels.loss.reference import LossOptions, reference_loss

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
OPTIONS = [
    {},
    {"label_smoothing": 0.1},
    {"z_loss": 1e-2},
    {"softcap": 4.0},
    {"label_smoothing": 0.2, "z_loss": 1e-3, "softcap": 7.0, "ignore_index": 3},
]


def targets(rows: int, classes: int, device: str, ignore: int = -100) -> torch.Tensor:
    found = torch.randint(0, classes, (rows,), device=device)
    found[::4] = ignore
    return found


@pytest.mark.parametrize("backend", ["triton", "torch", "reference"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_cross_entropy_values_and_gradients(backend: str, dtype: torch.dtype, options: dict, device: str) -> None:
    for rows, classes in ((9, 33), (6, 5000)):
        logits = (3 * torch.randn(rows, classes, device=device)).to(dtype).requires_grad_()
        places = targets(rows, classes, device, options.get("ignore_index", -100))
        wide = logits.detach().double().requires_grad_()

        def results(sums, leaf):
            return [sums[0], sums[1], sums[2], *torch.autograd.grad(sums[0] * 0.37, leaf)]

        ours = cross_entropy(logits, places, **options, backend=backend)
        assert int(ours.targets) == int((places != options.get("ignore_index", -100)).sum())
        assert ours.total.dtype == torch.float32 and not ours.plain.requires_grad
        spec = LossOptions(**options)
        peers = results(reference_loss(logits, places, spec, compute_dtype=dtype), logits)
        oracles = results(reference_loss(wide, places, spec), wide)
        two_times.check(["total", "plain", "z", "gradient"], results(ours, logits), peers, oracles, dtype)


@pytest.mark.parametrize("backend", ["triton", "torch", "reference"])
def test_agrees_with_torch(backend: str, device: str) -> None:
    logits = torch.randn(4, 5, 40, device=device, requires_grad=True)
    places = targets(20, 40, device).view(4, 5)
    ours = cross_entropy(logits, places, label_smoothing=0.1, backend=backend)
    theirs = F.cross_entropy(logits.flatten(0, 1), places.flatten(), label_smoothing=0.1)
    torch.testing.assert_close(ours.total / ours.targets, theirs)


@pytest.mark.parametrize("backend", ["triton", "torch"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_linear_cross_entropy_values_and_gradients(
    backend: str, dtype: torch.dtype, options: dict, device: str
) -> None:
    for rows, classes, size, chunk in ((21, 70, 24, 8), (10, 33, 16, 100), (7, 20, 8, 1)):
        hidden = torch.randn(rows, size, device=device).to(dtype).requires_grad_()
        weight = (torch.randn(classes, size, device=device) / 2).requires_grad_()
        bias = torch.randn(classes, device=device, requires_grad=True)
        places = targets(rows, classes, device, options.get("ignore_index", -100))
        inputs = [hidden, weight, bias]
        # the master weight is float32; the product sees it in the dtype of hidden
        wide = [hidden.detach().double(), weight.detach().to(dtype).double(), bias.detach().to(dtype).double()]
        wide = [t.requires_grad_() for t in wide]
        spec = LossOptions(**options)

        def results(sums, leaves):
            return [sums[0], sums[1], sums[2], *torch.autograd.grad(sums[0] * 0.37, leaves)]

        ours = results(
            linear_cross_entropy(hidden, weight, places, bias=bias, chunk=chunk, **options, backend=backend), inputs
        )
        logits = hidden @ weight.to(dtype).t() + bias.to(dtype)
        peers = results(reference_loss(logits, places, spec, compute_dtype=dtype), inputs)
        oracles = results(reference_loss(wide[0] @ wide[1].t() + wide[2], places, spec), wide)
        names = ["total", "plain", "z", "dhidden", "dweight", "dbias"]
        two_times.check(names, ours, peers, oracles, dtype)


def test_tied_weight_gathers_both_gradients(device: str) -> None:
    table = torch.randn(30, 12, device=device, requires_grad=True)
    tokens, places = torch.randint(0, 30, (2, 9), device=device), targets(18, 30, device).view(2, 9)

    def loss(function):
        return function(F.embedding(tokens, table))

    ours = loss(lambda x: linear_cross_entropy(x, table, places, chunk=5).total)
    plain = loss(lambda x: F.cross_entropy((x @ table.t()).flatten(0, 1), places.flatten(), reduction="sum"))
    torch.testing.assert_close(ours, plain)
    torch.testing.assert_close(torch.autograd.grad(ours, table), torch.autograd.grad(plain, table))


@pytest.mark.parametrize("chunk", [None, 1, 7, 1000])
def test_chunk_does_not_change_the_result(chunk: int | None, device: str) -> None:
    hidden, weight = (torch.randn(*s, device=device, requires_grad=True) for s in ((300, 8), (50, 8)))
    places = targets(300, 50, device)
    ours = linear_cross_entropy(hidden, weight, places, chunk=chunk).total
    oracle = linear_cross_entropy(hidden, weight, places, backend="reference").total
    torch.testing.assert_close(ours, oracle)
    for a, b in zip(*(torch.autograd.grad(x, (hidden, weight)) for x in (ours, oracle)), strict=True):
        torch.testing.assert_close(a, b)


def test_all_ignored_and_no_gradient_wanted(device: str) -> None:
    hidden, weight = (torch.randn(*s, device=device, requires_grad=True) for s in ((6, 8), (10, 8)))
    sums = linear_cross_entropy(hidden, weight, torch.full((6,), -100, device=device))
    assert sums.total == 0 and sums.targets == 0
    assert all((g == 0).all() for g in torch.autograd.grad(sums.total, (hidden, weight)))
    with torch.no_grad():
        assert not linear_cross_entropy(
            hidden, weight, torch.zeros(6, dtype=torch.int64, device=device)
        ).total.requires_grad


def test_opcheck_and_fullgraph(device: str) -> None:
    from kernels.loss.op import cross_entropy_op, linear_cross_entropy_op

    hidden, weight = (torch.randn(*s, device=device, requires_grad=True) for s in ((6, 8), (20, 8)))
    bias = torch.randn(20, device=device, requires_grad=True)
    places = targets(6, 20, device)
    for use_triton in (False, True):
        torch.library.opcheck(cross_entropy_op, (hidden, places % 8, 0, 0.1, 0.01, 0.0, use_triton))
        arguments = (hidden, weight, bias, places, -100, 0.1, 0.01, 3.0, 24, 4, True, use_triton)
        torch.library.opcheck(linear_cross_entropy_op, arguments)

    def loss(hidden, weight, bias):
        return linear_cross_entropy(hidden, weight, places, bias=bias, backend="triton").total

    inputs = (hidden, weight, bias)
    ours, oracle = torch.compile(loss, fullgraph=True)(*inputs), loss(*inputs)
    torch.testing.assert_close(ours, oracle)
    for a, b in zip(*(torch.autograd.grad(x, inputs) for x in (ours, oracle)), strict=True):
        torch.testing.assert_close(a, b)
