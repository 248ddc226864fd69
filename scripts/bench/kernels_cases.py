"""What the kernel benchmark times: each case gives the same work to our kernels and to named peers.

A case is a function that yields (setting, work, flop or bytes); work maps a name ("isoflop" first) to a callable that
does one forward and backward pass. A peer that is missing or refuses is left out, and the report says why.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from kernels import T5Bias, attention, layer_norm, linear_cross_entropy, prepare_mask, rms_norm, rotary, rotary_tables
from kernels.attention.masks import bias_tensor

Work = Callable[[], Any]
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def sized(number: int) -> int:
    """The number; a small share of it on a CPU, where there is nothing but a dry run."""
    return number if DEVICE == "cuda" else max(1, number // 128)


@dataclass
class Case:
    """flop: of one forward and backward pass; moved: bytes that must move, for kernels that memory bounds."""

    name: str
    setting: str
    work: dict[str, Work]
    flop: float | None = None
    moved: float | None = None
    goal: str = ""
    notes: list[str] = field(default_factory=list)


def attention_flop(batch: int, heads: int, length: int, dim: int, causal: bool) -> float:
    """4 B H S^2 D forward, 2.5 times that backward, half of it where causal (FlashAttention's benchmark)."""
    return 3.5 * 4 * batch * heads * length**2 * dim / (2 if causal else 1)


def _qkv(batch: int, length: int, heads: int, dim: int) -> list[Tensor]:
    shape = (batch, length, heads, dim)
    return [torch.randn(shape, device=DEVICE, dtype=torch.bfloat16, requires_grad=True) for _ in range(3)]


def _both(forward: Callable[[], Tensor], inputs: list[Tensor], dout: Tensor) -> None:
    torch.autograd.grad(forward(), inputs, dout)


def _sdpa(q: Tensor, k: Tensor, v: Tensor, kind: SDPBackend | None, **options: Any) -> Tensor:
    heads_first = (x.transpose(1, 2) for x in (q, k, v))
    if kind is None:
        return F.scaled_dot_product_attention(*heads_first, **options).transpose(1, 2)
    with sdpa_kernel(kind):
        return F.scaled_dot_product_attention(*heads_first, **options).transpose(1, 2)


def _flex(q: Tensor, k: Tensor, v: Tensor, mask_mod: Callable[..., Tensor] | None) -> Callable[[], Tensor]:
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    compiled = torch.compile(flex_attention)
    length = q.shape[1]
    blocks = None if mask_mod is None else create_block_mask(mask_mod, None, None, length, length, device=DEVICE)

    def forward() -> Tensor:
        return compiled(*(x.transpose(1, 2) for x in (q, k, v)), block_mask=blocks).transpose(1, 2)

    return forward


def plain_attention(quick: bool) -> Iterator[Case]:
    """Head 64 and 128, 2k to 16k, causal and not; 16k tokens, hidden size 2048."""
    for dim in (64, 128):
        for length in (2048, 8192) if quick else (2048, 8192, 16384):
            for causal in (True, False):
                batch, heads, tokens = sized(16384 // length), sized(2048 // dim), sized(length)
                q, k, v = _qkv(batch, tokens, heads, dim)
                dout = torch.randn_like(q)
                run = partial(_both, inputs=[q, k, v], dout=dout)
                sdpa = partial(_sdpa, q, k, v, is_causal=causal)
                work: dict[str, Work] = {
                    "isoflop": partial(run, partial(attention, q, k, v, causal=causal, backend="triton")),
                    "sdpa flash": partial(run, partial(sdpa, SDPBackend.FLASH_ATTENTION)),
                    "sdpa cudnn": partial(run, partial(sdpa, SDPBackend.CUDNN_ATTENTION)),
                }
                if length == 8192:
                    mod = (lambda b, h, i, j: i >= j) if causal else None
                    work["flex"] = partial(run, _flex(q, k, v, mod))
                yield Case(
                    "attention", f"head {dim}, {batch} x {tokens}, {'causal' if causal else 'full'}", work,
                    attention_flop(batch, heads, tokens, dim, causal),
                    goal="1.3x sdpa flash; 1.0x (head 64) or 0.9x (head 128) sdpa cudnn",
                )  # fmt: skip


def t5_attention(quick: bool) -> Iterator[Case]:
    """T5-base's heads with the gradient of the bucket table, against SDPA with the dense bias it stands for."""
    for batch, length in ((sized(32), sized(512)), (sized(4), sized(2048))):
        q, k, v = _qkv(batch, length, 12, 64)
        dout = torch.randn_like(q)
        table = torch.randn(32, 12, device=DEVICE, requires_grad=True)
        bias = T5Bias(table)
        run = partial(_both, inputs=[q, k, v, table], dout=dout)

        def dense(q: Tensor = q, k: Tensor = k, v: Tensor = v, bias: T5Bias = bias, n: int = length) -> Tensor:
            additive = bias_tensor(bias, n, n, torch.bfloat16, q.device)
            return _sdpa(q, k, v, None, attn_mask=additive, scale=1.0)

        yield Case(
            "T5 bias", f"{batch} x {length}, 12 heads of 64",
            {
                "isoflop": partial(run, partial(attention, q, k, v, bias=bias, scale=1.0, backend="triton")),
                "sdpa dense bias": partial(run, dense),
            },
            attention_flop(batch, 12, length, 64, False), goal="5x sdpa with a dense bias, without its S x S memory",
        )  # fmt: skip


def packed_attention(quick: bool) -> Iterator[Case]:
    """Documents of about 1k tokens packed into 16k, causal."""
    length = sized(16384)
    heads = sized(16)
    q, k, v = _qkv(1, length, heads, 128)
    dout = torch.randn_like(q)
    cuts = torch.sort(torch.randperm(length - 1, generator=torch.Generator().manual_seed(0))[:15] + 1).values
    segments = torch.bucketize(torch.arange(length), cuts, right=True).to(DEVICE, torch.int32).unsqueeze(0)
    mask = prepare_mask(length, device=DEVICE, causal=True, segments=segments, backend="triton")
    run = partial(_both, inputs=[q, k, v], dout=dout)

    def same(b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
        return (i >= j) & (segments[0, i] == segments[0, j])

    yield Case(
        "packed documents", f"16 documents in {length}, {heads} heads of 128, causal",
        {
            "isoflop": partial(run, partial(attention, q, k, v, mask=mask, backend="triton")),
            "flex": partial(run, _flex(q, k, v, same)),
        },
        goal="1.0x flex",
    )  # fmt: skip


def order_attention(quick: bool) -> Iterator[Case]:
    """XLNet's content stream: a rank vector, against SDPA with the S x S mask it stands for."""
    batch, length, heads = sized(8), sized(2048), sized(16)
    q, k, v = _qkv(batch, length, heads, 64)
    dout = torch.randn_like(q)
    ranks = torch.stack([torch.randperm(length) for _ in range(batch)]).to(DEVICE, torch.int32)
    visible = (ranks[:, None, :, None] >= ranks[:, None, None, :]).contiguous()
    run = partial(_both, inputs=[q, k, v], dout=dout)
    yield Case(
        "XLNet order", f"{batch} x {length}, {heads} heads of 64",
        {
            "isoflop": partial(run, partial(attention, q, k, v, order=ranks, backend="triton")),
            "sdpa mask": partial(run, partial(_sdpa, q, k, v, None, attn_mask=visible)),
        },
        goal="5x sdpa with a mask",
    )  # fmt: skip


def losses(quick: bool) -> Iterator[Case]:
    """Linear + cross-entropy of 16k tokens at two vocabularies."""
    tokens = sized(16384)
    for classes, size in ((sized(50304), 768), (sized(128256), 2048)):
        hidden = torch.randn(tokens, size, device=DEVICE, dtype=torch.bfloat16, requires_grad=True)
        weight = (torch.randn(classes, size, device=DEVICE) / size**0.5).bfloat16().requires_grad_()
        places = torch.randint(0, classes, (tokens,), device=DEVICE)

        def ours(h: Tensor = hidden, w: Tensor = weight, t: Tensor = places) -> None:
            torch.autograd.grad(linear_cross_entropy(h, w, t, backend="triton").total / len(t), (h, w))

        def eager(h: Tensor = hidden, w: Tensor = weight, t: Tensor = places) -> None:
            torch.autograd.grad(F.cross_entropy((h @ w.t()).float(), t), (h, w))

        work: dict[str, Work] = {"isoflop": ours, "eager": eager}
        notes = []
        try:
            from liger_kernel.transformers.functional import liger_fused_linear_cross_entropy as liger

            def theirs(h: Tensor = hidden, w: Tensor = weight, t: Tensor = places) -> None:
                found = liger(h, w, t)
                torch.autograd.grad(found[0] if isinstance(found, tuple) else found, (h, w))

            work["liger"] = theirs
        except ImportError:
            notes.append("liger is not installed")
        yield Case(
            "linear + cross-entropy", f"{tokens} x {size} -> {classes}", work, 6.0 * tokens * size * classes,
            goal="faster than eager at 1/4 of its memory", notes=notes,
        )  # fmt: skip


def bandwidth(quick: bool) -> Iterator[Case]:
    """Norms and rotary against a copy of the same bytes."""
    rows = sized(32768)
    x = torch.randn(rows, 2048, device=DEVICE, dtype=torch.bfloat16, requires_grad=True)
    weight, shift = (torch.randn(2048, device=DEVICE, requires_grad=True) for _ in range(2))
    dout = torch.randn_like(x)
    scale, offset = weight.detach().bfloat16().requires_grad_(), shift.detach().bfloat16().requires_grad_()
    size = x.numel() * x.element_size()
    target = torch.empty_like(x)
    eager = {
        "RMSNorm": partial(_both, partial(F.rms_norm, x, (2048,), scale), [x, scale], dout),
        "LayerNorm": partial(_both, partial(F.layer_norm, x, (2048,), scale, offset), [x, scale, offset], dout),
    }
    ours = {
        "RMSNorm": partial(_both, partial(rms_norm, x, weight, backend="triton"), [x, weight], dout),
        "LayerNorm": partial(_both, partial(layer_norm, x, weight, shift, backend="triton"), [x, weight, shift], dout),
    }

    def copy(times: int) -> None:
        for _ in range(times):
            target.copy_(dout)

    for name in ours:  # forward reads x and writes out; backward reads dout and x and writes dx
        work = {"isoflop": ours[name], "torch": eager[name], "two copies": partial(copy, 2)}
        yield Case(name, f"{rows} x 2048", work, moved=5.0 * size, goal="80% of copy bandwidth")
    stream = torch.randn_like(x).requires_grad_()

    def added(backend: str) -> None:
        both = rms_norm(x, weight, residual=stream, backend=backend)
        torch.autograd.grad(both, [x, stream, weight], [dout, dout])

    work = {"isoflop": partial(added, "triton"), "torch": partial(added, "torch"), "four copies": partial(copy, 4)}
    yield Case("sum and RMSNorm", f"{rows} x 2048", work, moved=8.0 * size, goal="80% of copy bandwidth")
    length = sized(4096)
    heads = torch.randn(8, length, 16, 128, device=DEVICE, dtype=torch.bfloat16, requires_grad=True)
    cos, sin = rotary_tables(torch.arange(length, device=DEVICE), 128)
    run = partial(_both, inputs=[heads], dout=torch.randn_like(heads))
    yield Case(
        "rotary", f"8 x {length}, 16 heads of 128",
        {
            "isoflop": partial(run, partial(rotary, heads, cos, sin, backend="triton")),
            "torch": partial(run, partial(rotary, heads, cos, sin, backend="torch")),
            "two copies": partial(copy, 2),
        },
        moved=4.0 * size, goal="80% of copy bandwidth",
    )  # fmt: skip


CASES: dict[str, Callable[[bool], Iterator[Case]]] = {  # the longest last: it takes what time is left
    "t5": t5_attention,
    "packed": packed_attention,
    "order": order_attention,
    "loss": losses,
    "bandwidth": bandwidth,
    "attention": plain_attention,
}
