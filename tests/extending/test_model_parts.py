"""An activation and a norm that were added by two files each: planned, trained, resumed, refused by the hub."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

STEPS = 4
PARTS = ("model.activation=leaky", "model.negative_slope=0.2", "model.norm=dynamic_tanh", "model.tanh_alpha=0.25")


def losses(run: Path) -> list[float]:
    records = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return [one["loss"] for one in {one["step"]: one for one in records if one["kind"] == "step"}.values()]


def parameters(run: Path) -> dict[str, Any]:
    folder = run / "checkpoints" / f"step-{STEPS:08d}"
    return {name: tensor for file in folder.glob("model*") for name, tensor in load_file(file).items()}


def test_a_run_from_its_plan_to_the_hub(isoflop: Any, tiny: list[str]) -> None:
    words = [*tiny, *PARTS, f"budget.steps={STEPS}", "checkpoint.every_steps=2", "evaluation.every_steps=null"]
    planned = isoflop("plan", *words, "--json")
    assert planned.returncode == 0, planned.stderr
    rows = {row["key"]: row["planned"] for row in json.loads(planned.stdout)["rows"]}
    done = isoflop("train", *words)
    assert done.returncode == 0, done.stderr
    run = Path(done.stdout.splitlines()[0])
    assert losses(run)[-1] < losses(run)[0]
    weights = parameters(run)
    assert sum(tensor.numel() for tensor in weights.values()) == rows["model.parameters"]["value"]
    alphas = [float(tensor) for name, tensor in weights.items() if name.endswith("norm.alpha")]
    assert len(alphas) == 5 and all(0 < abs(alpha - 0.25) < 0.1 for alpha in alphas)

    half = run.with_name("half")
    shutil.copytree(run, half)
    shutil.rmtree(half / "checkpoints" / f"step-{STEPS:08d}")
    (half / "metrics.jsonl").write_text("")
    again = isoflop("train", f"resume={half}", "engine.zero_stage=3", "launch.processes=2")
    assert again.returncode == 0, again.stderr
    assert losses(half) == pytest.approx(losses(run)[2:], rel=1e-5)

    refused = isoflop("export", str(run), "to=hub")
    assert refused.returncode == 2 and refused.stderr.count("\n") == 1
    for named in ("model.activation=leaky", "model.norm=dynamic_tanh"):
        assert named in refused.stderr


def test_their_keys(isoflop: Any) -> None:
    done = isoflop("plan", "model.negative_slope=0.2", "model.tanh_alpha=0.1", "model.activation=leeky")
    assert done.returncode == 2
    assert "model.activation: 'leeky' given" in done.stderr and "'leaky'" in done.stderr
    done = isoflop("plan", "model.negative_slope=0.2", "model.tanh_alpha=0.1")
    assert done.stderr.splitlines() == [
        "isoflop: model.negative_slope: model.activation=silu does not read it; leaky does",
        "isoflop: model.tanh_alpha: model.norm=rmsnorm does not read it; dynamic_tanh does",
    ]


def test_they_compute_what_they_say_token_by_token(project: Path) -> None:
    program = """
import torch
from torch import nn
from trainer.config import ModelConfig
from trainer.models.initialization import initialize
from trainer.models.norms import norm
from trainer.models.parts import FeedForward
from trainer.models.initialization import initial_stds
from trainer.utils.errors import UserError

torch.manual_seed(0)
config = ModelConfig(width=16, activation="leaky", negative_slope=0.2, norm="dynamic_tanh", tanh_alpha=0.25)
x, added = torch.randn(2, 3, 5, 16)
with torch.no_grad():
    made = norm(config)
    initialize(made, 0)
    normal, total = made(x, added)
    assert torch.equal(total, x + added) and torch.equal(normal, torch.tanh(0.25 * total))
    assert torch.equal(torch.cat([made(row[None]) for row in x]), made(x))
    feed_forward = FeedForward(config, initial_stds(config))
    initialize(feed_forward, 0)
    gate, up = feed_forward.gate(x), feed_forward.up(x)
    wanted = feed_forward.down(torch.where(gate > 0, gate, 0.2 * gate) * up)
    torch.testing.assert_close(feed_forward(x), wanted)
from trainer.descriptions.norms.dynamic_tanh import DynamicTanh
DynamicTanh.parameters = lambda self, model, width: width
try:
    norm(config)
except UserError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=project, capture_output=True, text=True)
    wanted = "norm dynamic_tanh: 33 parameters over 16 channels, its description says 16\n"
    assert done.stdout == wanted, done.stderr
