"""The cases beside attention: the loss at an odd and an even vocabulary, norms, rotary positions, gated products."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from kernels import layer_norm, linear_cross_entropy, rms_norm, rotary, rotary_tables, swiglu
from proof import attention
from proof.attention import DEVICE, DTYPE, OWN, sized
from proof.measure import Built, Contestant

WIDTH = 768  # of GPT-2 124M, for the loss
WIDE = 2048


def _named(*names: str) -> Callable[[tuple[Tensor, ...], tuple[Tensor, ...]], dict[str, Tensor]]:
    """results of a contestant whose outputs and gradients have these names, in this order."""
    return lambda out, gradients: {n: x.detach().clone() for n, x in zip(names, (*out, *gradients), strict=True)}


def _exact(work: Contestant, names: tuple[str, ...]) -> dict[str, Tensor]:
    out, gradients = work.both()
    return {name: x.detach() for name, x in zip(names, (*out, *gradients), strict=True)}


def loss(classes: int) -> Built:
    """Output layer and cross-entropy of 16k tokens. Reference in fp32: logits in fp64 would be 7 GB."""
    torch.manual_seed(0)
    tokens, classes = sized(16384), sized(classes)
    hidden = torch.randn(tokens, WIDTH, device=DEVICE, dtype=DTYPE, requires_grad=True)
    weight = (torch.randn(classes, WIDTH, device=DEVICE) / WIDTH**0.5).requires_grad_()  # fp32, as in training
    places = torch.randint(0, classes, (tokens,), device=DEVICE)
    names = ("loss", "dhidden", "dweight")

    def ours() -> Tensor:
        return linear_cross_entropy(hidden, weight, places, backend=OWN).total / tokens

    def eager(h: Tensor, w: Tensor) -> Tensor:
        return F.cross_entropy((h @ w.to(h.dtype).t()).float(), places)

    def contestant(forward: Callable[[], Tensor]) -> Contestant:
        return Contestant(forward, [hidden, weight], [None], _named(*names))

    contestants = {"isoflop": lambda: contestant(ours), "eager": lambda: contestant(partial(eager, hidden, weight))}
    if DEVICE == "cuda":
        contestants["compiled"] = lambda: contestant(partial(torch.compile(eager, dynamic=False), hidden, weight))

    def reference() -> dict[str, Tensor]:
        h, w = (x.detach().float().requires_grad_() for x in (hidden, weight))
        return _exact(Contestant(partial(eager, h, w), [h, w], [None]), names)

    product = 2.0 * tokens * WIDTH * classes
    return Built(contestants, (product, 3 * product), None, reference)


def _bound(
    ours: Callable[..., Any], theirs: Callable[..., Any], leaves: list[Tensor], names: tuple[str, ...], moved: float
) -> Built:
    """A case that memory bounds: both functions take the leaves; the reference is `theirs` in fp64."""
    outputs = ours(*leaves)
    douts = [torch.randn_like(x) for x in (outputs if isinstance(outputs, tuple) else (outputs,))]

    def contestant(function: Callable[..., Any]) -> Contestant:
        return Contestant(partial(function, *leaves), leaves, douts, _named(*names))

    contestants = {"isoflop": lambda: contestant(ours), "eager": lambda: contestant(theirs)}
    if DEVICE == "cuda":
        contestants["compiled"] = lambda: contestant(torch.compile(theirs, dynamic=False))

    def reference() -> dict[str, Tensor]:
        wide = [x.detach().double().requires_grad_() for x in leaves]
        return _exact(Contestant(partial(theirs, *wide), wide, [d.double() for d in douts]), names)

    return Built(contestants, None, moved, reference)


def norm(kind: str) -> Built:
    """RMSNorm, LayerNorm, or a sum and RMSNorm, 32k rows of 2048.

    Forward reads x and writes out; backward reads dout and x and writes dx: 5 times the tensor, with the sum 8 times.
    """
    torch.manual_seed(0)
    rows = sized(32768)
    x, stream = (torch.randn(rows, WIDE, device=DEVICE, dtype=DTYPE, requires_grad=True) for _ in range(2))
    weight, shift = (torch.randn(WIDE, device=DEVICE, requires_grad=True) for _ in range(2))
    size = float(x.numel() * x.element_size())

    def plain_rms(x: Tensor, w: Tensor) -> Tensor:
        return F.rms_norm(x, (WIDE,), w.to(x.dtype), 1e-6)

    def plain_layer(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
        return F.layer_norm(x, (WIDE,), w.to(x.dtype), b.to(x.dtype), 1e-5)

    def plain_sum(x: Tensor, s: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
        return plain_rms(x + s, w), x + s

    def own_sum(x: Tensor, s: Tensor, w: Tensor) -> Any:
        return rms_norm(x, w, residual=s, backend=OWN)

    if kind == "rms":
        ours = partial(rms_norm, backend=OWN)
        return _bound(ours, plain_rms, [x, weight], ("out", "dx", "dweight"), 5 * size)
    if kind == "layer":
        names = ("out", "dx", "dweight", "dbias")
        return _bound(partial(layer_norm, backend=OWN), plain_layer, [x, weight, shift], names, 5 * size)
    names = ("out", "sum", "dx", "dresidual", "dweight")
    return _bound(own_sum, plain_sum, [x, stream, weight], names, 8 * size)


def rotation() -> Built:
    torch.manual_seed(0)
    length = sized(4096)
    x = torch.randn(8, length, 16, 128, device=DEVICE, dtype=DTYPE, requires_grad=True)
    cos, sin = rotary_tables(torch.arange(length, device=DEVICE), 128)

    def ours(x: Tensor) -> Tensor:
        return rotary(x, cos, sin, backend=OWN)

    def theirs(x: Tensor) -> Tensor:
        c, s = (table[:, None].to(x.dtype if x.dtype == torch.float64 else torch.float32) for table in (cos, sin))
        a, b = x.to(c.dtype).chunk(2, -1)
        return torch.cat((a * c - b * s, b * c + a * s), -1).to(x.dtype)

    return _bound(ours, theirs, [x], ("out", "dx"), 4.0 * x.numel() * x.element_size())


def gated() -> Built:
    torch.manual_seed(0)
    shape = (sized(16384), 5632)  # of a Llama of 1.1B
    gate, up = (torch.randn(shape, device=DEVICE, dtype=DTYPE, requires_grad=True) for _ in range(2))

    def theirs(gate: Tensor, up: Tensor) -> Tensor:
        return F.silu(gate) * up

    moved = 8.0 * gate.numel() * gate.element_size()
    return _bound(partial(swiglu, backend=OWN), theirs, [gate, up], ("out", "dgate", "dup"), moved)


def build(name: str, settings: dict[str, Any]) -> Built:
    """A case of plan.py's part "rest"."""
    kind, _, detail = name.partition("/")
    if kind == "loss":
        return loss(**settings)
    if kind == "norm":
        return norm(detail)
    if kind == "t5 table":
        return attention.build_table(**settings)
    return {"rotary": rotation, "swiglu": gated}[kind]()
