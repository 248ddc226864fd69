"""Runs with every loss term and every diagnostic on: one curve in every layout, and figures that can be checked."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tests.trainer.training.half_way import half_way, trained
from trainer.config import load
from trainer.models import build, initialize
from trainer.models.roles import roles
from trainer.trackers import read_metrics
from trainer.training.dataset import examples, prepare
from trainer.training.diagnostics.updates import part_of

TERMS = ["objective.z_loss=1e-3", "model.logit_softcap=30", "model.score_softcap=20", "model.sinks=true"]
STILL = ["optim.lr=1e-12", "optim.weight_decay=0"]  # weights as they began, to fp32
STEPS = 6
LAYOUTS = {
    "one rank": ["engine.micro_batch=3"],
    "two ranks at ZeRO 3": ["engine.zero_stage=3", "launch.processes=2", "engine.micro_batch=2"],
}
SLOW_LAYOUTS = {
    "two ranks at ZeRO 0": ["engine.zero_stage=0", "launch.processes=2"],
    "three ranks at ZeRO 1": ["engine.zero_stage=1", "launch.processes=3", "engine.micro_batch=2"],
    "two ranks at ZeRO 2": ["engine.zero_stage=2", "launch.processes=2", "engine.offload_optimizer=true"],
    "three ranks at ZeRO 3": ["engine.zero_stage=3", "launch.processes=3", "engine.activation_checkpointing=true"],
}


def steps(run: Path) -> list[dict[str, Any]]:
    return [record for record in read_metrics(run) if record["kind"] == "step"]


@pytest.fixture(scope="module")
def run_of(command: Any, tiny: list[str], tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The run of a layout, with all terms and measurements."""
    made: dict[str, Path] = {}
    isoflop = command(tmp_path_factory.mktemp("terms"))
    own = [f"budget.steps={STEPS}", "checkpoint.every_steps=1", "debug.noise_every=2", "debug.updates_every=3"]

    def run(layout: str) -> Path:
        if layout not in made:
            words = (LAYOUTS | SLOW_LAYOUTS)[layout]
            made[layout] = trained(
                isoflop, *tiny, *TERMS, *own, "debug.first_nonfinite=true", f"run.id=r{len(made)}", *words
            )
        return made[layout]

    return run


ELSEWHERE = ["two ranks at ZeRO 3", *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW_LAYOUTS)]


@pytest.mark.parametrize("layout", ELSEWHERE)
def test_one_curve(run_of: Callable[[str], Path], layout: str) -> None:
    here, there = steps(run_of("one rank")), steps(run_of(layout))
    assert len(here) == len(there) == STEPS
    for ours, theirs in zip(here, there, strict=True):
        assert theirs["loss"] == pytest.approx(ours["loss"], rel=1e-5)
        assert theirs["sums"]["z_loss"] == pytest.approx(ours["sums"]["z_loss"], rel=1e-5)
        assert theirs["grad_norm"] == pytest.approx(ours["grad_norm"], rel=1e-4)
        assert theirs["updates"].keys() == ours["updates"].keys()
        for part, figures in ours["updates"].items():
            assert theirs["updates"][part] == pytest.approx(figures, rel=2e-3), part


def test_the_loss_that_is_told_is_the_cross_entropy(run_of: Callable[[str], Path]) -> None:
    """Of the first step, by the formula in float64 from whole logits."""
    run = run_of("one rank")
    config = load(run / "config.yaml")
    first = steps(run)[0]
    net, batch = initial(config), samples(config, config.optim.batch_size)
    logits = net.logits(batch["tokens"], batch["positions"], batch["segments"])
    counted = batch["targets"] != -100
    denominators = logits.logsumexp(dim=-1)
    chosen = logits.gather(-1, batch["targets"].clamp(min=0)[..., None])[..., 0]
    assert first["loss"] == pytest.approx((denominators - chosen)[counted].mean().item(), rel=1e-6)
    assert first["sums"]["z_loss"] == pytest.approx(1e-3 * denominators[counted].square().sum().item(), rel=1e-5)


def test_updates_are_what_changed_between_checkpoints(run_of: Callable[[str], Path]) -> None:
    run = run_of("one rank")
    records = {record["step"]: record["updates"] for record in steps(run)}
    assert [step for step, updates in records.items() if updates] == [3, 6]
    before, after = (weights(run, step) for step in (5, 6))
    role_of = roles(build(load(run / "config.yaml")))
    parts = {name: part_of(name, role_of[name]) for name in after}
    assert set(parts.values()) == set(records[6]) == {
        *("embedding", "vectors"),
        *(f"blocks.{layer}.{part}" for layer in (0, 1) for part in ("attention", "feed_forward")),
    }  # fmt: skip
    for part, figures in records[6].items():
        of_part = [name for name in after if parts[name] == part]
        weight = sum(float(before[name].double().square().sum()) for name in of_part) ** 0.5
        update = sum(float((after[name] - before[name]).double().square().sum()) for name in of_part) ** 0.5
        assert figures["weight"] == pytest.approx(weight, rel=1e-5)
        assert figures["update"] == pytest.approx(update, rel=1e-3)
        assert figures["ratio"] == pytest.approx(update / weight, rel=1e-3)
    whole = sum(figures["gradient"] ** 2 for figures in records[6].values()) ** 0.5
    assert whole == pytest.approx(min(1.0, steps(run)[5]["grad_norm"]), rel=1e-4)  # clipped to 1


