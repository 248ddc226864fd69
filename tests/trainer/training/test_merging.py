"""Checkpoints merged in place of a decay: the weights that the decayed steps would have led to."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from trainer.cli.main import main
from trainer.compose import compose
from trainer.training.checkpoint import write_weights
from trainer.training.merging import WEIGHTS, shares

FALLS = {
    "linear": lambda done: 1 - done,
    "cosine": lambda done: (1 + math.cos(math.pi * done)) / 2,
    "sqrt": lambda done: 1 - done**0.5,
}


@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("steps", [(10, 20), (100, 200, 300, 400), (3, 4, 9, 30)])
def test_shares_are_those_of_a_decay_of_the_steps_between(steps: tuple[int, ...], weights: str) -> None:
    found = shares(steps, weights)
    assert sum(found) == pytest.approx(1, abs=1e-12)
    assert min(found) > 0
    if weights == "uniform":
        assert found == [1 / len(steps)] * len(steps)
        return
    # From the first checkpoint on, what a run moved between two of them, shortened by the decay.
    trained = np.random.default_rng(0).normal(size=len(steps))
    decayed, end = trained[0], (steps[-1] - steps[0]) * len(steps) / (len(steps) - 1)
    for before, after, step in zip(trained[:-1], trained[1:], steps[1:], strict=True):
        decayed += (after - before) * FALLS[weights]((step - steps[0]) / end)
    assert np.dot(found, trained) == pytest.approx(decayed, abs=1e-12)


def test_a_linear_decay_over_equal_distances_is_the_mean() -> None:
    assert shares((5, 10, 15, 20), "linear") == pytest.approx(shares((5, 10, 15, 20), "uniform"))


@pytest.fixture(scope="module")
def run(tiny: list[str], command: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("merging")
    words = [*tiny, "budget.steps=6", "checkpoint.every_steps=2", "optim.schedule=constant", "run.id=trunk"]
    done = command(folder)("train", *words, "optim.averages.ema.half_life=1k")
    assert done.returncode == 0, done.stderr
    return folder / Path(done.stdout.splitlines()[0])


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return {name: one for file in folder.glob("model*") for name, one in load_file(file).items()}


def test_a_merge_is_used_as_any_average(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["merge", str(run), "--steps", "6,2,4", "weights=sqrt", "name=soup"]) == 0
    apart = [weights(run / "checkpoints" / f"step-{step:08d}") for step in (2, 4, 6)]
    first, second = 1 - math.sqrt(1 / 3), 1 - math.sqrt(2 / 3)
    for name, tensor in weights(run / "averages" / "soup").items():
        wanted = (1 - first) * apart[0][name].double() + (first - second) * apart[1][name].double()
        torch.testing.assert_close(tensor, (wanted + second * apart[2][name].double()).float(), rtol=0, atol=1e-8)
    assert main(["report", str(run)]) == 0
    said = "average `soup`: merged of the checkpoints of steps 2, 4, 6, in place of a sqrt decay"
    assert said in (run / "card.md").read_text()
    capsys.readouterr()
    assert main(["eval", f"{run}:soup", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["average"], shown["step"]) == ("soup", 6)
    assert main(["export", f"{run}:soup", f"to={tmp_path / 'hf'}"]) == 0
    assert "`soup`, merged of the checkpoints of steps 2, 4, 6" in (tmp_path / "hf" / "README.md").read_text()
    config = compose([f"init={run}:soup", "budget.steps=1"])
    assert (config.init.average, config.init.step) == ("soup", 6)
    other = compose([f"init={run}@6", "budget.steps=1"])
    assert other.init.weights != config.init.weights and other.science_hash() != config.science_hash()


def test_unlike_models_are_not_merged(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    held = weights(copy / "checkpoints" / "step-00000002")
    facts = {"step": 2, "best": {}}
    shutil.rmtree(copy / "checkpoints" / "step-00000002")
    write_weights(copy / "checkpoints" / "step-00000002", {n: t[..., :-1] for n, t in held.items()}, facts)
    assert main(["merge", str(copy), "steps=2,4"]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert "merge: steps: 2 and 4 are of unlike models" in line


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "merge: steps: none given; two or more steps wanted"),
        (["steps=2"], "merge: steps: 2 given; two or more steps wanted"),
        (["steps=2,two"], "merge: steps: 2,two given; two or more"),
        (["steps=2,2"], "merge: steps: 2,2 given; two or more steps wanted, each once"),
        (["steps=2,3"], "merge: steps: no checkpoint of step 3"),
        (["steps=2,4", "weights=lineer"], "merge: weights: 'lineer' given, uniform, linear, cosine, sqrt wanted"),
        (["steps=2,4", "name=a/b"], "merge: name: 'a/b' given; letters"),
        (["steps=2,4", "name=ema"], "merge: name: ema is an average of the run's own"),
        (["steps=2,4", "wieghts=sqrt"], "merge: wieghts: no such option"),
    ],
)
def test_bad_input_is_a_line(run: Path, words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["merge", str(run), *words]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert said in line
