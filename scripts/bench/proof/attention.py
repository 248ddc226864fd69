"""The cases of attention: ours beside SDPA's flash and cuDNN, Flex, and flash over ragged rows, each at its best."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from kernels import T5Bias, attention, prepare_mask
from proof.measure import Built, Contestant
from proof.plan import HIDDEN, TOKENS, flex_is_asked

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
OWN = "triton" if DEVICE == "cuda" else "auto"  # a CPU shows that the cases run, through PyTorch's operations
DTYPE = torch.bfloat16
WINDOW = 1024
DOCUMENT = 1024  # tokens of a packed document on average
BUCKETS, FARTHEST = 32, 128  # of T5's table
LEAVES = ("dq", "dk", "dv", "dtable")


def sized(number: int) -> int:
    """The number; a small share of it on a CPU, where there is nothing but a dry run."""
    return number if DEVICE == "cuda" else max(1, number // 128)


class Problem:
    """The tensors of a case, made once for all contestants. q [B, S, H, D], k and v [B, S, Hkv, D], bf16."""

    def __init__(self, kind: str, head: int, length: int) -> None:
        torch.manual_seed(0)
        self.kind, self.head, self.length = kind, head, sized(length)
        self.batch = max(1, sized(TOKENS) // self.length)
        self.heads = HIDDEN // head if DEVICE == "cuda" else 4
        self.kv_heads = self.heads // 4 if kind == "gqa" else self.heads
        self.q, self.k, self.v = (
            torch.randn(self.batch, self.length, n, head, device=DEVICE, dtype=DTYPE, requires_grad=True)
            for n in (self.heads, self.kv_heads, self.kv_heads)
        )
        self.dout = torch.randn_like(self.q)
        self.causal = kind not in ("full", "t5", "order", "dropout")
        self.scale = 1.0 if kind == "t5" else head**-0.5
        self.inputs = [self.q, self.k, self.v]
        self.table: Tensor | None = None
        if kind == "t5":
            self.table = torch.randn(BUCKETS, self.heads, device=DEVICE, requires_grad=True)
            self.inputs.append(self.table)
        self.segments = documents(self.batch, self.length).to(DEVICE) if kind == "packed" else None
        ranks = [torch.randperm(self.length) for _ in range(self.batch)]
        self.ranks = torch.stack(ranks).to(DEVICE, torch.int32) if kind == "order" else None

    def masks(self) -> dict[str, Any]:
        """What is visible, as `attention` and `prepare_mask` take it."""
        window = (WINDOW - 1, 0) if self.kind == "window" else None
        return {"causal": self.causal, "window": window, "segments": self.segments, "order": self.ranks}

    def visible(self) -> Tensor | None:
        """The same as the S x S mask that SDPA needs, bool [B or 1, 1, S, S]; None where causality is all."""
        places = torch.arange(self.length, device=DEVICE)
        seen = places[:, None] >= places
        if self.kind == "window":
            return (seen & (places[:, None] - places < WINDOW))[None, None]
        if self.segments is not None:
            return (seen & (self.segments[:, :, None] == self.segments[:, None, :]))[:, None]
        if self.ranks is not None:
            return (self.ranks[:, :, None] >= self.ranks[:, None, :])[:, None]
        return None

    def buckets(self) -> Tensor:
        """int64 [S, S]: T5's bucket of key minus query, both directions (Raffel et al., arXiv 1910.10683, 2.1)."""
        places = torch.arange(self.length, device=DEVICE)
        relative = places - places[:, None]
        half = BUCKETS // 2
        exact = half // 2
        far = torch.log(relative.abs().clamp(min=1).float() / exact) / math.log(FARTHEST / exact) * (half - exact)
        far = (exact + far.long()).clamp(max=half - 1)
        return half * (relative > 0) + torch.where(relative.abs() < exact, relative.abs(), far)

    def flop(self) -> tuple[float, float]:
        """4 B H S^2 D forward and 2.5 times that backward, of the pairs that are seen (FlashAttention's benchmark)."""
        visible = self.visible()
        pairs = self.batch * self.length**2 / (2 if self.causal else 1)
        if self.kind in ("packed", "window") and visible is not None:
            pairs = float(visible.expand(self.batch, -1, -1, -1).sum())
        forward = 4.0 * self.heads * pairs * self.head
        return forward, 3.5 * forward

    def contestant(self, forward: Callable[[], Tensor]) -> Contestant:
        return Contestant(forward, self.inputs, [self.dout], self.results)

    # --- the error: one key head and its query heads in fp64, of the first row; of all rows where a table is shared ---

    def _part(self) -> tuple[slice, slice, slice]:
        rows = slice(None) if self.table is not None else slice(0, 1)
        return rows, slice(0, self.heads // self.kv_heads), slice(0, 1)

    def results(self, outputs: tuple[Tensor, ...], gradients: tuple[Tensor, ...]) -> dict[str, Tensor]:
        rows, group, one = self._part()
        found = {"out": outputs[0][rows, :, group], "dq": gradients[0][rows, :, group]}
        found |= {"dk": gradients[1][rows, :, one], "dv": gradients[2][rows, :, one]}
        if self.table is not None:
            found["dtable"] = gradients[3][:, one]
        return {name: tensor.detach().clone() for name, tensor in found.items()}

    def reference(self) -> dict[str, Tensor]:
        """The tensors of `results` from the written formula in fp64."""
        rows, group, one = self._part()
        q, k, v = (
            x.detach()[rows, :, heads].double().requires_grad_()
            for x, heads in ((self.q, group), (self.k, one), (self.v, one))
        )
        leaves, options = [q, k, v], self.masks()
        for name in ("segments", "order"):
            options[name] = None if options[name] is None else options[name][rows]
        if self.table is not None:
            leaves.append(self.table.detach()[:, one].double().requires_grad_())
            options["bias"] = T5Bias(leaves[3], True, BUCKETS, FARTHEST)
        if self.kind == "dropout":
            options |= {"dropout_p": 0.1, "seed": 1}
        out = attention(q, k, v, scale=self.scale, backend="reference", **options)
        gradients = torch.autograd.grad(out, leaves, self.dout[rows, :, group].double())
        names = ("out", *LEAVES[: len(leaves)])
        return {name: x.detach() for name, x in zip(names, (out, *gradients), strict=True)}


def documents(batch: int, length: int) -> Tensor:
    """int32 [B, S]: the number of each token's document; cut at random, about DOCUMENT tokens each."""
    chance = torch.Generator().manual_seed(0)
    count = max(2, length // sized(DOCUMENT))
    rows = []
    for _ in range(batch):
        cuts = torch.sort(torch.randperm(length - 1, generator=chance)[: count - 1] + 1).values
        rows.append(torch.bucketize(torch.arange(length), cuts, right=True))
    return torch.stack(rows).to(torch.int32)


# --- the contestants ---


def own(p: Problem) -> Contestant:
    """Ours; what a mask needs is prepared once for all layers, as in training, and not in the time."""
    options: dict[str, Any] = {"scale": p.scale, "backend": OWN}
    if p.kind == "dropout":
        options |= {"dropout_p": 0.1, "seed": 1}
    if p.segments is None and p.ranks is None and p.table is None:
        options |= p.masks()
    else:
        bias = None if p.table is None else T5Bias(p.table, True, BUCKETS, FARTHEST)
        options["mask"] = prepare_mask(p.length, device=DEVICE, dtype=DTYPE, bias=bias, backend=OWN, **p.masks())
    return p.contestant(partial(attention, p.q, p.k, p.v, **options))


def sdpa(p: Problem, kind: SDPBackend | None, mask: Callable[[], Tensor] | None = None) -> Contestant:
    def forward() -> Tensor:
        q, k, v = (x.transpose(1, 2) for x in (p.q, p.k, p.v))
        options: dict[str, Any] = {"scale": p.scale, "enable_gqa": p.kv_heads != p.heads}
        options |= {"is_causal": p.causal} if mask is None else {"attn_mask": mask()}
        if kind is None:
            return F.scaled_dot_product_attention(q, k, v, **options).transpose(1, 2)
        with sdpa_kernel(kind):
            return F.scaled_dot_product_attention(q, k, v, **options).transpose(1, 2)

    return p.contestant(forward)


def masked(p: Problem) -> Contestant:
    """SDPA with the S x S mask (made before) or T5's dense bias (made in the pass: its gradient goes to the table)."""
    if p.table is not None:
        buckets, table = p.buckets(), p.table
        return sdpa(p, None, lambda: F.embedding(buckets, table).permute(2, 0, 1)[None].to(DTYPE))
    visible = p.visible()
    assert visible is not None
    return sdpa(p, None, lambda: visible)


def ragged(p: Problem) -> Contestant:
    """Flash over the documents as rows of their own lengths: no pair of two documents is ever looked at."""
    from torch.nn.attention.varlen import varlen_attn

    assert p.segments is not None
    lengths = [int(n) for row in p.segments.cpu() for n in torch.bincount(row)]
    ends = torch.tensor([0, *lengths]).cumsum(0).to(DEVICE, torch.int32)
    causal = (
        {"is_causal": True} if "is_causal" in inspect.signature(varlen_attn).parameters else {"window_size": (-1, 0)}
    )

    def forward() -> Tensor:
        flat = (x.flatten(0, 1) for x in (p.q, p.k, p.v))
        return varlen_attn(*flat, ends, ends, max(lengths), max(lengths), **causal).unflatten(0, (p.batch, p.length))

    return p.contestant(forward)


def flex(p: Problem) -> Contestant:
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    torch.compiler.reset()  # a limit of recompilations would else leave later shapes to the eager form
    compiled = torch.compile(flex_attention, dynamic=False)
    segments, ranks, table, length = p.segments, p.ranks, p.table, p.length
    seen: dict[str, Callable[..., Tensor]] = {
        "causal": lambda b, h, i, j: i >= j,
        "gqa": lambda b, h, i, j: i >= j,
        "window": lambda b, h, i, j: (i >= j) & (i - j < WINDOW),
    }
    if segments is not None:
        seen["packed"] = lambda b, h, i, j: (i >= j) & (segments[b, i] == segments[b, j])
    if ranks is not None:
        seen["order"] = lambda b, h, i, j: ranks[b, i] >= ranks[b, j]
    rows = p.batch if p.kind in ("packed", "order") else None
    mask = create_block_mask(seen[p.kind], rows, None, length, length, device=DEVICE) if p.kind in seen else None
    score = None
    if table is not None:
        buckets = p.buckets()

        def score(score: Tensor, b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
            return score + table[buckets[i, j], h]

    options = {"score_mod": score, "block_mask": mask, "scale": p.scale, "enable_gqa": p.kv_heads != p.heads}
    return p.contestant(lambda: compiled(*(x.transpose(1, 2) for x in (p.q, p.k, p.v)), **options).transpose(1, 2))


def build(kind: str, head: int, length: int) -> Built:
    """A case of plan.py with its contestants; what makes one may raise, and it is then left out with its reason."""
    p = Problem(kind, head, length)
    contestants: dict[str, Callable[[], Contestant]] = {"isoflop": partial(own, p)}
    if kind in ("causal", "full", "gqa"):
        contestants["flash"] = partial(sdpa, p, SDPBackend.FLASH_ATTENTION)
        contestants["cudnn"] = partial(sdpa, p, SDPBackend.CUDNN_ATTENTION)
    elif kind != "dropout":  # PyTorch's draws another mask, and has no dropout beside a bias in flash
        contestants["sdpa mask" if kind != "t5" else "sdpa bias"] = partial(masked, p)
    if kind == "packed":
        contestants["flash ragged"] = partial(ragged, p)
    if DEVICE == "cuda" and kind != "dropout" and flex_is_asked(kind, length):
        contestants["flex"] = partial(flex, p)
    return Built(contestants, p.flop(), None, p.reference)


def build_table(kind: str, head: int, length: int) -> Built:
    """The gradient of T5's table alone beside the same from a dense bias."""
    p = Problem(kind, head, length)
    assert p.table is not None

    def alone(contestant: Contestant) -> Contestant:
        names = ("out", "dtable")

        def results(outputs: tuple[Tensor, ...], gradients: tuple[Tensor, ...]) -> dict[str, Tensor]:
            rows, group, one = p._part()
            found = (outputs[0][rows, :, group], gradients[0][:, one])
            return {name: x.detach().clone() for name, x in zip(names, found, strict=True)}

        return Contestant(contestant.forward, [p.inputs[3]], [p.dout], results)

    contestants = {"isoflop": lambda: alone(own(p)), "sdpa bias": lambda: alone(masked(p))}
    return Built(contestants, None, None, p.reference)
