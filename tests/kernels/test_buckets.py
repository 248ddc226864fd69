"""T5's bias in bands: gathered near the diagonal alone, one value a head and side beyond. See also the T5 cases of
test_attention_triton.py, whose tiles are mostly near."""

from __future__ import annotations

import random
from typing import Any

import attention_cases as cases
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from kernels import T5Bias, attention, prepare_mask
from kernels.attention.masks import bias_tensor, t5_buckets
from kernels.configs import Tile


@pytest.fixture
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    from kernels.attention.triton import launches

    monkeypatch.setattr(launches, "attention_tile", lambda *_: Tile(16, 16, 4, 1, 1))


@pytest.mark.parametrize("bidirectional", [True, False])
def test_the_short_vector_tells_every_bucket(bidirectional: bool) -> None:
    from kernels.attention.triton.buckets import MARGIN, far_from, relative_buckets

    for buckets, distance in ((4, 2), (4, 8), (8, 16), (16, 40), (32, 128), (32, 20), (64, 1000), (10, 7)):
        if not bidirectional and distance <= buckets // 2:
            continue
        bias = T5Bias(torch.zeros(buckets, 1), bidirectional, buckets, distance)
        far = far_from(bias)
        vector = relative_buckets(bias, torch.device("cpu"))
        most = far + MARGIN
        assert far % 8 == 0 and far <= distance + 10 and vector.shape == (2 * most,)
        places = torch.arange(-3 * distance - 20, 3 * distance + 20)
        wanted = t5_buckets(places, bidirectional, buckets, distance)
        assert torch.equal(vector[(places + most).clamp(0, 2 * most - 1)].long(), wanted)
        last = max(int(places[wanted != wanted[0]].min().neg()) + 1, int(places[wanted != wanted[-1]].max()) + 1)
        assert last < far <= last + 10  # where either side changes for the last time, two more, and to a multiple of 8


BASE: dict[str, Any] = dict.fromkeys(cases.FACTORS) | {
    "dtype": torch.float32, "head_dim": 16, "layout": "dense", "softcap": 0.0, "dropout_p": 0.0, "batch": 1,
    "lse": True,
}  # fmt: skip
SEVERAL = (
    {"lengths": (75, 90), "heads": (2, 1), "bias": "t5 short"},
    {"lengths": (90, 61), "heads": (1, 1), "bias": "t5 short", "segments": "documents"},
    {"lengths": (80, 80), "heads": (2, 2), "bias": "t5 short decoder", "causal": True, "segments": "documents"},
    {"lengths": (96, 50), "heads": (1, 1), "bias": "t5 short decoder", "causal": True, "kv_lens": True, "batch": 2},
    {"lengths": (64, 91), "heads": (1, 1), "bias": "t5 short", "softcap": 3.0, "dropout_p": 0.2, "sink": True},
    {"lengths": (81, 81), "heads": (1, 1), "bias": "t5 short decoder", "window": (33, 20)},
    {"lengths": (1, 70), "heads": (2, 2), "bias": "t5 short"},
    {"lengths": (90, 90), "heads": (4, 2), "bias": "t5 8/20", "dtype": torch.bfloat16},
    {"lengths": (70, 90), "heads": (1, 1), "bias": "t5 short", "order": "content"},
)


@pytest.mark.parametrize("case", SEVERAL, ids=range(len(SEVERAL)))
def test_far_tiles_against_float64(case: dict[str, Any], device: str, small_tiles: None) -> None:
    cases.run(BASE | case, device)


@pytest.mark.parametrize(
    ("bias", "length"), [("t5 32/128", 300), ("t5 32/128 decoder", 300), ("t5 64/256", 500)], ids=str
)
def test_lengths_well_past_the_greatest_distance(bias: str, length: int, device: str) -> None:
    """With the tile of the interpreter, 64 x 64."""
    case = {"lengths": (length, length), "heads": (1, 1), "bias": bias, "causal": "decoder" in bias}
    cases.run(BASE | case, device)


