"""The Triton attention kernels against float64, in Triton's interpreter (or on the GPU, where there is one)."""

from __future__ import annotations

import math
import os
import random
from typing import Any

import attention_cases as cases
import pytest
import torch

from kernels import Dense, T5Bias, attention, prepare_mask
from kernels.attention.dropout import keep_mask

PAIRWISE = cases.pairwise(cases.FACTORS)
RANDOM_CHUNKS, CASES_A_CHUNK = 10, 20


@pytest.mark.parametrize("case", PAIRWISE, ids=lambda case: f"{PAIRWISE.index(case):02d}")
def test_features_meet_in_pairs(case: dict[str, Any], device: str) -> None:
    print(*cases.describe(case))
    cases.run(case, device)


@pytest.mark.parametrize("chunk", range(RANDOM_CHUNKS))
def test_random_shapes_and_strides(chunk: int, device: str) -> None:
    """The same seed every run, so that a landing does not hang on chance; KERNEL_TEST_SEED=<number> tries another."""
    seed = int(os.environ.get("KERNEL_TEST_SEED", "20261123"))
    for number in range(CASES_A_CHUNK):
        rng = random.Random(seed * 1000003 + chunk * CASES_A_CHUNK + number)
        case = cases.random_case(rng)
        torch.manual_seed(rng.randrange(2**31))
        print(f"KERNEL_TEST_SEED={seed} case {chunk}.{number}:", *cases.describe(case))
        cases.run(case, device)


@pytest.mark.parametrize("head_dim", [80, 96, 128, 160, 192, 224, 256])
def test_large_and_odd_heads(head_dim: int, device: str) -> None:
    case = dict.fromkeys(cases.FACTORS) | {
        "dtype": torch.bfloat16, "lengths": (40, 50), "heads": (2, 1), "head_dim": head_dim, "layout": "dense",
        "causal": True, "softcap": 0.0, "dropout_p": 0.0, "batch": 1,
    }  # fmt: skip
    cases.run(case, device)


def set_tile(monkeypatch: pytest.MonkeyPatch, block_m: int, block_n: int) -> None:
    from kernels.attention.triton import launches
    from kernels.configs import Tile

    monkeypatch.setattr(launches, "attention_tile", lambda *_: Tile(block_m, block_n, 4, 1))


