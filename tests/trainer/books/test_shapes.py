"""The books know the role and the shape of every matrix of every preset, also under a new head."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from parameter_cases import MODELS
from parameter_cases import config as small

from tests.trainer.models.presets import NAMES, preset
from trainer.books import parameters
from trainer.books.shapes import shapes
from trainer.config import Config, TaskConfig
from trainer.descriptions.optimizers import size
from trainer.models import build
from trainer.models.roles import roles


def built(config: Config) -> Counter[Any]:
    """Shapes by role, all vectors as one."""
    with torch.device("meta"):
        model = build(config)
    role_of, found, vectors = roles(model), Counter(), 0
    for name, parameter in model.named_parameters():
        if role_of[name] == "vector":
            vectors += parameter.numel()
        else:
            found[role_of[name], tuple(parameter.shape)] += 1
    return found + Counter({("vector", (vectors,)): 1})


@pytest.mark.parametrize("name", NAMES)
def test_presets(name: str) -> None:
    config = preset(name)
    assert shapes(config) == built(config)
    assert sum(size(shape) * count for (_, shape), count in shapes(config).items()) == parameters(config).total


@pytest.mark.parametrize("name", [name for name, fields in MODELS.items() if "experts" in fields])
def test_experts(name: str) -> None:
    config = small(name)
    assert shapes(config) == built(config)
    account = parameters(config)
    assert sum(size(shape) * count for (_, shape), count in shapes(config).items()) == account.total > account.active


@pytest.mark.parametrize("kind", ["sequence", "token", "span", "reward"])
@pytest.mark.parametrize("name", ["gpt2-124m", "bert-base", "electra-small", "albert-base", "xlnet-base", "bart-base"])
def test_tuned(name: str, kind: str) -> None:
    answer = {"answer": ("chosen", "rejected")} if kind == "reward" else {}
    task = TaskConfig.model_validate({"kind": kind, "train": ("records.jsonl",), "labels": ("a", "b", "c"), **answer})
    config = preset(name).model_copy(update={"task": task})
    assert shapes(config) == built(config)
