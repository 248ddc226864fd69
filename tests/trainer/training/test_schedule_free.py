"""What is used of a schedule-free run is the mean of its steps, wherever it is used."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from trainer.books.layout import checkpoint_bytes
from trainer.cli.main import main
from trainer.config import load
from trainer.trackers import read_metrics
from trainer.training.chosen_weights import chosen_weights

STEPS, LAYOUT = 6, ["launch.processes=2", "engine.zero_stage=3"]


@pytest.fixture(scope="module")
def run(tiny: list[str], command: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("schedule-free")
    words = [*tiny, *LAYOUT, f"budget.steps={STEPS}", "checkpoint.every_steps=1", "optim.warmup_steps=3"]
    done = command(folder)("train", *words, "optim=schedule_free", "optim.batch_size=12")
    assert done.returncode == 0, done.stderr
    return folder / Path(done.stdout.splitlines()[0])


def state(run: Path, kind: str, step: int) -> dict[str, torch.Tensor]:
    """Whole and flattened, in fp64, of all ranks' files."""
    parts: dict[str, dict[int, torch.Tensor]] = {}
    for file in (run / "checkpoints" / f"step-{step:08d}").glob("moments*"):
        for key, tensor in load_file(file).items():
            name, _, start = key.removeprefix(f"{kind}/").rpartition("@")
            if key.startswith(f"{kind}/"):
                parts.setdefault(name, {})[int(start)] = tensor.double()
    return {name: torch.cat([of_name[start] for start in sorted(of_name)]) for name, of_name in parts.items()}


def test_it_is_the_mean_of_its_steps_by_their_squared_rates(run: Path) -> None:
    rates = [record["lr"] for record in read_metrics(run) if record["kind"] == "step"]
    assert rates[0] < rates[1] < rates[2] == rates[5]
    steps = [state(run, "z", step) for step in range(1, STEPS + 1)]
    whole = sum(rate**2 for rate in rates)
    for name, used in chosen_weights(run).weights().items():
        wanted = sum(rate**2 / whole * z[name] for rate, z in zip(rates, steps, strict=True))
        assert (used.view(-1).double() - wanted).abs().max() <= 1e-6 * wanted.abs().max(), name


def test_it_is_what_is_evaluated(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    [*_, last] = [record for record in read_metrics(run) if record["kind"] == "evaluation"]
    assert main(["eval", str(run), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["loss"] == pytest.approx(last["loss"], rel=1e-5)


def test_the_books_count_what_is_saved(run: Path) -> None:
    folder = run / "checkpoints" / f"step-{STEPS:08d}"
    tensors = [one for file in folder.glob("*.safetensors") for one in load_file(file).values()]
    # The books take all vectors as one: 4 bytes of a sum of rates for each other one are not in them.
    saved = sum(one.numel() * 4 for one in tensors)
    assert checkpoint_bytes(load(run / "config.yaml")) == pytest.approx(saved, abs=100)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["optim.schedule=cosine"], "optim.schedule: cosine given, constant wanted"),
        (["optim.schedule=[{shape: warmup, steps: 5}, {shape: cosine}]"], "optim.schedule: pieces given, constant"),
        (["optim.beta1=0"], "optim.beta1: 0"),
        (["optim.averages.ema.half_life=5"], "optim.averages: optim.name=schedule_free is an average already"),
        (["optim.momentum=0.5"], "optim.momentum: optim.name=schedule_free does not read it"),
    ],
)
def test_bad_input_is_a_line(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "optim=schedule_free", *words]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert said in line
