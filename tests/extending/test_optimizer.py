"""An optimizer that was added by its two files trains, and its run goes on to the bit and over another ZeRO stage."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.trainer.training.half_way import half_way, trained

STEPS = 6


@pytest.fixture
def words(tiny: list[str]) -> list[str]:
    return [*tiny, f"budget.steps={STEPS}", "checkpoint.every_steps=3", "optim.lr=0.5", "optim.weight_decay=0.0"]


def tensors(run: Path, kind: str) -> dict[str, torch.Tensor]:
    folder = run / "checkpoints" / f"step-{STEPS:08d}"
    return {name: tensor for file in folder.glob(f"{kind}*") for name, tensor in load_file(file).items()}


def losses(run: Path) -> list[float]:
    records = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return [one["loss"] for one in {one["step"]: one for one in records if one["kind"] == "step"}.values()]


def test_one_state(isoflop: Any, words: list[str]) -> None:
    run = trained(isoflop, *words, "optim.name=heavy_ball")
    assert {state.partition("/")[0] for state in tensors(run, "moments")} == {"momentum_buffer"}
    assert losses(run)[-1] < losses(run)[0]
    again, other = half_way(run, "again", after=3), half_way(run, "elsewhere", after=3)
    trained(isoflop, f"resume={again}")
    for kind in ("model", "moments"):
        ours, theirs = tensors(run, kind), tensors(again, kind)
        assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)
    trained(isoflop, f"resume={other}", "engine.zero_stage=2", "launch.processes=2")
    assert losses(other) == pytest.approx(losses(run), rel=1e-5)


def test_no_state(isoflop: Any, words: list[str]) -> None:
    run = trained(isoflop, *words, "optim.name=descent")
    assert tensors(run, "moments") == {}
    assert losses(run)[-1] < losses(run)[0]
    other = half_way(run, "elsewhere", after=3)
    trained(isoflop, f"resume={other}", "engine.zero_stage=3")
    assert losses(other) == pytest.approx(losses(run), rel=1e-5)
    refused = isoflop("train", f"resume={run}", "optim.name=adamw", "new_science=true")
    assert refused.returncode == 2 and "adamw cannot go on from the checkpoint of descent" in refused.stderr


def test_the_books_ask_its_description(project: Path) -> None:
    program = """
from trainer.books import parameters
from trainer.books.layout import checkpoint_bytes
from trainer.books.memory import memory
from trainer.config import Config

for name in ("descent", "heavy_ball", "adamw"):
    config = Config.model_validate({"optim": {"name": name}})
    count = parameters(config).total
    print(memory(config).optimizer / count, checkpoint_bytes(config) / count)
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=project, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["0.0 4.0", "4.0 8.0", "8.0 12.0"]


def test_its_keys(isoflop: Any, words: list[str]) -> None:
    done = isoflop("train", *words, "optim.name=descent", "optim.inertia=0.5", "optim.beta1=0.5")
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "isoflop: optim.beta1: optim.name=descent does not read it; adamw, lamb, lion, muon, schedule_free do",
        "isoflop: optim.inertia: optim.name=descent does not read it; heavy_ball does",
    ]
    assert "optim.inertia" in isoflop("train", "--help").stdout
