"""What is computed again in the backward pass gives the gradients of what was kept, to the bit."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from presets import FAMILIES, batch, tiny

from trainer.config.machinery import EngineConfig
from trainer.config.recomputation import whole_block, whole_blocks
from trainer.models.block import Block
from trainer.models.dropout import Rates, use_dropout
from trainer.models.stack import Stack


def dropping(name: str) -> tuple[Any, dict[str, Any]]:
    """A small fp32 model of this family with dropout everywhere, and a batch."""
    config, model = tiny(name)
    model = model.float()
    for module in model.modules():
        if isinstance(getattr(module, "dropout", None), Rates):
            module.dropout = Rates(0.2, 0.1)
    use_dropout(model, 0, "auto")
    inputs = batch(config)
    return model.train(), inputs | {"samples": torch.arange(len(inputs["targets"]))}


def gradients(model: Any, inputs: dict[str, Any], choice: Any) -> list[Any]:
    model.recompute = choice
    model.zero_grad()
    loss = model(**inputs)[0]
    loss.backward()
    return [loss.detach(), *(one.grad for one in model.parameters())]


@pytest.mark.parametrize("backend", ["auto", "reference"])
@pytest.mark.parametrize("name", FAMILIES)
def test_gradients_are_the_same_to_the_bit(name: str, backend: str) -> None:
    model, inputs = dropping(name)
    for stack in (one for one in model.modules() if isinstance(one, Stack)):
        stack.backend = backend
    kept = gradients(model, inputs, False)
    for choice in ("selective", 2, True) if backend == "auto" else ("selective",):
        again = gradients(model, inputs, choice)
        assert all((a is None and b is None) or torch.equal(a, b) for a, b in zip(kept, again, strict=True)), choice


def passes(model: Any, inputs: dict[str, Any], choice: Any) -> int:
    """Forward passes of blocks, in both passes of a step."""
    counted: list[Any] = []
    hooked = [one for one in model.modules() if isinstance(one, Block)]
    handles = [one.register_forward_pre_hook(lambda *given: counted.append(given)) for one in hooked]
    gradients(model, inputs, choice)
    for handle in handles:
        handle.remove()
    return len(counted)


@pytest.mark.parametrize(("choice", "again"), [(False, 0), ("selective", 0), (1, 4), (True, 4), (2, 2), (3, 1), (5, 0)])
def test_so_many_blocks_are_computed_again(choice: Any, again: int) -> None:
    model, inputs = dropping("llama3.2-1b")
    stack = model.backbone
    depth = stack.depth
    assert len(whole_blocks(choice, 4)) == again
    assert passes(model, inputs, choice) == depth + len(whole_blocks(choice, depth))


def test_scores_are_not_kept() -> None:
    """Of a backend that has them, nothing of the size of all pairs lives until the backward pass."""
    model, inputs = dropping("t5-small")
    for stack in (one for one in model.modules() if isinstance(one, Stack)):
        stack.backend = "reference"
    sizes = {choice: squares(model, inputs, choice) for choice in (False, "selective")}
    assert sizes[False] > 0 and sizes["selective"] == 0


def squares(model: Any, inputs: dict[str, Any], choice: Any) -> int:
    """Saved tensors with a score of every head and pair."""
    model.recompute, found = choice, []
    lengths = {value.shape[1] for name, value in inputs.items() if name.endswith("tokens")}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.is_floating_point() and tensor.dim() >= 3 and set(tensor.shape[-2:]) <= lengths:
            found.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        model(**inputs)
    return len(found)


def test_the_values_of_the_key() -> None:
    for choice in (True, False, 1, 3, "selective"):
        assert EngineConfig(activation_checkpointing=choice).activation_checkpointing is choice
    for wrong in (0, -1, "full", 1.5):
        with pytest.raises(ValueError, match=r"true, false, selective, or n for every n-th block .* wanted"):
            EngineConfig(activation_checkpointing=wrong)
    for choice, layer in itertools.product((1, 2, 3), range(6)):
        assert whole_block(choice, layer) == ((layer + 1) % choice == 0)
