"""Linear layers in 8 bits: against fp64, against rounding by itself, at the ends of the range, and in every family."""

from __future__ import annotations

import shutil
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from tests.trainer.books.parameter_cases import MODELS, config
from tests.trainer.books.probe_batches import micro_batch_of
from trainer.models import build, initialize
from trainer.models.fp8 import use_fp8
from trainer.models.linear import E4M3, E5M2, Fp8Product, linear_product, scaled
from trainer.models.parts import Linear

FORMATS = {E4M3: (3, -6), E5M2: (2, -14)}  # bits of the mantissa, exponent of the smallest normal number
BF16 = 2.0**-8  # relative error of rounding to it


def product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    return linear_product(x, weight, bias, fp8=True)


def rounded(x: Tensor, dtype: torch.dtype) -> Tensor:
    """x as 8 bits hold it beside its own scale, by powers of two and round-half-even alone; fp64."""
    (bits, lowest), scale = FORMATS[dtype], torch.finfo(dtype).max / x.abs().max().float()
    wide = (x.float() * scale).double()  # as in fp32, or numbers half way between two would go to either
    step = 2.0 ** ((torch.frexp(wide).exponent.double() - 1).clamp(min=lowest) - bits)
    return torch.round(wide / step) * step / scale


def error(x: Tensor, dtype: torch.dtype) -> Tensor:
    """The most that rounding moves each number of x."""
    bits, lowest = FORMATS[dtype]
    scale = torch.finfo(dtype).max / x.abs().max()
    return torch.maximum(x.abs() * 2.0 ** (-bits - 1), 2.0 ** (lowest - bits - 1) / scale) * (1 + 1e-5)


def between(a: Tensor, b: Tensor, kinds: tuple[torch.dtype, torch.dtype]) -> Tensor:
    """The most that a @ b can be off when both are rounded."""
    of_a, of_b = error(a, kinds[0]), error(b, kinds[1])
    return of_a @ b.abs() + a.abs() @ of_b + of_a @ of_b


def tensors(seed: int, rows: tuple[int, ...], inputs: int, outputs: int, low: bool) -> tuple[Tensor, ...]:
    """x, weight, bias and the gradient of the output; the rows of x of very different sizes."""
    torch.manual_seed(seed)
    x = torch.randn(*rows, inputs) * torch.logspace(-3, 1, rows[-1])[:, None]
    x = x.to(torch.bfloat16) if low else x
    weight, bias = torch.randn(outputs, inputs) * 0.02, torch.randn(outputs)
    leaves = tuple(one.requires_grad_() for one in (x, weight, bias))
    return *leaves, torch.randn(*rows, outputs).to(torch.bfloat16)


SHAPES = [((48,), 64, 32), ((3, 7), 16, 48), ((2, 2, 5), 80, 16), ((1,), 32, 32)]


@pytest.mark.parametrize("low", [False, True])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_off_by_no_more_than_eight_bits_allow(shape: tuple[tuple[int, ...], int, int], low: bool) -> None:
    x, weight, bias, gradient = tensors(0, *shape, low)
    y = product(x, weight, bias)
    y.backward(gradient)
    assert y.dtype is torch.bfloat16 and y.shape == gradient.shape
    rows, wide, up = (one.detach().double().flatten(0, -2) for one in (x, weight[None], gradient))
    true = rows @ wide.T + bias.double()
    most = between(rows, wide.T, (E4M3, E4M3)) + BF16 * bias.abs().double()
    assert ((y.detach().flatten(0, -2) - true).abs() <= most + BF16 * (true.abs() + most)).all()
    for leaf, a, b in ((x, up, wide), (weight, up.T, rows)):
        assert leaf.grad is not None and leaf.grad.dtype is leaf.dtype
        true, most = a @ b, between(a, b, (E5M2, E4M3))
        assert ((leaf.grad.flatten(0, -2) - true).abs() <= most + BF16 * (true.abs() + most)).all()
        assert (leaf.grad.flatten(0, -2) - true).norm() < 0.1 * true.norm()
    assert bias.grad is not None
    torch.testing.assert_close(bias.grad, up.sum(0).float())


