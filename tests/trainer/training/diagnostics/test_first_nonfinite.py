"""The first module that is not finite, where one was planted."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from trainer.config import Config
from trainer.models import build, initialize
from trainer.training.diagnostics.first_nonfinite import FirstNonfinite
from trainer.training.distributed import World

WORLD = World(0, 1, 0, torch.device("cpu"))
MODELS: dict[str, dict[str, Any]] = {
    "decoder": {},
    "encoder-decoder": {"family": "encoder_decoder", "position": "buckets"},
}


def watched(**model: Any) -> tuple[Any, FirstNonfinite, dict[str, torch.Tensor]]:
    shape = {"depth": 3, "width": 32, "heads": 2, "vocabulary": 64, "max_length": 16}
    objective = {"name": "span_corruption" if model.get("family") else "causal"}
    config = Config.model_validate(
        {"model": shape | model, "objective": objective, "tokenizer": {"vocabulary": 300}}
        | {"model": shape | model | {"vocabulary": 320}}
    )
    net = build(config)
    initialize(net, 0)
    watch = FirstNonfinite(SimpleNamespace(model=net, parameters=dict(net.named_parameters())), WORLD)  # type: ignore[arg-type]
    tokens = torch.randint(0, 320, (2, 16), generator=torch.Generator().manual_seed(0))
    batch = {"tokens": tokens, "targets": tokens}
    return net, watch, batch | ({"source_tokens": tokens} if model.get("family") else {})


def source(net: Any, watch: FirstNonfinite, batch: dict[str, torch.Tensor], passes: int = 1) -> str:
    watch.begin()
    loss = torch.zeros(())
    for _ in range(passes):
        loss = net(**batch)[0]
        loss.backward()
    norm = torch.nn.utils.get_total_norm([one.grad for one in net.parameters() if one.grad is not None])
    return watch.source(loss.item(), norm.item())


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_an_infinite_weight_in_the_middle(model: dict[str, Any], recompute: bool) -> None:
    net, watch, batch = watched(**model)
    net.recompute = recompute
    assert source(net, watch, batch) == ""
    stack = "decoder.blocks.1" if model else "blocks.1"
    with torch.no_grad():
        dict(net.named_parameters())[f"{stack}.feed_forward.down.weight"][3, 3] = float("inf")
    assert (
        source(net, watch, batch) == f"first in the output of {stack}.feed_forward.down, forward pass of micro-batch 1"
    )


@pytest.mark.parametrize("recompute", [False, True])
def test_a_nan_in_a_gradient(recompute: bool) -> None:
    net, watch, batch = watched()
    net.recompute = recompute
    net.backbone.blocks[1].feed_forward.up.register_forward_hook(
        lambda module, given, made: made.register_hook(lambda gradient: gradient * float("nan")) and None
    )
    said = source(net, watch, batch)
    # what lies before it in the block is the first that gets the gradient
    assert said == "first in the gradient of blocks.1.feed_forward.up.weight, backward pass of micro-batch 1"


def test_the_second_micro_batch_and_no_evaluation() -> None:
    net, watch, batch = watched()
    net.eval()
    with torch.no_grad():
        net(**batch)
    assert watch._seen == []
    net.train()
    calls = 0

    def spoil(module: Any, given: Any, made: torch.Tensor) -> torch.Tensor:
        nonlocal calls
        calls += 1
        return made * float("inf") if calls == 2 else made

    net.head.register_forward_pre_hook(lambda module, given: (spoil(module, None, given[0]), *given[1:]))
    assert source(net, watch, batch, passes=2).endswith("head, forward pass of micro-batch 2")


def test_said_where_a_run_ends(isoflop: Any, tiny: list[str]) -> None:
    words = [*tiny, "optim.lr=1e30", "optim.clip=null", "optim.warmup_steps=0", "debug.first_nonfinite=true"]
    done = isoflop("train", *words, "run.id=lost")
    assert done.returncode == 3
    run = Path(done.stdout.splitlines()[0])
    events = [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()]
    for name in ("nonfinite", "halted"):
        text = next(one["text"] for one in events if one["name"] == name)
        assert ", first in the " in text and "pass of micro-batch 1" in text
        assert "the output of norm" in text, "the last norm's, which gives the stream too"
    assert ", first in the " in done.stdout + done.stderr