def test_the_ordered_backward_pass(device: str, small_tiles: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """It gathers everywhere, and the table's gradient beside it skips as with two passes."""
    monkeypatch.setattr(cases, "attention", lambda *a, **k: attention(*a, **k, backward="ordered"))
    cases.run(BASE | {"lengths": (81, 81), "heads": (1, 1), "bias": "t5 short", "segments": "documents"}, device)


@pytest.mark.parametrize("chunk", range(10))
def test_far_tiles_of_random_shapes(chunk: int, device: str, small_tiles: None) -> None:
    """200 of them, forward and every gradient; the same seed every run."""
    for number in range(20):
        rng = random.Random(20261130 * 1000003 + chunk * 20 + number)
        torch.manual_seed(rng.randrange(2**31))
        case = BASE | {
            "lengths": (rng.randint(1, 64), rng.randint(1, 64)), "heads": rng.choice(((1, 1), (1, 1), (2, 1))),
            "bias": rng.choice(("t5 short", "t5 short decoder", "t5 8/20")), "causal": rng.random() < 0.5,
            "segments": rng.choice((None, None, "documents", "shuffled")), "kv_lens": rng.random() < 0.2,
            "window": rng.choice((None, None, (33, 20))), "sink": rng.random() < 0.2,
            "dropout_p": rng.choice((0.0, 0.0, 0.25)), "softcap": rng.choice((0.0, 0.0, 3.0)),
            "dtype": rng.choice((torch.float32, torch.bfloat16)), "batch": rng.choice((1, 1, 1, 2)),
        }  # fmt: skip
        print(chunk, number, *cases.describe(case))
        cases.run(case, device)


@pytest.mark.parametrize("far_loops", [0, 1])
@pytest.mark.parametrize(
    ("bidirectional", "buckets", "distance"), [(True, 32, 128), (False, 32, 128), (True, 8, 20)], ids=str
)
def test_every_offset_of_the_diagonal(
    bidirectional: bool, buckets: int, distance: int, far_loops: int, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tiles begin at every distance from -140 to 140 of the diagonal. Products are 0, so that a row's log-sum-exp,
    which must hold to a few units in the last place, tells of a single key whose bucket is wrong."""
    from kernels.attention.triton import launches

    monkeypatch.setattr(launches, "attention_tile", lambda *_: Tile(16, 32, 4, 1, far_loops))
    table = (3 * torch.randn(buckets, 1, dtype=torch.float64)).to(device)
    for offset in range(-140, 141) if far_loops else range(-140, 141, 7):
        q_len, k_len = 17 - min(offset, 0), 33 + max(offset, 0)
        q, k = torch.zeros(1, q_len, 1, 16, device=device), torch.zeros(1, k_len, 1, 16, device=device)
        bias = T5Bias(table.float(), bidirectional, buckets, distance)
        _, found = attention(q, k, k, bias=bias, return_lse=True, backend="triton")
        wanted = torch.logsumexp(bias_tensor(bias, q_len, k_len, torch.float64, q.device), 3)
        torch.testing.assert_close(found.double(), wanted, rtol=1e-6, atol=2e-6, msg=f"{offset}")


@pytest.mark.parametrize("values", ["near", "far before", "far after", "all but one", "all", "large"])
@pytest.mark.parametrize("far_loops", [0, 1])
def test_tables_of_infinite_and_large_values(
    values: str, far_loops: int, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """-inf hides a bucket, and a row that sees nothing else gives 0; no gradient is nan."""
    from kernels.attention.triton import launches

    monkeypatch.setattr(launches, "attention_tile", lambda *_: Tile(16, 16, 4, 1, far_loops))
    table = torch.randn(4, 1)
    hidden = {"near": [0], "far before": [1], "far after": [3], "all but one": [0, 1, 2], "all": [0, 1, 2, 3]}
    table[hidden.get(values, [])] = -torch.inf
    if values == "large":
        table = torch.tensor([[-3e4], [2e4], [2e4 + 1], [-1e30]])
    q, k, v = (torch.randn(1, n, 1, 16) for n in (70, 90, 90))
    segments = [(torch.arange(n) > 50).int()[None] for n in (70, 90)]
    results = []
    for dtype, backend in ((torch.float32, "triton"), (torch.float64, "reference")):
        leaves = [x.to(device, dtype).requires_grad_() for x in (q, k, v, table)]
        bias = T5Bias(leaves[3], True, 4, 8)
        pair = (segments[0].to(device), segments[1].to(device))
        out, lse = attention(*leaves[:3], bias=bias, segments=pair, return_lse=True, backend=backend)
        gradients = torch.autograd.grad(out[0, :, 0, :8].sum() + (out * out).sum(), leaves)
        results.append([x.double() for x in (out, lse, *gradients)])
    rough = 1e-2 if values == "large" else 1e-5  # a score of 3e4 leaves 2e-3 of float32's fraction
    for got, wanted in zip(*results, strict=True):
        torch.testing.assert_close(got, wanted, rtol=rough, atol=rough)


@pytest.mark.parametrize("causal", [True, False])
def test_far_tiles_change_no_bit_where_scores_are_the_bias(
    causal: bool, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Adding the value to each score or to the row's peak rounds alike where the products are 0: |a - b| = |b - a|.

    (Elsewhere the sum of score and value is rounded in the one way and the difference of peak and value in the other.)
    """
    from kernels.attention.triton import launches

    shape = (1, 83, 2, 16)
    q = torch.zeros(shape, device=device, requires_grad=True)
    k, v = (torch.randn(shape, device=device, requires_grad=True) for _ in range(2))
    table = torch.randn(4, 2, device=device, requires_grad=True)
    segments = (torch.arange(83, device=device) > 70).int()[None]
    pull, results = torch.randn(shape, device=device), []
    for tile in (Tile(16, 16, 4, 1, 1), Tile(16, 16, 4, 1, 0)):
        monkeypatch.setattr(launches, "attention_tile", lambda *_, tile=tile: tile)
        bias = T5Bias(table, not causal, 4, 8)
        out, lse = attention(q, k, v, causal=causal, segments=segments, bias=bias, return_lse=True, backend="triton")
        results.append([out, lse, *torch.autograd.grad((out * pull).sum(), (q, k, v, table))])
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


class Operations(TorchDispatchMode):
    """The names of PyTorch's operations that run."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.add(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


def test_the_vector_is_prepared_once_for_all_layers(device: str) -> None:
    """Layers that share a mask compute no bucket again, and the table's gradient is the sum over them."""
    q, k, v = (torch.randn(1, 40, 2, 16, device=device, requires_grad=True) for _ in range(3))
    table = torch.randn(8, 2, device=device, requires_grad=True)
    bias = T5Bias(table, True, 8, 16)
    mask = prepare_mask(40, device=device, bias=bias, backend="triton")
    assert mask.values is not None and mask.values[1].shape[0] == 2
    with Operations() as seen:
        first = attention(q, k, v, mask=mask, backend="triton")
        assert isinstance(first, Tensor)
        second = attention(first, k, v, mask=mask, backend="triton")
        assert isinstance(second, Tensor)
        together = torch.autograd.grad(second.square().sum(), (table, q))
    assert "attention" in seen.names and not seen.names & {"log", "index_select", "arange", "embedding"}

    def alone(x: Tensor, backend: str) -> Tensor:
        out = attention(x, k, v, bias=bias, backend=backend)
        assert isinstance(out, Tensor)
        return out

    for backend in ("triton", "reference"):
        wanted = torch.autograd.grad(alone(alone(q, backend), backend).square().sum(), (table, q))
        for got, expected in zip(together, wanted, strict=True):
            if backend == "triton":
                assert torch.equal(got, expected)
            else:
                torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)
