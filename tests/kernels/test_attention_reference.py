"""sdpa and the reference against each other and against float64; the reference against independent formulas."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from kernels import Alibi, Dense, KernelInputError, T5Bias, attention, prepare_mask
from kernels.attention.dropout import keep_mask, philox

B, H, D = 2, 4, 16


def tensors(q_len: int, k_len: int, kv_heads: int = H, dtype: torch.dtype = torch.float32) -> list[torch.Tensor]:
    shapes = [(B, q_len, H, D), (B, k_len, kv_heads, D), (B, k_len, kv_heads, D)]
    return [torch.randn(s, dtype=torch.float64).to(dtype).requires_grad_() for s in shapes]


def documents(length: int) -> torch.Tensor:
    """Three documents in one row, two and left padding in the other."""
    rows = torch.zeros(2, length, dtype=torch.int64)
    rows[0, length // 3 :] += 1
    rows[0, length // 2 :] += 1
    rows[1, : length // 4] = -1
    rows[1, length // 2 :] = 7
    return rows


def case(name: str, q_len: int, k_len: int) -> dict[str, object]:
    table = torch.randn(32, H, dtype=torch.float64).requires_grad_()
    dense = torch.randn(1, H, q_len, k_len, dtype=torch.float64).requires_grad_()
    ranks = torch.stack([torch.randperm(k_len) for _ in range(B)])
    cases: dict[str, dict[str, object]] = {
        "full": {},
        "causal": {"causal": True},
        "window": {"window": (5, 3)},
        "causal window": {"causal": True, "window": (4, -1)},
        "kv_lens": {"kv_lens": torch.tensor([k_len - 3, 0])},
        "segments": {"segments": (documents(q_len), documents(k_len))},
        "causal segments": {
            "causal": True,
            "segments": (documents(q_len), documents(k_len)),
        },
        "order": {"order": (ranks[:, :q_len], ranks)},
        "strict order": {"order": (ranks[:, :q_len], ranks), "strict": True},
        "alibi": {
            "causal": True,
            "bias": Alibi(torch.tensor([0.5, 0.25, 0.125, 0.0625])),
        },
        "t5": {"bias": T5Bias(table)},
        "t5 decoder": {"causal": True, "bias": T5Bias(table, bidirectional=False)},
        "dense": {
            "bias": Dense(dense),
            "segments": (documents(q_len), documents(k_len)),
        },
    }
    return cases[name]


CASES = [
    "full",
    "causal",
    "window",
    "causal window",
    "kv_lens",
    "segments",
    "causal segments",
    "order",
    "strict order",
    "alibi",
    "t5",
    "t5 decoder",
    "dense",
]


def leaves(arguments: dict[str, object]) -> list[torch.Tensor]:
    bias = arguments.get("bias")
    if isinstance(bias, T5Bias):
        return [bias.table]
    return [bias.tensor] if isinstance(bias, Dense) else []


def naive(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    visible: torch.Tensor,
    bias: torch.Tensor,
) -> torch.Tensor:
    """A loop over single queries that knows no mask, only lists of visible keys: as independent as it gets."""
    out = torch.zeros_like(q)
    groups = q.shape[2] // k.shape[2]
    for b in range(q.shape[0]):
        for h in range(q.shape[2]):
            for i in range(q.shape[1]):
                seen = visible[b, i].nonzero().flatten()
                if len(seen):
                    scores = k[b, seen, h // groups] @ q[b, i, h] / math.sqrt(q.shape[3]) + bias[h, i, seen]
                    out[b, i, h] = torch.softmax(scores, 0) @ v[b, seen, h // groups]
    return out


def test_reference_matches_a_loop_over_visible_keys() -> None:
    q_len, k_len = 9, 12
    q, k, v = tensors(q_len, k_len, kv_heads=2, dtype=torch.float64)
    q_seg, k_seg = documents(q_len), documents(k_len)
    lens = torch.tensor([k_len, 10])
    bias = torch.zeros(H, q_len, k_len, dtype=torch.float64)
    visible = torch.zeros(B, q_len, k_len, dtype=torch.bool)
    slopes = torch.tensor([0.5, 0.25, 0.125, 0.0625], dtype=torch.float64)
    for i in range(q_len):
        for j in range(k_len):
            place = i + k_len - q_len
            bias[:, i, j] = -slopes * abs(place - j)
            for b in range(B):
                together = q_seg[b, i] == k_seg[b, j] and q_seg[b, i] >= 0
                visible[b, i, j] = bool(j <= place and place - j <= 6 and j < lens[b] and together)
    out = attention(
        q, k, v, causal=True, window=(6, None), segments=(q_seg, k_seg), kv_lens=lens, bias=Alibi(slopes),
        backend="reference",
    )  # fmt: skip
    torch.testing.assert_close(out, naive(q, k, v, visible, bias))


@pytest.mark.parametrize("lengths", [(33, 33), (17, 40), (1, 40), (1, 1)], ids=["self", "cross", "last", "only"])
@pytest.mark.parametrize("name", CASES)
def test_sdpa_equals_reference_with_gradients(name: str, lengths: tuple[int, int]) -> None:
    arguments = case(name, *lengths)
    for kv_heads in (H, 2):
        inputs = tensors(*lengths, kv_heads=kv_heads, dtype=torch.float64) + leaves(arguments)
        weight = torch.randn(B, lengths[0], H, D, dtype=torch.float64)
        results = []
        for backend in ("reference", "sdpa"):
            out = attention(*inputs[:3], backend=backend, **arguments)
            results.append([out, *torch.autograd.grad((out * weight).sum(), inputs)])
        for oracle, got in zip(*results, strict=True):
            assert torch.isfinite(got).all()
            torch.testing.assert_close(got, oracle)


@pytest.mark.parametrize("backend", ["reference", "sdpa"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_low_precision_stays_near_float64(backend: str, dtype: torch.dtype) -> None:
    q, k, v = tensors(33, 33, dtype=dtype)
    oracle = attention(q.double(), k.double(), v.double(), causal=True, backend="reference")
    eager = torch.softmax(
        (q.transpose(1, 2) @ k.permute(0, 2, 3, 1) / 4).masked_fill(~torch.ones(33, 33).tril().bool(), -math.inf),
        -1,
    )
    same_dtype_error = ((eager @ v.transpose(1, 2)).transpose(1, 2).double() - oracle).abs().max()
    out = attention(q, k, v, causal=True, backend=backend)
    assert out.dtype == dtype
    assert (out.double() - oracle).abs().max() <= 2 * same_dtype_error


def test_prepared_mask_is_the_same_and_its_bias_gradient_adds_up() -> None:
    length = 21
    q, k, v = tensors(length, length)
    table = torch.randn(32, H, requires_grad=True)
    given = {
        "causal": True,
        "segments": documents(length),
        "bias": T5Bias(table, bidirectional=False),
    }
    prepared = prepare_mask(length, device="cpu", **given)
    assert prepared.additive is not None
    twice = attention(q, k, v, mask=prepared) + attention(v, q, k, mask=prepared)
    plain = attention(q, k, v, **given) + attention(v, q, k, **given)
    torch.testing.assert_close(twice, plain)
    (prepared_gradient,) = torch.autograd.grad(twice.square().sum(), table)
    (plain_gradient,) = torch.autograd.grad(plain.square().sum(), table)
    torch.testing.assert_close(prepared_gradient, plain_gradient)
    with pytest.raises(KernelInputError, match="mask"):
        attention(q, k, v, mask=prepared, causal=True)
    with pytest.raises(KernelInputError, match="21 queries"):
        attention(q[:, :5], k, v, mask=prepared)


def test_plain_causal_builds_no_mask() -> None:
    assert prepare_mask(64, device="cpu", causal=True).visible is None
    assert prepare_mask(64, device="cpu").visible is None
    shared = prepare_mask(64, device="cpu", causal=True, segments=torch.zeros(3, 64, dtype=torch.int64)).visible
    assert shared is not None and shared.shape == (3, 1, 64, 64) and shared.dtype == torch.bool


def test_cu_seqlens_is_segments_and_is_each_document_alone() -> None:
    offsets = torch.tensor([0, 5, 5, 12, 20])
    q, k, v = (torch.randn(1, 20, H, D, dtype=torch.float64) for _ in range(3))
    packed = attention(q, k, v, causal=True, cu_seqlens=offsets)
    for start, stop in ((0, 5), (5, 12), (12, 20)):
        alone = attention(q[:, start:stop], k[:, start:stop], v[:, start:stop], causal=True)
        torch.testing.assert_close(packed[:, start:stop], alone)


def test_rows_that_see_nothing_give_zero_with_zero_gradient() -> None:
    for backend in ("reference", "sdpa"):
        q, k, v = tensors(8, 8)
        out = attention(q, k, v, kv_lens=torch.tensor([8, 0]), backend=backend)
        gradients = torch.autograd.grad(out.sum(), (q, k, v))
        assert (out[1] == 0).all() and (out[0] != 0).any()
        assert all((g[1] == 0).all() and torch.isfinite(g).all() for g in gradients)
    q, k, v = tensors(8, 8)
    out, lse = attention(q, k, v, order=torch.arange(8), strict=True, return_lse=True)
    assert (out[:, 0] == 0).all() and (lse[:, :, 0] == -math.inf).all() and torch.isfinite(lse[:, :, 1:]).all()
    gradients = torch.autograd.grad(out.sum() + lse[:, :, 1:].sum(), (q, k, v))
    assert all(torch.isfinite(g).all() for g in gradients) and (gradients[0][:, 0] == 0).all()


def test_lse_sink_and_softcap_against_formulas() -> None:
    q, k, v = (x.detach() for x in tensors(7, 9, dtype=torch.float64))
    sink = torch.randn(H, dtype=torch.float64)
    scores = torch.einsum("bihd,bjhd->bhij", q, k) * 0.3
    scores = 2.0 * torch.tanh(scores / 2.0)
    out, lse = attention(q, k, v, scale=0.3, softcap=2.0, sink=sink, return_lse=True)
    with_sink = torch.cat([scores, sink.view(1, H, 1, 1).expand(B, H, 7, 1)], dim=-1)
    torch.testing.assert_close(lse, torch.logsumexp(with_sink, -1))
    expected = torch.einsum("bhij,bjhd->bihd", torch.softmax(with_sink, -1)[..., :-1], v)
    torch.testing.assert_close(out, expected)


def test_two_halves_merge_by_their_lse_with_gradient() -> None:
    """What ring attention does; the gradient through lse is part of it."""
    q, k, v = tensors(6, 10, dtype=torch.float64)
    outs, lses = zip(
        *(attention(q, k[:, a:b], v[:, a:b], return_lse=True) for a, b in ((0, 4), (4, 10))),
        strict=True,
    )
    weights = torch.softmax(torch.stack(lses), 0).transpose(2, 3).unsqueeze(-1)
    merged = (torch.stack(outs) * weights).sum(0)
    whole = attention(q, k, v)
    torch.testing.assert_close(merged, whole)
    for ours, oracle in zip(
        torch.autograd.grad(merged.square().sum(), (q, k, v)),
        torch.autograd.grad(whole.square().sum(), (q, k, v)),
        strict=True,
    ):
        torch.testing.assert_close(ours, oracle)


def test_t5_buckets_match_the_published_values() -> None:
    """Bucket boundaries of the 32-bucket, distance-128 table (T5's released code gives these)."""
    from kernels.attention.masks import t5_buckets

    relative = torch.tensor(
        [
            0,
            -1,
            -7,
            -8,
            -11,
            -12,
            -15,
            -16,
            -22,
            -23,
            -31,
            -32,
            -45,
            -46,
            -63,
            -64,
            -90,
            -91,
            -500,
        ]
    )
    both = t5_buckets(relative, True, 32, 128)
    assert both.tolist() == [
        0,
        1,
        7,
        8,
        8,
        9,
        9,
        10,
        10,
        11,
        11,
        12,
        12,
        13,
        13,
        14,
        14,
        15,
        15,
    ]
    assert torch.equal(t5_buckets(-relative[1:], True, 32, 128), both[1:] + 16)
    assert (t5_buckets(-relative, False, 32, 128) == 0).all()
    decoder = t5_buckets(torch.tensor([-15, -16, -18, -19, -127, -128]), False, 32, 128)
    assert decoder.tolist() == [15, 16, 16, 17, 31, 31]


def test_philox_known_answers() -> None:
    """The generator's published test vectors are for ten rounds (Random123's kat_vectors)."""
    from kernels.attention import dropout

    rounds, dropout.ROUNDS = dropout.ROUNDS, 10
    try:
        zero = torch.tensor(0)
        words = philox(zero, zero, zero, zero, zero)
        ones = torch.tensor(0xFFFFFFFF)
        full = philox(torch.tensor(-1), ones, ones, ones, ones)
    finally:
        dropout.ROUNDS = rounds
    assert [hex(int(w)) for w in words] == [
        "0x6627e8d5",
        "0xe169c58d",
        "0xbc57ac4c",
        "0x9b00dbd8",
    ]
    assert [hex(int(w)) for w in full] == [
        "0x408f276d",
        "0x41c83b0e",
        "0xa20bc7c6",
        "0x6d5451fd",
    ]


def test_dropout_keeps_the_right_share_and_repeats() -> None:
    q, k, v = (x.detach() for x in tensors(64, 64))
    keep = keep_mask(3, 0.17, 4, 4, 64, 65, torch.device("cpu"))
    share = keep.double().mean().item()
    spread = math.sqrt(0.17 * 0.83 / keep.numel())
    assert abs(share - 0.83) < 5 * spread
    first = attention(q, k, v, dropout_p=0.17, seed=3)
    assert torch.equal(first, attention(q, k, v, dropout_p=0.17, seed=torch.tensor(3)))
    assert not torch.equal(first, attention(q, k, v, dropout_p=0.17, seed=4))
    shorter = keep_mask(3, 0.17, 4, 4, 10, 7, torch.device("cpu"))
    assert torch.equal(shorter, keep[:, :, :10, :7])


def test_compiles_without_a_graph_break_and_equals_eager() -> None:
    length = 24
    q, k, v = tensors(length, length, kv_heads=2)
    segments = documents(length)
    table = torch.randn(32, H, requires_grad=True)

    def layers(q, k, v, segments, table):
        mask = prepare_mask(length, device=q.device, causal=True, segments=segments)
        x = attention(q, k, v, mask=mask)
        x = attention(x, k, v, causal=True, bias=T5Bias(table, bidirectional=False))
        return attention(x, k, v, softcap=5.0, window=(3, 3))

    compiled = torch.compile(layers, fullgraph=True)
    ours, oracle = compiled(q, k, v, segments, table), layers(q, k, v, segments, table)
    torch.testing.assert_close(ours, oracle)
    for a, b in zip(
        torch.autograd.grad(ours.square().sum(), (q, k, v, table)),
        torch.autograd.grad(oracle.square().sum(), (q, k, v, table)),
        strict=True,
    ):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


def test_any_strides() -> None:
    fused = torch.randn(B, 3, H, 15, 2 * D, dtype=torch.float64)[..., ::2].permute(0, 3, 1, 2, 4)
    q, k, v = fused.unbind(2)
    for backend in ("reference", "sdpa"):
        strided = attention(q, k, v, causal=True, backend=backend)
        dense = attention(q.contiguous(), k.contiguous(), v.contiguous(), causal=True, backend=backend)
        torch.testing.assert_close(strided, dense)


def test_scaled_dot_product_is_plain() -> None:
    q, k, v = (x.detach() for x in tensors(11, 11))
    expected = F.scaled_dot_product_attention(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2))
    torch.testing.assert_close(attention(q, k, v, backend="reference"), expected.transpose(1, 2))
