"""Presets of ours: small models that suit the default tokenizer, each trained by the command that the docs give."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest
import torch

from trainer.books.parameters import parameters
from trainer.compose import compose
from trainer.data import Samples, prepare
from trainer.models import build, initialize

DOCS = Path(__file__).resolve().parents[3] / "docs" / "models.md"
COMMANDS = re.findall(r"^ +isoflop train (model=\S+-mini(?: objective=\w+)?)", DOCS.read_text(), re.MULTILINE)


def test_the_docs_name_every_one():
    named = {command.split()[0].removeprefix("model=") for command in COMMANDS}
    assert named == {"gpt-mini", "bert-mini", "electra-mini", "bart-mini", "t5-mini"}


@pytest.mark.parametrize("command", COMMANDS)
def test_it_learns_from_a_batch(command, corpus, cache):
    config = compose([*command.split(), "data=text", f"data.path={corpus}", f"run.cache={cache}", "optim.batch_size=2"])
    assert config.model.vocabulary is None and 2.0e6 < parameters(config).published < 2.8e6
    config = config.model_copy(update={"tokenizer": config.tokenizer.model_copy(update={"vocabulary": 512})})
    net = build(config)
    initialize(net, 0)
    batch = Samples(prepare(config), config, "train").batch(0, 2)
    loss, targets, _ = net(**{name: torch.from_numpy(array) for name, array in batch.items()})
    loss.backward()
    assert 0.5 < loss.item() / targets.item() / math.log(config.vocabulary) < 60  # ELECTRA's second loss weighs 50
    still = [n for n, p in net.named_parameters() if p.grad is None or not p.grad.any()]
    assert set(still) <= {"positions.weight"}, still
