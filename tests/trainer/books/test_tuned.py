"""What tuning costs: parameters and operations of every head on every family, against the model itself."""

from __future__ import annotations

import pytest
import torch
from parameter_cases import MODELS, config
from test_flops import batch
from torch.utils.flop_counter import FlopCounterMode

from trainer.books import flops, parameters
from trainer.config import TaskConfig
from trainer.models import build, initialize

TASKS = {
    "sequence": {"labels": ("a", "b", "c"), "answer": ("label",)},
    "token": {"labels": ("a", "b", "c"), "answer": ("label",)},
    "span": {"answer": ("answers",)},
    "reward": {"answer": ("chosen", "rejected")},
    "preference": {"answer": ("chosen", "rejected"), "parent": "elsewhere", "answer_length": 9},
    "text": {"answer": ("label",), "answer_length": 9},
}
CASES = [
    *((name, "sequence") for name in MODELS),
    *((name, kind) for name in ("llama", "bert", "roberta", "bart", "t5") for kind in ("token", "span", "reward")),
    *((name, "preference") for name in ("llama", "opt-350m", "t5", "bart")),
    *((name, "text") for name in ("llama", "t5", "bart")),
]


def tuned(name, kind):
    made = config(name, optim={"batch_size": 3})
    task = TaskConfig.model_validate({"kind": kind, "train": ("records.jsonl",), **TASKS[kind]})
    return made.model_copy(update={"task": task})


def inputs(made):
    """One step's tensors."""
    found = batch(made)
    found.pop("order", None), found.pop("sentence_label", None)
    rows, width = found["tokens"].shape
    kind = made.task.kind
    if kind in ("sequence", "reward", "preference"):
        found["targets"] = torch.zeros(rows, dtype=torch.int64)
    if kind == "token":
        found["targets"] = torch.zeros(rows, width, dtype=torch.int64)
    if kind == "span":
        found |= {"targets": torch.zeros(rows, 2, dtype=torch.int64), "inside": torch.ones(rows, width)}
    if made.task.rows == 2:
        found = {
            name: value if name == "targets" else torch.stack((value, value), dim=1) for name, value in found.items()
        }
    if kind == "preference":
        found["answers"] = found["tokens"]
    return found


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_equal_to_the_model_and_to_the_counter(name, kind):
    made = tuned(name, kind)
    made = made.model_copy(update={"kernels": made.kernels.model_copy(update={"attention": "reference"})})
    net = build(made)
    initialize(net, 0)
    trained = sum(parameter.numel() for parameter in net.parameters() if parameter.requires_grad)
    assert parameters(made).total == trained
    with FlopCounterMode(display=False) as forward:
        loss, count, _ = net(**inputs(made))
    with FlopCounterMode(display=False) as backward:
        loss.backward()
    account = flops(made)
    assert int(count) > 0
    counted = forward.get_total_flops(), backward.get_total_flops()
    assert counted == (account.forward_per_step, account.backward_per_step)
    without = [name for name, one in net.named_parameters() if one.requires_grad and one.grad is None]
    # XLNet's, which only sentence A and B would teach, and XLM's, as tuning does not tell languages
    assert all(".attention.type" in one or "languages" in one for one in without)
