"""Compiled once for all shapes of a curriculum, and with what is computed again."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from presets import batch, tiny
from torch._dynamo.testing import CompileCounter

from trainer.training.engine.engine import mark_varying


def of_shape(vocabulary: int, rows: int, length: int) -> dict[str, Any]:
    tokens = torch.randint(5, vocabulary, (rows, length))
    inputs = {"tokens": tokens, "targets": tokens.roll(-1, 1), "segments": torch.zeros(rows, length, dtype=torch.int32)}
    return inputs | {"positions": torch.arange(length).repeat(rows, 1)}


@pytest.mark.parametrize("name", ["llama3.2-1b", pytest.param("bert-base", marks=pytest.mark.slow)])
def test_a_curriculum_is_compiled_once(name: str) -> None:
    config, net = tiny(name)
    net = net.float()
    torch._dynamo.reset()
    counter = CompileCounter()
    compiled = torch.compile(net, backend=counter)
    for rows, length in ((2, 16), (2, 24), (3, 40), (5, 32), (4, 8)):
        inputs = of_shape(config.vocabulary, rows, length)
        mark_varying(inputs.values(), (0, 1))
        assert torch.allclose(compiled(**inputs)[0], net(**inputs)[0], rtol=1e-5)
    assert counter.frame_count == 1


@pytest.mark.slow
@pytest.mark.parametrize("choice", [True, 2, "selective"])
@pytest.mark.parametrize("name", ["llama3.2-1b", "t5-small", "xlnet-base"])
def test_recomputation_is_one_graph_too(name: str, choice: Any) -> None:
    config, net = tiny(name)
    inputs, gradients = batch(config), []
    net = net.train()
    for recompute, compiles in ((False, False), (choice, True)):
        net.recompute = recompute
        net.zero_grad()
        torch._dynamo.reset()
        made = torch.compile(net, fullgraph=True, backend="aot_eager", dynamic=False) if compiles else net
        made(**inputs)[0].backward()
        gradients.append([one.grad for one in net.parameters() if one.grad is not None])
    for plain, again in zip(*gradients, strict=True):
        assert torch.allclose(plain, again, rtol=1e-9, atol=1e-12)
