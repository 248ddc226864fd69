"""Feed-forwards in tiles give the gradients of whole ones, and keep nothing of their inside."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from presets import FAMILIES
from test_recomputation import dropping, gradients
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from trainer.models.parts import FeedForward
from trainer.models.sequence.slices import Slices, Stretch
from trainer.models.tiles import tiles, use_tiles

DENSE = [name for name in FAMILIES if name not in ("mixtral-8x7b", "deepseek-moe-16b", "switch-base-8")]
QUICK = {"llama3.2-1b", "albert-base", "xlnet-base", "t5-small", "gemma2-2b"}


def test_tiles_are_of_one_stretch_each() -> None:
    held = Slices(2, 0, zigzag=True).stretches(10)
    assert tiles(held, 3) == [Stretch(0, 3), Stretch(3, 2), Stretch(15, 3), Stretch(18, 2)]
    assert tiles([Stretch(4, 2)], 8) == [Stretch(4, 2)]


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.slow] * (name not in QUICK)) for name in DENSE])
def test_gradients_are_those_of_whole_feed_forwards(name: str) -> None:
    """In float64, with dropout in every place, whatever else is computed again."""
    model, inputs = dropping(name)
    model = model.double()
    whole = gradients(model, inputs, False)
    assert use_tiles(model, 7)
    for choice in (False, "selective", True):
        made = gradients(model, inputs, choice)
        for ours, theirs in zip(made, whole, strict=True):
            assert (ours is None) == (theirs is None)
            if ours is not None:
                torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(("choice", "inside"), [(False, 2), (True, 2)])
def test_each_tile_is_computed_twice(choice: Any, inside: int) -> None:
    """Also inside of a block that is computed again: it has back what it kept before its tiles begin."""
    model, inputs = dropping("llama3.2-1b")
    for module in model.modules():
        if hasattr(module, "dropout"):
            module.dropout = module.dropout._replace(hidden=0.0)
    use_tiles(model, 5)
    calls: list[int] = []
    ups = [module.up for module in model.modules() if isinstance(module, FeedForward)]
    handles = [up.register_forward_pre_hook(lambda _, given: calls.append(given[0].shape[-2])) for up in ups]
    gradients(model, inputs, choice)
    for handle in handles:
        handle.remove()
    assert max(calls) == 5
    assert sum(calls) == inside * len(ups) * inputs["tokens"].shape[1]


def kept(model: Any, inputs: dict[str, Any]) -> int:
    """Bytes that the backward pass is given, of every storage once."""
    found: dict[int, Tensor] = {}

    def note(tensor: Tensor) -> Tensor:
        found[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with saved_tensors_hooks(note, lambda tensor: tensor):
        loss = model(**inputs)[0]
    del loss
    return sum(one.untyped_storage().nbytes() for one in found.values())


def test_nothing_of_the_inside_is_kept() -> None:
    model, inputs = dropping("llama3.2-1b")
    whole = kept(model, inputs)
    use_tiles(model, 8)
    tiled = kept(model, inputs)
    layers = [module for module in model.modules() if isinstance(module, FeedForward)]
    rows, length = inputs["tokens"].shape
    hidden = layers[0].up.out_features
    assert whole - tiled >= len(layers) * 3 * rows * length * hidden * 4  # gate, up and their product, in fp32


def test_without_gradients_as_with_them() -> None:
    model, inputs = dropping("gpt")
    model.eval()
    with torch.no_grad():
        whole = model(**inputs)[0]
        use_tiles(model, 3)
        torch.testing.assert_close(model(**inputs)[0], whole)