def test_a_resume_goes_on_with_the_averages(isoflop: Any, tiny: list[str]) -> None:
    words = [*tiny, "engine.micro_batch=3", "debug.noise_every=1"]
    whole = trained(isoflop, *words, "budget.steps=8", "run.id=whole")
    half = half_way(whole, "half", after=4)
    trained(isoflop, f"resume={half}")
    ours, theirs = steps(half), steps(whole)
    assert len(ours) == len(theirs) == 8
    assert [one["gradient_noise"] for one in ours] == [one["gradient_noise"] for one in theirs]


NOISE_LAYOUTS = {
    "one rank": ["engine.micro_batch=3"],
    "two ranks": ["engine.micro_batch=4", "launch.processes=2", "engine.zero_stage=2"],
    "three ranks": ["engine.micro_batch=4", "launch.processes=3", "engine.zero_stage=3"],
    "two ranks at ZeRO 0": ["engine.micro_batch=2", "launch.processes=2", "engine.zero_stage=0"],
    "two ranks at ZeRO 1": ["engine.micro_batch=6", "launch.processes=2", "engine.zero_stage=1"],
}


@pytest.mark.parametrize(
    "layout", [pytest.param(name, marks=[pytest.mark.slow] * (name != "one rank")) for name in NOISE_LAYOUTS]
)
@pytest.mark.parametrize("packing", ["packed", pytest.param("padded", marks=pytest.mark.slow)])
def test_noise_scale_against_the_gradient_of_every_sequence(
    isoflop: Any, tiny: list[str], layout: str, packing: str
) -> None:
    length = 40
    words = [*tiny, *STILL, f"budget.steps={length}", "debug.noise_every=1", f"data.packing={packing}"]
    run = trained(isoflop, *words, "evaluation.every_steps=null", "checkpoint.every_steps=null", *NOISE_LAYOUTS[layout])
    noise = [record["gradient_noise"] for record in steps(run)]
    assert len(noise) == length
    trace, square = by_brute_force(load(run / "config.yaml"), length)
    mean = {name: float(np.mean([one[name] for one in noise])) for name in ("trace", "square")}
    assert mean["trace"] == pytest.approx(trace, rel=0.05)
    assert mean["trace"] / mean["square"] == pytest.approx(trace / square, rel=0.15)
    last = noise[-1]
    assert last["noise_scale_low"] < trace / square < last["noise_scale_high"]
    assert last["critical_batch_tokens"] == pytest.approx(32 * last["noise_scale"])


def initial(config: Any) -> Any:
    net = build(config).double()
    initialize(net, config.seed)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(parameter.float())  # the very weights of the run
    return net.train()


def samples(config: Any, count: int) -> dict[str, torch.Tensor]:
    batch = examples(prepare(config), config, "train").batch(0, count)
    return {name: torch.as_tensor(value) for name, value in batch.items()}


def by_brute_force(config: Any, length: int) -> tuple[float, float]:
    """tr(S) and |G|^2 of the samples of so many steps, one gradient a sequence."""
    net, batch = initial(config).float(), samples(config, length * config.optim.batch_size)
    rows = len(batch["tokens"])
    counts = (batch["targets"] != -100).sum(dim=1).double()
    gradients = torch.empty(rows, sum(parameter.numel() for parameter in net.parameters()))
    for row in range(rows):
        net.zero_grad()
        net(**{name: value[row : row + 1] for name, value in batch.items()})[0].backward()
        gradients[row] = torch.cat([parameter.grad.flatten() for parameter in net.parameters()])
    mean = gradients.sum(dim=0).double() / counts.sum()
    deviations = sum(float((gradients[row] - counts[row] * mean).square().sum()) for row in range(rows))
    trace = deviations / (rows - 1) / float(counts.mean()) ** 2
    return trace, float(mean.square().sum()) - trace / rows


def weights(run: Path, step: int) -> dict[str, torch.Tensor]:
    folder = run / "checkpoints" / f"step-{step:08d}"
    return {name: tensor for file in folder.glob("model*") for name, tensor in load_file(file).items()}
