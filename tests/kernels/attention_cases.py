"""One attention case from a dict of named choices, run by a backend, the same-dtype formula and float64."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations, product
from typing import Any

import torch
import two_times
from torch import Tensor

from kernels import Alibi, Dense, T5Bias, attention
from kernels.attention.arguments import build_spec
from kernels.attention.reference import reference_attention

FACTORS: dict[str, tuple[Any, ...]] = {
    "dtype": (torch.bfloat16, torch.float16, torch.float32),
    "lengths": ((48, 48), (33, 70), (70, 33), (1, 65)),
    "heads": ((2, 2), (4, 2), (3, 1)),
    "head_dim": (16, 40, 64),
    "layout": ("dense", "transposed", "strided", "expanded"),
    "causal": (False, True),
    "window": (None, (7, 5), (20, None)),
    "bias": (None, "alibi", "t5", "t5 decoder", "dense", "dense shared", "dense row", "dense col"),
    "segments": (None, "documents", "shuffled"),
    "kv_lens": (False, True),
    "order": (None, "content", "query"),
    "softcap": (0.0, 3.0),
    "sink": (False, True),
    "dropout_p": (0.0, 0.25),
    "lse": (False, True),
}

# bidirectional, buckets, distance: the short ones have far tiles of 16 tokens at a few dozens of them.
T5 = {
    "t5": (True, 16, 40), "t5 decoder": (False, 16, 40), "t5 short": (True, 4, 8), "t5 short decoder": (False, 4, 6),
    "t5 8/20": (True, 8, 20), "t5 32/128": (True, 32, 128), "t5 32/128 decoder": (False, 32, 128),
    "t5 64/256": (True, 64, 256),
}  # fmt: skip


def pairwise(factors: dict[str, tuple[Any, ...]], seed: int = 0) -> list[dict[str, Any]]:
    """Cases such that any two values of any two factors meet in at least one: greedy, a few dozen for these factors."""
    rng = random.Random(seed)
    names = list(factors)
    open_pairs = {
        (a, i, b, j)
        for a, b in combinations(names, 2)
        for i, j in product(range(len(factors[a])), range(len(factors[b])))
    }
    cases = []
    while open_pairs:
        best: tuple[int, dict[str, int]] = (-1, {})
        start = next(iter(sorted(open_pairs)))
        for _attempt in range(12):
            chosen = {start[0]: start[1], start[2]: start[3]}
            rest = [n for n in names if n not in chosen]
            rng.shuffle(rest)
            for name in rest:

                def gain(value: int, name: str = name, chosen: dict[str, int] = chosen, left: set = open_pairs) -> int:
                    return sum((name, value, o, v) in left or (o, v, name, value) in left for o, v in chosen.items())

                values = list(range(len(factors[name])))
                rng.shuffle(values)
                chosen[name] = max(values, key=gain)
            covered = sum((a, chosen[a], b, chosen[b]) in open_pairs for a, b in combinations(names, 2))
            best = max(best, (covered, chosen), key=lambda pair: pair[0])
        chosen = best[1]
        open_pairs -= {(a, chosen[a], b, chosen[b]) for a, b in combinations(names, 2)}
        cases.append({name: factors[name][chosen[name]] for name in names})
    return cases


def random_case(rng: random.Random) -> dict[str, Any]:
    """Small odd shapes; each feature is present in about a third of the cases."""
    heads_kv = rng.choice((1, 1, 2))
    case = {name: rng.choice((values[0], *values)) for name, values in FACTORS.items()}
    case["lengths"] = (rng.randint(1, 75), rng.randint(1, 75))
    case["heads"] = (heads_kv * rng.choice((1, 1, 2, 3)) if heads_kv == 1 else 2, heads_kv)
    case["head_dim"] = rng.choice((rng.randint(1, 80), rng.randint(1, 80), 32, 64))
    case["layout"] = rng.choice(FACTORS["layout"])
    case["batch"] = rng.choice((1, 1, 2))
    for name in ("bias", "segments", "order", "window"):
        if rng.random() < 0.5:
            case[name] = None
    return case


def _tensor(shape: tuple[int, ...], layout: str, dtype: torch.dtype, device: str) -> Tensor:
    """[B, S, H, D] of normal numbers in a memory layout; a leaf that wants a gradient."""
    batch, length, heads, dim = shape
    if layout == "transposed":
        value = torch.randn(batch, heads, length, dim).transpose(1, 2)
    elif layout == "strided":
        value = torch.randn(length, batch, dim * 2, heads + 1)[:, :, ::2, 1:].permute(1, 0, 3, 2)
    elif layout == "expanded":
        value = torch.randn(1, length, heads, dim).expand(shape)
    else:
        value = torch.randn(shape)
    return value.to(device=device, dtype=dtype).detach().requires_grad_()


def _segments(kind: str, batch: int, length: int) -> Tensor:
    numbers = torch.sort(torch.randint(0, 4, (batch, length)), dim=1).values
    if kind == "shuffled":
        return torch.randint(-1, 3, (batch, length))
    numbers[:, : length // 8] = -1
    return numbers


def build(case: dict[str, Any], device: str) -> tuple[list[Tensor], dict[str, Any], dict[str, Tensor]]:
    """(q, k, v), the keyword arguments of `attention`, and the further leaves by name."""
    (q_len, k_len), (heads, kv_heads), dim = case["lengths"], case["heads"], case["head_dim"]
    batch, dtype, layout = case.get("batch", 2), case["dtype"], case["layout"]
    qkv = [
        _tensor((batch, n, h, dim), layout, dtype, device)
        for n, h in ((q_len, heads), (k_len, kv_heads), (k_len, kv_heads))
    ]
    leaves: dict[str, Tensor] = {}
    arguments: dict[str, Any] = {"causal": bool(case["causal"]), "window": case["window"], "softcap": case["softcap"]}
    kind = case["bias"]
    if kind == "alibi":
        arguments["bias"] = Alibi(torch.rand(heads, device=device))
    elif kind in T5:
        leaves["table"] = torch.randn(T5[kind][1], heads, device=device, requires_grad=True)
        arguments["bias"] = T5Bias(leaves["table"], *T5[kind])
    elif kind:
        shape = {
            "dense": (batch, heads, q_len, k_len),
            "dense shared": (1, heads, q_len, k_len),
            "dense row": (batch, 1, 1, k_len),
            "dense col": (1, heads, q_len, 1),
        }[kind]
        leaves["dense"] = torch.randn(shape, device=device).to(dtype).requires_grad_()
        arguments["bias"] = Dense(leaves["dense"])
    if case["segments"]:
        pair = (_segments(case["segments"], batch, q_len), _segments(case["segments"], batch, k_len))
        arguments["segments"] = tuple(s.to(device) for s in pair)
    if case["kv_lens"]:
        arguments["kv_lens"] = torch.randint(0, k_len + 1, (batch,)).to(device)
    if case["order"]:
        ranks = torch.stack([torch.randperm(max(q_len, k_len)) for _ in range(batch)]).to(device)
        arguments["order"] = (ranks[:, :q_len], ranks[:, :k_len])
        arguments["strict"] = case["order"] == "query"
    if case["sink"]:
        leaves["sink"] = torch.randn(heads, device=device, requires_grad=True)
        arguments["sink"] = leaves["sink"]
    if case["dropout_p"]:
        arguments.update(dropout_p=case["dropout_p"], seed=(5 << 32) + 77)
    return qkv, arguments, leaves


def doubled(arguments: dict[str, Any], leaves: dict[str, Tensor]) -> tuple[dict[str, Any], list[Tensor]]:
    """The same arguments with float64 leaves."""
    found = {name: leaf.detach().double().requires_grad_() for name, leaf in leaves.items()}
    changed = dict(arguments)
    if "table" in found:
        changed["bias"] = replace(arguments["bias"], table=found["table"])
    if "dense" in found:
        changed["bias"] = Dense(found["dense"])
    if "sink" in found:
        changed["sink"] = found["sink"]
    return changed, list(found.values())


def formula(q: Tensor, k: Tensor, v: Tensor, arguments: dict[str, Any]) -> tuple[Tensor, Tensor]:
    """The reference with every step in the dtype of q, as one would write it in PyTorch."""
    full: dict[str, Any] = dict.fromkeys(
        ("window", "bias", "segments", "cu_seqlens", "kv_lens", "order", "sink", "seed")
    )
    full.update({"causal": False, "strict": False} | arguments)
    full["scale"] = full.get("scale") or q.shape[3] ** -0.5
    spec = build_spec(
        q_len=q.shape[1], k_len=k.shape[1], batch=q.shape[0], heads=q.shape[2], device=q.device, **full
    )  # fmt: skip
    return reference_attention(q, k, v, spec, compute_dtype=q.dtype)


def run(case: dict[str, Any], device: str, backend: str = "triton") -> None:
    """Forward and every gradient of the case under the two-times rule."""
    qkv, arguments, leaves = build(case, device)
    wide_arguments, wide_leaves = doubled(arguments, leaves)
    wide = [x.detach().double().requires_grad_() for x in qkv]
    weight = torch.randn(qkv[0].shape, dtype=torch.float64, device=device)
    lse_weight = torch.randn(weight.shape[0], weight.shape[2], weight.shape[1], dtype=torch.float64, device=device)

    def results(out: Tensor, lse: Tensor, inputs: list[Tensor]) -> list[Tensor]:
        loss = (out.double() * weight.to(out.dtype)).sum()
        if case["lse"]:
            loss = loss + (lse.double() * lse_weight).masked_fill(torch.isinf(lse), 0.0).sum()
        return [out, lse, *torch.autograd.grad(loss, inputs)]

    inputs = [*qkv, *leaves.values()]
    ours = results(*attention(*qkv, **arguments, return_lse=True, backend=backend), inputs)
    peers = results(*formula(*qkv, arguments), inputs)
    oracles = results(*formula(*wide, wide_arguments), [*wide, *wide_leaves])
    two_times.check(["out", "lse", "dq", "dk", "dv", *(f"d{n}" for n in leaves)], ours, peers, oracles, case["dtype"])


def describe(case: dict[str, Any]) -> Iterator[str]:
    return (f"{name}={value}" for name, value in case.items() if value not in (None, False, 0.0))
