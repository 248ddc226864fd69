"""Every family with experts composes at a tiny size and learns from three steps on real batches."""

from __future__ import annotations

import pytest
import torch

from trainer.compose import compose
from trainer.data import Samples, prepare
from trainer.models import build, initialize

SIZE = ["model.depth=2", "model.width=32", "model.heads=2", "model.ffn_width=48", "model.experts.count=4"]
FAMILIES = {
    "mixtral-8x7b": ["model.kv_heads=1"],
    "olmoe-1b-7b": ["model.experts.per_token=3"],
    "qwen1.5-moe-a2.7b": ["model.experts.width=16"],
    "qwen3-30b-a3b": ["model.kv_heads=1", "model.experts.width=16", "model.experts.per_token=2"],
    "deepseek-moe-16b": ["model.experts.width=16", "model.experts.per_token=2"],
    "switch-base-8": ["objective=span_corruption", "model.experts.capacity=1.25"],
}


@pytest.mark.parametrize("name", FAMILIES)
def test_three_steps(name, corpus, cache):
    data = ["data=text", f"data.path={corpus}", f"run.cache={cache}", "data.sequence_length=32"]
    words = [*SIZE, "tokenizer.vocabulary=512", "model.vocabulary=null", "optim.batch_size=4", *data, *FAMILIES[name]]
    config = compose([f"model={name}", *words])
    assert config.model.experts.count == 4 and config.model.experts.layers(2) in (1, 2)
    net = build(config).train()
    initialize(net, 0)
    samples = Samples(prepare(config), config, "train").batch(0, 4)
    batch = {key: torch.from_numpy(array) for key, array in samples.items()}
    optimizer = torch.optim.AdamW(net.parameters(), lr=3e-3)
    losses = []
    for _ in range(3):
        loss, targets, _ = net(**batch)
        optimizer.zero_grad()
        (loss / targets).backward()
        losses.append(float(loss.detach() / targets))
        optimizer.step()
    assert losses[0] > losses[1] > losses[2]
    routers = {key: one for key, one in net.named_parameters() if key.endswith("router.weight")}
    assert routers and all(one.grad is not None and one.grad.any() for one in routers.values())