@pytest.mark.parametrize("seed", range(12))
def test_the_products_of_operands_that_were_rounded_by_themselves(seed: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    rows, inputs, outputs = (int(torch.randint(1, high, (), generator=draw)) for high in (70, 9, 9))
    x, weight, bias, gradient = tensors(seed, (rows,), 16 * inputs, 16 * outputs, low=seed % 2 == 1)
    product(x, weight, bias).backward(gradient)
    a, b = rounded(x.detach().double(), E4M3), rounded(weight.detach().double(), E4M3)
    g = rounded(gradient.double(), E5M2)
    y = product(x, weight).detach()
    torch.testing.assert_close(y.double(), a @ b.T, rtol=BF16, atol=1e-3)
    assert x.grad is not None and weight.grad is not None
    torch.testing.assert_close(x.grad.double(), g @ b, rtol=BF16, atol=1e-3)
    torch.testing.assert_close(weight.grad.double(), g.T @ a, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("dtype", FORMATS)
@pytest.mark.parametrize("size", [1e-38, 1e-20, 1.0, 1e20, 3e38])
def test_any_size_fills_the_range(dtype: torch.dtype, size: float) -> None:
    x = torch.tensor([1.0, -0.5, 0.0, 0.25]) * size
    found = scaled(x, dtype)
    assert torch.isfinite(found.values.float()).all() and torch.isfinite(found.inverse)
    back = found.values.float() * found.inverse
    torch.testing.assert_close(back, x, rtol=1e-6, atol=1e-33)


def test_zeros_are_zeros_and_what_is_not_finite_is_seen() -> None:
    weight = torch.randn(16, 32, requires_grad=True)
    x = torch.zeros(4, 32, requires_grad=True)
    y = product(x, weight)
    y.backward(torch.zeros_like(y))
    assert not y.any() and not x.grad.any() and not weight.grad.any()  # type: ignore[union-attr]
    for wrong in (torch.nan, torch.inf, -torch.inf):
        bad = torch.ones(4, 32)
        bad[1, 2] = wrong
        assert product(bad, weight).isnan().any() and product(torch.ones(4, 32), bad[1:2].expand(16, 32)).isnan().any()
        y = product(torch.ones(4, 32, requires_grad=True), weight)
        weight.grad = None
        y.backward(bad[:, :16].to(y.dtype))
        assert weight.grad.isnan().any()


@pytest.mark.parametrize("rows", [(64,), (3, 7)])
def test_a_gpu_takes_these_layouts(rows: tuple[int, ...]) -> None:
    """By torch's own checks of operands for CUDA, which need no GPU: strides, multiples of 16, dtypes."""
    kept: list[Tensor] = []
    context: Any = SimpleNamespace(save_for_backward=lambda *those: kept.extend(those), needs_input_grad=(True,) * 3)
    with FakeTensorMode():
        x, weight, bias = (torch.empty(size, device="cuda") for size in ((*rows, 48), (32, 48), 32))
        y = Fp8Product.forward(context, x, weight, bias)
        assert y.device.type == "cuda" and y.shape == (*rows, 32) and y.dtype is torch.bfloat16
        context.saved_tensors = kept
        turned = torch.empty(*y.shape[:-2], *y.shape[:-3:-1], device="cuda", dtype=y.dtype).transpose(-1, -2)
        for gradient in (torch.empty_like(y), turned, y.new_empty(()).expand(y.shape)):
            found = Fp8Product.backward(context, gradient)
            for one, leaf in zip(found, (x, weight, bias), strict=True):
                assert one is not None and one.shape == leaf.shape and one.dtype is leaf.dtype


def test_what_is_frozen_has_no_gradient() -> None:
    x, weight = torch.randn(5, 16, requires_grad=True), torch.randn(32, 16)
    product(x, weight).float().sum().backward()
    frozen = x.detach().requires_grad_(False)
    weight.requires_grad_()
    product(frozen, weight).float().sum().backward()
    assert x.grad is not None and weight.grad is not None and frozen.grad is None


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("g++"), reason="torch.compile on a CPU needs a C++ compiler")
@pytest.mark.parametrize("rows", [(32,), (3, 7)])
def test_compiled_it_is_the_same(rows: tuple[int, ...]) -> None:
    x, weight, bias, gradient = tensors(0, rows, 48, 64, low=False)
    leaves = (x, weight, bias)
    eager = product(*leaves)
    expected = torch.autograd.grad(eager, leaves, gradient)
    y = torch.compile(product, fullgraph=True)(*leaves)
    assert torch.equal(y, eager)
    for one, other in zip(torch.autograd.grad(y, leaves, gradient), expected, strict=True):
        torch.testing.assert_close(one, other)


# --- in models ---

EXACT = ("gpt2", "llama", "bert", "albert", "xlnet", "deberta", "t5", "bart", "electra", "shared experts")


def gradients(net: nn.Module, inputs: dict[str, Tensor]) -> tuple[float, dict[str, Tensor]]:
    net.zero_grad()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = net(**inputs)[0]
    loss.backward()
    return loss.item(), {name: one.grad.clone() for name, one in net.named_parameters() if one.grad is not None}


def model(name: str, **other: Any) -> tuple[nn.Module, dict[str, Tensor]]:
    made = config(name, optim={"batch_size": 2}, **other)
    net = build(made)
    initialize(net, 0)
    return net, {name: torch.from_numpy(array) for name, array in micro_batch_of(made).items()}


@pytest.mark.parametrize("name", EXACT)
def test_every_family_learns_beside_bf16(name: str) -> None:
    net, inputs = model(name)
    loss, plain = gradients(net, inputs)
    use_fp8(net)
    near, found = gradients(net, inputs)
    assert near != loss and near == pytest.approx(loss, rel=0.01) and found.keys() == plain.keys()
    one, other = (torch.cat([grad.flatten() for grad in grads.values()]) for grads in (found, plain))
    assert torch.cosine_similarity(one, other, dim=0) > 0.97
    net.recompute = True  # type: ignore[assignment]
    again, recomputed = gradients(net, inputs)
    assert again == near and all(torch.equal(recomputed[grad], value) for grad, value in found.items())


@pytest.mark.parametrize("name", EXACT)
def test_evaluation_is_in_bf16(name: str) -> None:
    net, inputs = model(name)
    net.eval()

    def loss() -> Tensor:
        with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
            return net(**inputs)[0]

    before = loss()
    use_fp8(net)
    assert torch.equal(loss(), before)


def chosen(net: nn.Module) -> set[str]:
    return {name for name, layer in net.named_modules() if isinstance(layer, Linear) and layer.fp8}


def test_heads_routers_and_odd_shapes_stay_as_they_are() -> None:
    net, _ = model("bert")
    said = use_fp8(net)
    inside = [f"attention.{part}" for part in ("query", "key", "value", "output")]
    inside += ["feed_forward.up", "feed_forward.down"]
    assert chosen(net) == {f"blocks.{layer}.{part}" for layer in range(3) for part in inside}
    assert said == "engine.linear: 18 linear layers in fp8; bf16: embeddings, heads and what is around the blocks"
    net, _ = model("odd heads")
    said = use_fp8(net)
    assert chosen(net) == {f"blocks.{layer}.feed_forward.{part}" for layer in range(3) for part in ("up", "down")}
    assert "; 12 whose sizes are no multiples of 16 (blocks.0.attention.query, " in said and " and 8 more)" in said
    net, _ = model("gated shared")
    assert "the grouped products of experts" in use_fp8(net)
    assert not any("router" in name or "shared_gate" in name for name in chosen(net))


def test_every_case_has_layers_for_it() -> None:
    for name in MODELS:
        with torch.device("meta"):
            net = build(config(name))
        use_fp8(net)
        assert chosen(net), name


def curve(fp8: bool, steps: int = 60) -> list[float]:
    """Losses of a small model that learns one batch by heart."""
    net, inputs = model("llama")
    if fp8:
        use_fp8(net)
    optimizer = torch.optim.AdamW(net.parameters(), lr=3e-3)
    losses = []
    for _ in range(steps):
        losses.append(gradients(net, inputs)[0] / inputs["targets"].numel())
        optimizer.step()
    return losses


def test_learns_as_fast_as_bf16() -> None:
    plain, found = curve(fp8=False), curve(fp8=True)
    apart = max(abs(one - other) for one, other in zip(found, plain, strict=True))
    assert plain[0] > 6 and found[-1] < 1 and 0 < apart < 0.15
