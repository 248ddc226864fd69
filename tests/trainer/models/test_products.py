"""Several products of one input made at once: the same as one by one, in the numbers and in what is kept."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from trainer.models.products import joined

WIDTHS = (48, 16, 16)


def layers_of(bias: bool, dtype: torch.dtype = torch.float32) -> list[nn.Linear]:
    torch.manual_seed(0)
    return [nn.Linear(32, width, bias=bias, dtype=dtype) for width in WIDTHS]


def gradients(
    layers: list[nn.Linear], x: torch.Tensor, at_once: bool, low: bool, apart: bool = False
) -> tuple[list, list]:
    """Outputs, and gradients of x and of all parameters."""
    x = x.clone().requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=low):
        outputs = joined(x, layers, apart=apart) if at_once else [layer(x) for layer in layers]
    pull = [torch.randn(one.shape, generator=torch.Generator().manual_seed(1)).to(one.dtype) for one in outputs]
    leaves = [x, *(parameter for layer in layers for parameter in layer.parameters())]
    return list(outputs), list(torch.autograd.grad(outputs, leaves, pull))


@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_as_one_by_one_under_autocast(bias, apart):
    layers, x = layers_of(bias), torch.randn(2, 7, 32, generator=torch.Generator().manual_seed(2))
    (outputs, found), (single, wanted) = (gradients(layers, x, at_once, True, apart) for at_once in (True, False))
    assert all(torch.equal(*pair) for pair in zip(outputs, single, strict=True))
    assert all(one.is_contiguous() for one in outputs) is apart
    assert [one.dtype for one in found] == [one.dtype for one in wanted]
    exact = gradients([layer.double() for layer in layers_of(bias)], x.double(), at_once=False, low=False)[1]
    for one, other, truth in zip(found, wanted, exact, strict=True):
        error, theirs = ((each.double() - truth).norm() / truth.norm() for each in (one, other))
        assert error <= 1.1 * theirs, "no farther from fp64 than one product each"


def test_without_autocast_it_is_the_layers_own():
    layers, x = layers_of(True), torch.randn(3, 32)
    assert all(torch.equal(a, layer(x)) for a, layer in zip(joined(x, layers), layers, strict=True))
    outputs = joined(x, layers)
    assert not any(one._is_view() for one in outputs), "no copy of the weights is made where none is cast"


def test_evaluation_keeps_autocasts_copies():
    layers, x = layers_of(False), torch.randn(3, 32)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        assert all(torch.equal(a, layer(x)) for a, layer in zip(joined(x, layers), layers, strict=True))


def test_it_keeps_one_copy_of_its_input_and_none_of_the_weights():
    layers, x = layers_of(True), torch.randn(5, 32, requires_grad=True)
    kept = []
    with (
        torch.autograd.graph.saved_tensors_hooks(lambda one: kept.append(one) or one, lambda one: one),
        torch.autocast("cpu", dtype=torch.bfloat16),
    ):
        joined(x, layers)
    own = {parameter.data_ptr() for layer in layers for parameter in layer.parameters()}
    others = [one for one in kept if one.data_ptr() not in own]
    assert [(one.shape, one.dtype) for one in others] == [(x.shape, torch.bfloat16)]


def test_frozen_weights_get_no_gradient():
    layers, x = layers_of(True), torch.randn(5, 32, requires_grad=True)
    layers[1].requires_grad_(False)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        sum(one.float().sum() for one in joined(x, layers)).backward()
    assert layers[1].weight.grad is None and layers[0].weight.grad is not None and x.grad is not None


def test_a_compiled_one_is_the_same():
    layers, x = nn.ModuleList(layers_of(True)), torch.randn(5, 32)

    def run(x):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return joined(x, list(layers))

    compiled = torch.compile(run, backend="aot_eager", fullgraph=True)
    given = [x.clone().requires_grad_() for _ in range(2)]
    for one, function in zip(given, (run, compiled), strict=True):
        sum(part.float().square().sum() for part in function(one)).backward()
    assert torch.equal(given[0].grad, given[1].grad)


class Adapted(nn.Linear):
    """A layer that does more than its product, as a low-rank adapter does."""

    def __init__(self, base: nn.Linear) -> None:
        super().__init__(base.in_features, base.out_features)
        self.load_state_dict(base.state_dict())
        self.down = nn.Parameter(torch.ones(base.in_features))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) + (x * self.down).sum(-1, keepdim=True)


class Around(nn.Module):
    """An adapter that holds the layer and shows its parameters."""

    def __init__(self, base: nn.Linear) -> None:
        super().__init__()
        self.base = base

    @property
    def weight(self) -> nn.Parameter:
        return self.base.weight

    @property
    def bias(self) -> nn.Parameter:
        return self.base.bias

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.base(x) * 2


def replaced(layer: nn.Linear) -> nn.Linear:
    plain = layer.forward
    layer.forward = lambda x: plain(x) * 2
    return layer


def parametrized(layer: nn.Linear) -> nn.Module:
    return nn.utils.parametrizations.weight_norm(layer)


@pytest.mark.parametrize("change", [Adapted, Around, replaced, parametrized])
def test_a_layer_that_does_more_than_its_product_does_it(change):
    layers, x = layers_of(True), torch.randn(3, 32)
    layers[0] = change(layers[0])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(joined(x, layers)[0], layers[0](x))


@pytest.mark.parametrize("kind", ["forward", "forward_pre", "full_backward", "full_backward_pre"])
def test_hooks_of_a_layer_are_called(kind):
    layers, x, seen = layers_of(True), torch.randn(3, 32, requires_grad=True), []
    getattr(layers[1], f"register_{kind}_hook")(lambda *_: seen.append(kind))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        sum(one.float().sum() for one in joined(x, layers)).backward()
    assert seen == [kind]


def test_gradients_by_functorch():
    layers, x = layers_of(True), torch.randn(4, 32)

    def loss(x):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return sum(one.float().square().sum() for one in joined(x, layers))

    each = torch.vmap(torch.func.grad(loss))(x)
    one_by_one = torch.stack([torch.func.grad(loss)(row) for row in x])
    torch.testing.assert_close(each, one_by_one, rtol=2e-2, atol=2e-2)


def test_float64_is_left_alone_as_pytorch_leaves_it():
    layers, x = [layer.double() for layer in layers_of(True)], torch.randn(3, 32, dtype=torch.float64)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert all(torch.equal(a, layer(x)) for a, layer in zip(joined(x, layers), layers, strict=True))


def test_shapes_without_numbers():
    layers = [layer.to("meta") for layer in layers_of(True)]
    assert [one.shape for one in joined(torch.randn(2, 32, device="meta"), layers)] == [(2, w) for w in WIDTHS]


@pytest.mark.parametrize("shape", [(32,), (0, 32), (1, 1, 1, 32)])
def test_any_number_of_rows(shape):
    layers, x = layers_of(True), torch.randn(shape, requires_grad=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        outputs = joined(x, layers)
        sum(one.float().sum() for one in outputs).backward()
    assert [one.shape for one in outputs] == [(*shape[:-1], width) for width in WIDTHS]
    assert x.grad.shape == shape and all(layer.bias.grad is not None for layer in layers)
