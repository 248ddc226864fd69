"""The account of linear layers, beside what models multiply in fp8; and the time that is planned with it."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
import torch
from parameter_cases import MODELS, config
from probe_batches import micro_batch_of
from torch.utils.flop_counter import FlopCounterMode

from trainer.books import plan
from trainer.books.clock import seconds_of
from trainer.books.linear import block_layers, fp8_layers, fp8_share
from trainer.books.step_work import work
from trainer.config import Config
from trainer.models import build, initialize
from trainer.models.fp8 import use_fp8
from trainer.models.parts import Linear
from trainer.models.stack import Stack

FP8 = {"linear": "fp8", "precision": "bf16"}


@pytest.mark.parametrize("name", MODELS)
def test_equal_to_what_the_model_multiplies_in_fp8(name: str) -> None:
    made = config(name, optim={"batch_size": 3}, engine=FP8)
    net = build(made)
    initialize(net, 0)
    use_fp8(net)
    inputs = {one: torch.from_numpy(array) for one, array in micro_batch_of(made).items()}
    with FlopCounterMode(display=False) as counter, torch.autocast("cpu", dtype=torch.bfloat16):
        net(**inputs)
    counted = counter.get_flop_counts()["Global"]
    assert sum(one.forward_flop for one in fp8_layers(made, 3)) == counted[torch.ops.aten._scaled_mm]
    blocks = {layer for stack in net.modules() if isinstance(stack, Stack) for layer in stack.blocks.modules()}
    there = Counter((layer.in_features, layer.out_features) for layer in blocks if type(layer) is Linear)
    written: Counter[tuple[int, int]] = Counter()
    for one in block_layers(made, 3):
        written[one.inputs, one.outputs] += one.matrices
    assert +written == there


def hopper(**engine: str) -> Config:
    peaks = {"bf16": 1e15, "fp8": 2e15}
    machine = {"name": "a chip", "peak_flops": peaks, "memory_bandwidth": 1e12}
    model = {"depth": 4, "width": 4096, "heads": 32, "vocabulary": 512}
    return config(model, engine={"precision": "bf16", **engine}, machine=machine, data={"sequence_length": 2048})


def test_time_is_planned_with_the_peak_of_fp8() -> None:
    plain, eight = hopper(), hopper(linear="fp8")
    amount = work(eight)
    share = amount.fp8_flop / amount.product_flop
    assert share == pytest.approx(fp8_share(eight), rel=1e-3) and 0.95 < share < 1
    only = replace(work(plain), activation_bytes=0.0, loss_bytes=0.0, optimizer_bytes=0.0, score_flop=0.0)
    mixed = replace(only, fp8_flop=share * only.product_flop)
    times = [seconds_of(plain, only).value, seconds_of(eight, mixed).value]
    assert times[0] is not None and times[1] == pytest.approx(times[0] * (1 - share / 2))
    assert work(plain).product_flop == amount.product_flop and work(plain).fp8_flop == 0
    assert plan(plain).rows[0] == plan(eight).rows[0]
    (note,) = (line for line in plan(eight).notes if line.startswith("engine.linear"))
    assert "MFU stays a share of the bf16 peak" in note


def test_without_its_peak_time_is_not_stated() -> None:
    made = hopper(linear="fp8")
    unknown = made.model_copy(update={"machine": made.machine.model_copy(update={"peak_flops": {"bf16": 1e15}})})
    found = seconds_of(unknown, work(unknown))
    assert found.value is None and found.source == "machine.peak_flops.fp8"