@pytest.mark.parametrize("tile", [(16, 16), (64, 16), (16, 64)])
def test_result_does_not_depend_on_the_tile(
    tile: tuple[int, int], device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Spans with and without masks fall differently; windows and documents cross tile borders."""
    set_tile(monkeypatch, *tile)
    base = dict.fromkeys(cases.FACTORS) | {
        "dtype": torch.float32, "lengths": (75, 90), "heads": (2, 1), "head_dim": 16, "layout": "dense",
        "softcap": 0.0, "dropout_p": 0.0, "batch": 1, "lse": True,
    }  # fmt: skip
    for change in (
        {"causal": True},
        {"window": (20, 9)},
        {"causal": True, "lengths": (90, 75)},
        {"segments": "documents", "bias": "t5"},
        {"kv_lens": True, "bias": "dense row"},
        {"causal": True, "window": (33, None), "dropout_p": 0.2},
    ):
        cases.run(base | change, device)


@pytest.mark.parametrize("tile", [(16, 32), (64, 64)])
def test_dropout_mask_is_the_counter_mask(tile: tuple[int, int], device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With equal scores and v the identity, the output shows the mask itself."""
    set_tile(monkeypatch, *tile)
    length, p, seed = 40, 0.3, (9 << 33) + 5
    q = torch.zeros(2, length, 2, length, device=device)
    v = torch.eye(length, device=device).view(1, length, 1, length).expand(2, -1, 2, -1)
    out = attention(q, q, v, dropout_p=p, seed=seed, backend="triton")
    keep = keep_mask(seed, p, 2, 2, length, length, torch.device(device)).transpose(1, 2)
    torch.testing.assert_close(out, keep / (length * (1 - p)))


def test_half_precision_scores_err_by_the_rounding_of_the_output_alone(device: str) -> None:
    """One key a query: the weight is 1 whatever the score, so the gradient of the score is exactly 0. What the kernel
    gives instead is rowsum(dO * (O before rounding - O)), as in FlashAttention's backward pass."""
    p, shape = 0.25, (1, 40, 2, 129)
    q, k, v, dout = (torch.randn(shape, device=device).bfloat16() for _ in range(4))
    bias = torch.randn(1, 2, 40, 40, device=device).bfloat16().requires_grad_()
    out = attention(q, k, v, window=(0, 0), bias=Dense(bias), dropout_p=p, seed=3, backend="triton")
    (found,) = torch.autograd.grad(out, bias, dout)
    unrounded = (out != 0) * v.double() / (1 - p)
    rounding = ((unrounded - out) * dout).sum(3).transpose(1, 2)
    assert rounding.abs().max() > 0.01
    torch.testing.assert_close(found.double(), torch.diag_embed(rounding), rtol=2**-8, atol=1e-4)


def test_prepared_mask_carries_segment_reaches(device: str) -> None:
    q, k, v = (torch.randn(1, 50, 2, 16, device=device) for _ in range(3))
    segments = torch.sort(torch.randint(-1, 4, (1, 50)), dim=1).values.to(device)
    mask = prepare_mask(50, device=device, causal=True, segments=segments, backend="triton")
    assert mask.visible is None and mask.reaches is not None
    torch.testing.assert_close(
        attention(q, k, v, mask=mask, backend="triton"),
        attention(q, k, v, causal=True, segments=segments, backend="reference"),
    )


def test_segment_reach_bounds_every_member_and_a_run_holds_no_other() -> None:
    from kernels.attention.triton.segments import reach

    for _ in range(50):
        own, other = torch.randint(-2, 4, (2, 17)), torch.randint(-2, 4, (2, 23))
        found = reach(own.int(), other.int())
        for b in range(2):
            for i in range(17):
                lo, hi, run = found[b, :, i].tolist()
                members = ((other[b] == own[b, i]) & (own[b, i] >= 0)).nonzero().flatten()
                if len(members):
                    assert lo <= members.min() and members.max() < hi
                assert set(range(lo, run)) <= set(members.tolist())
    packed = torch.tensor([[-1, -1, 0, 0, 0, 3, 3, 8]]).int()
    lo, hi, run = reach(packed, packed)[0].tolist()
    assert lo == [8, 8, 2, 2, 2, 5, 5, 7] and hi == run == [0, 0, 5, 5, 5, 7, 7, 8]
    again = torch.tensor([[0, 0, 1, 0, -1]]).int()
    assert reach(again, again)[0].tolist() == [[0, 0, 2, 0, 5], [4, 4, 4, 4, 0], [2, 2, 3, 2, 0]]


RUN_CHUNKS, RUN_CASES = 8, 25


@pytest.mark.parametrize("chunk", range(RUN_CHUNKS))
def test_runs_without_a_mask_change_no_bit(chunk: int, device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Random documents, padding, repeated and descending numbers: the mask skipped where a tile lies in one run, and
    the mask taken everywhere, agree bit for bit, in values and every gradient."""
    from kernels.attention.triton import launches
    from kernels.attention.triton.segments import reach

    full = 0
    for number in range(RUN_CASES):
        rng = random.Random(20261129 * 1000003 + chunk * RUN_CASES + number)
        torch.manual_seed(rng.randrange(2**31))
        set_tile(monkeypatch, *rng.choice(((16, 16), (16, 32), (32, 16), (32, 32))))
        q_len = rng.choice((rng.randint(1, 64), 64))
        k_len = rng.choice((q_len, q_len, rng.randint(1, 64)))
        pair = [documents(rng, n) for n in (q_len, k_len)]
        segments = (pair[0], pair[0] if q_len == k_len else pair[1])
        case = dict.fromkeys(cases.FACTORS) | {
            "dtype": torch.float32, "lengths": (q_len, k_len), "heads": rng.choice(((1, 1), (1, 1), (2, 1))),
            "head_dim": 16, "layout": "dense", "causal": rng.random() < 0.6, "softcap": 0.0, "batch": 1,
            "dropout_p": 0.2 if rng.random() < 0.2 else 0.0,
            "bias": rng.choice((None, None, "alibi", "t5", "dense")), "kv_lens": rng.random() < 0.2,
            "window": rng.choice((None, None, (20, 9))), "sink": rng.random() < 0.2,
        }  # fmt: skip
        qkv, arguments, leaves = cases.build(case, device)
        arguments["segments"] = tuple(one.to(device) for one in segments)
        pull = torch.randn(qkv[0].shape, device=device)
        results = []
        for skip in (True, False):
            monkeypatch.setattr(launches, "SKIP_RUNS", skip)
            out, lse = attention(*qkv, **arguments, return_lse=True, backend="triton")
            gradients = torch.autograd.grad((out * pull).sum(), [*qkv, *leaves.values()])
            results.append([out, lse, *gradients])
        assert all(torch.equal(a, b) for a, b in zip(*results, strict=True)), [*cases.describe(case)]
        found = reach(*segments)
        full += int((found[:, 2] - found[:, 0] >= 32).any())
    assert full > RUN_CASES // 4  # or nothing was skipped


def documents(rng: random.Random, length: int) -> torch.Tensor:
    """int32 [1, length]: a few documents in a row, some of the same number, of any order, or padding."""
    numbers: list[int] = []
    while len(numbers) < length:
        numbers += [rng.choice((-1, 0, 1, 2, 3))] * rng.choice((3, 17, 40, 64))
    if rng.random() < 0.5:
        numbers = sorted(numbers[:length])
    return torch.tensor([numbers[:length]], dtype=torch.int32)


def test_first_query_of_the_query_stream_is_zero(device: str) -> None:
    q, k, v = (torch.randn(1, 20, 2, 16, device=device, requires_grad=True) for _ in range(3))
    order = torch.randperm(20, device=device)
    out, lse = attention(q, k, v, order=order, strict=True, return_lse=True, backend="triton")
    first = int((order == 0).nonzero())
    assert (out[:, first] == 0).all() and (lse[:, :, first] == -math.inf).all()
    dq, dk, dv = torch.autograd.grad(out.sum() + lse.masked_fill(lse == -math.inf, 0).sum(), (q, k, v))
    assert (dq[:, first] == 0).all() and all(torch.isfinite(g).all() for g in (dq, dk, dv))


@pytest.mark.parametrize("backend", ["triton", "sdpa", "reference"])
@pytest.mark.parametrize("lengths", [(0, 5), (5, 0), (0, 0)])
def test_no_queries_or_no_keys(lengths: tuple[int, int], backend: str, device: str) -> None:
    def leaf(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, device=device, requires_grad=True)

    q, k, v = leaf(2, lengths[0], 2, 16), leaf(2, lengths[1], 2, 16), leaf(2, lengths[1], 2, 16)
    table, dense = leaf(32, 2), leaf(1, 2, 1, lengths[1])
    index = tuple(torch.zeros(2, length, dtype=torch.int32, device=device) for length in lengths)
    features: list[tuple[dict[str, Any], list[torch.Tensor]]] = [
        ({"causal": True, "window": (2, None)}, []),
        ({"segments": index, "order": index}, []),
        ({"bias": T5Bias(table), "kv_lens": torch.tensor([0, 3], device=device)}, [table]),
        ({"bias": Dense(dense)}, [dense]),
    ]
    if backend != "sdpa":
        features.append(({"softcap": 2.0, "dropout_p": 0.5, "seed": 1}, []))
    for arguments, more in features:
        out = attention(q, k, v, backend=backend, **arguments)
        gradients = torch.autograd.grad(out.sum(), [q, k, v, *more], allow_unused=backend == "sdpa")
        assert out.shape == q.shape and (out == 0).all() and all(g is None or (g == 0).all() for g in gradients)


def test_a_sink_without_keys_is_the_whole_denominator(device: str) -> None:
    q, k = torch.randn(1, 3, 2, 16, device=device), torch.randn(1, 0, 2, 16, device=device)
    for backend in ("triton", "reference"):
        sink = torch.tensor([1.0, -2.0], device=device, requires_grad=True)
        out, lse = attention(q, k, k, sink=sink, return_lse=True, backend=backend)
        assert (out == 0).all() and torch.allclose(lse, sink[None, :, None].expand_as(lse))
        assert torch.allclose(torch.autograd.grad(lse.sum(), sink)[0], torch.tensor([3.0, 3.0], device=device))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_row_of_the_smallest_bias_gives_the_mean(dtype: torch.dtype, device: str) -> None:
    """As in PyTorch: every score rounds to finfo.min, so that all keys weigh alike; -inf in its place sees nothing."""
    q, k, v = (torch.randn(1, 20, 2, 16, device=device).to(dtype) for _ in range(3))
    bias = torch.zeros(1, 1, 20, 20, device=device, dtype=dtype)
    bias[:, :, 3] = torch.finfo(dtype).min
    bias[:, :, 5] = -torch.inf
    out, lse = attention(q, k, v, bias=Dense(bias), return_lse=True, backend="triton")
    mean = v.float().mean(1)
    torch.testing.assert_close(out[:, 3].float(), mean, rtol=1e-2, atol=1e-2 if dtype != torch.float32 else 1e-6)
    assert torch.isfinite(lse[:, :, 3]).all() and (out[:, 5] == 0).all() and (lse[:, :, 5] == -torch.inf).all()
    peer = attention(q, k, v, bias=Dense(bias), backend="reference")
    torch.testing.assert_close(out, peer, rtol=1e-2, atol=1e-2 if dtype != torch.float32 else 1e-5)


def test_the_package_can_be_imported_by_its_dotted_name() -> None:
    """`kernels.attention` is a function to who looks it up in `kernels`, and yet a package."""
    import kernels.attention.triton as package

    assert package.triton_attention.__module__ == "kernels.attention.triton"


def test_one_row_of_segments_for_queries_and_many_for_keys(device: str) -> None:
    """Tiles are skipped by how far each row's own segments reach."""
    q, k, v = (torch.randn(2, 256, 1, 16, device=device, requires_grad=True) for _ in range(3))
    one = (torch.arange(256, device=device) // 64).int()[None]
    many = torch.cat((one, 3 * (torch.arange(256, device=device) > 200).int()[None]))
    for pair in ((one, many), (many, one)):
        results = []
        for backend in ("triton", "reference"):
            out = attention(q, k, v, segments=pair, backend=backend)
            results.append([out, *torch.autograd.grad(out.square().sum(), (q, k, v))])
        for got, wanted in zip(*results, strict=True):
            torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-5)


def test_offsets_past_32_bits(device: str) -> None:
    """Heads, rows and even rows inside one tile that lie more than 2^31 elements apart."""
    small = torch.randn(3, 1, 20, 2, 16, device=device).half()
    expected = attention(*small, causal=True, backend="reference")
    stride = 2**27 + 8
    try:
        storage = torch.empty(20 * stride + 3 * 64, dtype=torch.float16, device=device)
    except RuntimeError:
        pytest.skip("no room for 5 GiB of address space")
    q, k, v = (torch.as_strided(storage, (1, 20, 2, 16), (0, stride, 16, 1), 64 * n) for n in range(3))
    for far, near in zip((q, k, v), small, strict=True):
        far.copy_(near)
    assert 19 * stride > 2**31
    torch.testing.assert_close(attention(q, k, v, causal=True, backend="triton"), expected, rtol=2e-3, atol=2e-3)


def test_dropout_goes_by_the_number_of_a_row(device: str) -> None:
    """A row has its mask wherever it stands in the batch, alone too, in values and gradients."""
    q = torch.randn(3, 37, 4, 16, device=device, requires_grad=True)
    k, v = (torch.randn(3, 37, 2, 16, device=device, requires_grad=True) for _ in range(2))
    rows, pull = torch.tensor([5, 2**37 + 11, -1], device=device), torch.randn(3, 37, 4, 16, device=device)

    def results(order: list[int], backend: str) -> list[torch.Tensor]:
        parts = [one[order] for one in (q, k, v)]
        numbers = rows[order]
        out = attention(*parts, causal=True, dropout_p=0.3, seed=77, dropout_rows=numbers, backend=backend)
        return [out, *torch.autograd.grad(out, parts, pull[order])]

    whole = results([0, 1, 2], "triton")
    for order in ([2, 0, 1], [1]):
        assert all(torch.equal(a, b[order]) for a, b in zip(results(order, "triton"), whole, strict=True))
    for ours, wanted in zip(whole, results([0, 1, 2], "reference"), strict=True):
        torch.testing.assert_close(ours, wanted, rtol=2e-3, atol=2e-3)
    usual = attention(q, k, v, dropout_p=0.3, seed=7, backend="triton")
    named = attention(q, k, v, dropout_p=0.3, seed=7, dropout_rows=torch.arange(3, device=device), backend="triton")
    assert torch.equal(usual, named)


def test_opcheck(device: str) -> None:
    from kernels.attention.triton.buckets import bucket_values
    from kernels.attention.triton.launches import NO_BOUND
    from kernels.attention.triton.op import attention_op

    q, k, v = (torch.randn(1, 20, 2, 16, device=device, requires_grad=True) for _ in range(3))
    table, sink = (torch.randn(*s, device=device, requires_grad=True) for s in ((8, 2), (2,)))
    buckets, values = bucket_values(T5Bias(table, True, 8, 20), torch.device(device))
    plain = (q, k, v, *[None] * 14, NO_BOUND, 0, False, 0.0, 0.0, 0.25, True)
    biased = (q, k, v, values, table, buckets, *[None] * 8, sink, None, None, 5, NO_BOUND, False, 2.0, 0.0, 0.25, False)
    for arguments in (plain, biased):
        torch.library.opcheck(attention_op, arguments)


def test_compiles_without_a_graph_break(device: str) -> None:
    q, k, v = (torch.randn(1, 20, 2, 16, device=device, requires_grad=True) for _ in range(3))
    table = torch.randn(8, 2, device=device, requires_grad=True)
    dense = torch.randn(1, 2, 20, 20, device=device, requires_grad=True)
    segments = torch.arange(20, device=device).div(6, rounding_mode="floor").unsqueeze(0)

    def layers(q, k, v, table, dense, segments):
        x = attention(q, k, v, causal=True, segments=segments, bias=T5Bias(table, False, 8, 20), backend="triton")
        return attention(x, k, v, bias=Dense(dense), dropout_p=0.1, seed=3, backend="triton")

    inputs = (q, k, v, table, dense)
    ours, oracle = torch.compile(layers, fullgraph=True)(*inputs, segments), layers(*inputs, segments)
    torch.testing.assert_close(ours, oracle)
    pairs = zip(
        torch.autograd.grad(ours.square().sum(), inputs),
        torch.autograd.grad(oracle.square().sum(), inputs),
        strict=True,
    )
    for got, wanted in pairs:
        torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-5)
