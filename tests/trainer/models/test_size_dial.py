"""The size dial: near the wanted size, in sensible proportions, and the same when read again."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest
import torch
from presets import FAMILIES, FOLDER

from trainer.books.parameters import parameters
from trainer.cli.main import main
from trainer.compose import compose
from trainer.config import Config
from trainer.models import build
from trainer.utils.errors import UserError

BASES = [name for name in FAMILIES if (FOLDER / f"{name}.yaml").exists()]


def dialled(name, size, *more):
    return compose([f"model={name}", f"model.size={size}", "model.vocabulary=8192", *more])


@pytest.mark.parametrize("name", BASES)
@pytest.mark.parametrize("size", ["10m", "100m", "1b"])
def test_near_the_wanted_size(name, size):
    config = dialled(name, size)
    wanted = {"10m": 1e7, "100m": 1e8, "1b": 1e9}[size]
    assert abs(parameters(config).published / wanted - 1) < 0.12
    model = config.model
    assert model.size is None and model.depth >= 2
    assert model.shared_layers or 16 <= model.width / model.depth <= 256
    assert model.head_size or model.width % model.heads == 0
    assert Config.model_validate(config.model_dump(mode="json")) == config
    if size == "10m":
        with torch.device("meta"):
            net = build(config)
        assert sum(parameter.numel() for parameter in net.parameters()) == parameters(config).total


@pytest.mark.parametrize("name", ["gpt2-124m", "t5-small", "bert-base"])
def test_larger_is_deeper_and_wider(name):
    shapes = [dialled(name, size).model for size in ("5m", "30m", "200m", "1.5b", "10b")]
    for small, large in pairwise(shapes):
        assert large.width > small.width and large.depth >= small.depth and large.heads >= small.heads


def test_proportions_are_the_presets():
    llama = dialled("llama3-8b", "300m").model
    assert llama.heads / llama.key_heads == pytest.approx(4, abs=1) and llama.rotary_base == 500_000
    assert llama.ffn_channels / llama.width == pytest.approx(14336 / 4096, rel=0.05)
    small = dialled("electra-small", "50m").model
    assert small.generator.width / small.width == pytest.approx(0.25, abs=0.1)
    deberta = dialled("deberta-v3-base", "60m").model
    assert deberta.generator.depth == round(deberta.depth / 2) and deberta.generator.width == deberta.width
    assert dialled("albert-base", "30m").model.depth == 12


def test_a_preset_of_that_size_stays_as_it_is():
    assert compose(["model=gpt2-124m", "model.size=125m"]).model.depth == 12


def test_out_of_reach(capsys):
    assert main(["model", "model=mt5-small", "model.size=1m"]) == 2
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 1 and "model.size: 1,000,000 parameters are out of reach" in errors[0]
    with pytest.raises(UserError, match=r"model\.size"):
        compose(["model.size=0"])


def test_the_command(capsys):
    assert main(["model", "model=gpt2-124m", "model.size=30m", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert abs(found["parameters"]["total"] / 3e7 - 1) < 0.1
