"""Dropout by counter: one mask on every backend, a function of seed, row and place alone, at the rate asked for."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from kernels import KernelInputError, dropout
from kernels.dropout.reference import keep_mask, level, philox

BACKENDS = ("triton", "torch", "reference")
ROWS = [0, 1, 5, -1, 2**40 + 3, 7]


def kept(seed: int, rows: list[int], numbers: int, p: float) -> torch.Tensor:
    return keep_mask(seed, torch.tensor(rows), numbers, level(p))


def test_words_are_those_of_the_published_generator() -> None:
    """Random123's known answer for philox4x64-10 of counter and key 0, and NumPy's generator for others."""
    (first,) = philox(0, torch.tensor([0]), torch.tensor([-1])).flatten(0, 1)
    known = [0x16554D9ECA36314C, 0xDB20FE9D672D0FDC, 0xD7E772CEE186176B, 0x7E68B68AEC7BA23B]
    assert [int(word) % 2**64 for word in first] == known
    for seed, row in ((3, 5), (-7, 2**41), (2**63 - 1, -1)):
        words = philox(seed, torch.tensor([row]), torch.arange(6)).flatten()
        theirs = np.random.Philox(key=np.array([seed % 2**64, row % 2**64], np.uint64)).random_raw(24)
        assert np.array_equal(words.numpy().view(np.uint64), theirs)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_every_backend_gives_the_same_bits(backend: str, dtype: torch.dtype, device: str) -> None:
    for shape in ((6, 5, 33), (6, 40), (6, 3, 2, 171), (6, 2049)):
        x = torch.randn(shape, device=device).to(dtype).requires_grad_()
        pull = torch.randn(shape, device=device).to(dtype)
        rows = torch.tensor(ROWS, device=device)
        out = dropout(x, 0.3, seed=-(2**62) - 9, rows=rows, backend=backend)
        (gradient,) = torch.autograd.grad(out, x, pull)
        keep = kept(-(2**62) - 9, ROWS, x[0].numel(), 0.3).view(shape).to(device)
        scale = 2**16 / (2**16 - level(0.3))
        assert torch.equal(out, torch.where(keep, x * scale, 0.0))
        assert torch.equal(gradient, torch.where(keep, pull * scale, 0.0))


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_row_has_its_mask_wherever_it_stands(backend: str, device: str) -> None:
    x = torch.ones(4, 9, 20, device=device)
    rows = torch.tensor([12, 3, 2**33, 8], device=device)
    whole = dropout(x, 0.5, seed=1, rows=rows, backend=backend)
    for order in ([2, 0, 3, 1], [3], [1, 1]):
        assert torch.equal(dropout(x[order], 0.5, seed=1, rows=rows[order], backend=backend), whole[order])
    shorter = dropout(x[:, :4], 0.5, seed=1, rows=rows, backend=backend)  # a position's bits do not know of later ones
    assert torch.equal(shorter, whole[:, :4])
    for first in (1, 4, 7):  # nor does a part of a row, which is told where it begins: also inside of a counter
        part = dropout(x[:, first:], 0.5, seed=1, rows=rows, start=first * 20, backend=backend)
        assert torch.equal(part, whole[:, first:])
    strided = torch.ones(4, 20, 9, device=device).transpose(1, 2)
    assert torch.equal(dropout(strided, 0.5, seed=1, rows=rows, backend=backend), whole)
    assert torch.equal(dropout(x, 0.5, seed=1, backend=backend), dropout(x, 0.5, seed=1, rows=torch.arange(4)))


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9, 0.01])
def test_the_share_is_the_rate_and_the_mean_stays(p: float) -> None:
    rows, numbers = 50, 20_000
    keep = kept(11, list(range(rows)), numbers, p).double()
    deviation = math.sqrt(p * (1 - p) / keep.numel())
    assert abs(1 - float(keep.mean()) - p) < 3 * deviation + 2**-17
    by_row, by_place = keep.mean(dim=1), keep.mean(dim=0)
    assert (by_row - 1 + p).abs().max() < 5 * math.sqrt(p * (1 - p) / numbers) + 2**-17
    assert float(by_place.var()) * rows == pytest.approx(p * (1 - p), rel=0.1)
    out = dropout(torch.ones(rows, numbers), p, seed=11)
    assert abs(float(out.double().mean()) - 1) < 3 * deviation / (1 - p)


def test_masks_of_other_seeds_rows_and_places_are_uncorrelated() -> None:
    numbers = 100_000
    masks = torch.cat([kept(seed, [0, 1, -1, 2**35], numbers, 0.5) for seed in (0, 1, -1, 1 << 40)]).double()
    masks = torch.cat([masks, masks[:, torch.arange(numbers) - 1], masks[:, torch.arange(numbers) - 16]])
    correlation = torch.corrcoef(masks) - torch.eye(len(masks))
    assert correlation.abs().max() < 5 / math.sqrt(numbers)


def test_nothing_is_taken_from_a_generator_and_nothing_is_left_of_what_is_not_finite() -> None:
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    out = dropout(torch.full((2, 600), math.inf), 0.4, seed=3)
    assert torch.equal(torch.get_rng_state(), before[0]) and (np.random.get_state()[1] == before[1]).all()
    assert set(out.unique().tolist()) == {0.0, math.inf}


@pytest.mark.parametrize("shape", [(0, 4), (3, 0)])
def test_nothing_at_all(shape: tuple[int, int]) -> None:
    for backend in BACKENDS:
        assert dropout(torch.zeros(shape), 0.5, seed=1, backend=backend).shape == shape
    x = torch.randn(3, 4)
    assert dropout(x, 0.0, seed=1) is x and dropout(x, 1e-9, seed=1) is x


def test_compiled_whole_it_is_the_same() -> None:
    def step(x: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        return dropout(x.sin(), 0.2, seed=5, rows=rows).square().sum()

    x, rows = torch.randn(3, 50, requires_grad=True), torch.tensor([4, 9, 2])
    compiled = torch.compile(step, backend="aot_eager", fullgraph=True)
    ours, theirs = (torch.autograd.grad(one(x, rows), x)[0] for one in (step, compiled))
    assert torch.equal(ours, theirs)


def test_masks_are_the_same_behind_an_optimising_compiler() -> None:
    """Inductor's C++ wraps no int64 around: what it would make of the generators is another mask."""
    from kernels.attention.dropout import keep_mask as of_attention

    def masks(rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        hidden = dropout(torch.ones(3, 40), 0.5, seed=-77, rows=rows, backend="reference")
        return hidden + 0, of_attention(-77123456789012345, 0.5, 3, 2, 16, 16, rows.device, rows).float() + 1

    rows = torch.tensor([5, 2**37 + 1, -1])
    for ours, theirs in zip(torch.compile(masks)(rows), masks(rows), strict=True):
        assert torch.equal(ours, theirs)


BAD = [
    ({"p": 1.0}, "p is 1.0, wanted a probability in"),
    ({"p": -0.1}, "p is -0.1, wanted a probability in"),
    ({"p": True}, "p is True, wanted a probability in"),
    ({"seed": 1.5}, "seed is 1.5, wanted an integer of 64 bits"),
    ({"seed": 2**63}, "seed is 9223372036854775808, wanted an integer of 64 bits"),
    ({"x": torch.ones(3, 4, dtype=torch.int64)}, "x is torch.int64, wanted bfloat16"),
    ({"x": torch.tensor(1.0)}, r"x is of shape \[\], wanted"),
    ({"rows": torch.arange(4)}, r"rows is of shape \[4\], wanted \[3\]"),
    ({"rows": torch.ones(3)}, "rows is torch.float32, wanted a tensor of integers"),
    ({"backend": "tritn"}, "backend is 'tritn', wanted one of"),
]


@pytest.mark.parametrize(("given", "said"), BAD, ids=lambda one: one if isinstance(one, str) else "")
def test_bad_input_is_one_line(given: dict, said: str) -> None:
    usual = {"x": torch.ones(3, 4), "p": 0.1, "seed": 1}
    arguments = usual | given
    with pytest.raises(KernelInputError, match=said):
        dropout(arguments.pop("x"), arguments.pop("p"), **arguments)
