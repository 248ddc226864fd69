"""Averages of the weights are those of the weights that the run had, at every ZeRO stage, and cost it nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from tests.trainer.training.half_way import half_way
from trainer.books import memory
from trainer.books.layout import checkpoint_bytes
from trainer.cli.main import main
from trainer.config import load
from trainer.config.averages import AverageConfig
from trainer.trackers import read_metrics
from trainer.training.chosen_weights import chosen_weights
from trainer.training.engine.averages import OverHalfLife
from trainer.utils.which_weights import Which

STEPS, TOKENS = 8, 12 * 32  # of a step
HALF_LIFE = 1000
AVERAGES = "optim.averages={ema: {half_life: 1k}, slow: {half_life: 1m}, last: {latest: 3, every_steps: 2}}"
SLOW = ("shared", "states")
LAYOUTS = {
    "whole": ["engine.zero_stage=0"],
    "shared": ["engine.zero_stage=0", "launch.processes=2"],
    "states": ["engine.zero_stage=1", "launch.processes=2", "engine.offload_optimizer=true"],
    "parameters": ["engine.zero_stage=3", "launch.processes=2"],
}


def evaluations(run: Path) -> dict[int, dict[str, Any]]:
    return {record["step"]: record for record in read_metrics(run) if record["kind"] == "evaluation"}


def losses(run: Path) -> dict[int, float]:
    return {record["step"]: record["loss"] for record in read_metrics(run) if record["kind"] == "step"}


def saved(run: Path, step: int) -> dict[str, Tensor]:
    folder = run / "checkpoints" / f"step-{step:08d}"
    return {name: one.double() for file in folder.glob("model*") for name, one in load_file(file).items()}


def average(run: Path, name: str, step: int = STEPS) -> dict[str, Tensor]:
    return chosen_weights(run, Which(step, name)).weights()


def weighted_mean(run: Path, weights: dict[int, float]) -> dict[str, Tensor]:
    """Of the saved weights after steps, in fp64."""
    at = {step: saved(run, step) for step in weights}
    whole = sum(weights.values())
    return {name: sum(weights[step] * at[step][name] for step in weights) / whole for name in at[STEPS]}  # type: ignore[misc]


def assert_close(found: dict[str, Tensor], wanted: dict[str, Tensor], tolerance: float) -> None:
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        assert (found[name].double() - value.double()).abs().max() <= tolerance * value.abs().max(), name


class Runs:
    """The run in every layout, and without averages: each is trained once, when it is asked for."""

    def __init__(self, folder: Path, tiny: list[str], command: Any) -> None:
        self.command = command(folder)
        self.folder = folder
        self.words = [*tiny, f"budget.steps={STEPS}", "checkpoint.every_steps=1", "evaluation.every_steps=4"]
        self.found: dict[str, Path] = {}

    def train(self, *words: str) -> Path:
        done = self.command("train", *words)
        assert done.returncode == 0, done.stderr
        return self.folder / Path(done.stdout.splitlines()[0])

    def __getitem__(self, name: str) -> Path:
        if name not in self.found:
            words = [AVERAGES, *LAYOUTS[name]] if name in LAYOUTS else []
            self.found[name] = self.train(*self.words, *words, f"run.id={name}")
        return self.found[name]


@pytest.fixture(scope="module")
def runs(tiny: list[str], command: Any, tmp_path_factory: pytest.TempPathFactory) -> Runs:
    return Runs(tmp_path_factory.mktemp("averages"), tiny, command)


def told(capsys: pytest.CaptureFixture[str], *words: str) -> Any:
    """What a verb prints as JSON."""
    assert main([*words, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.fixture(params=[pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW)) for name in LAYOUTS])
def layout(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_they_are_of_the_weights_that_the_run_had(runs: Runs, layout: str) -> None:
    run = runs[layout]
    for name, half_life in (("ema", HALF_LIFE), ("slow", 1_000_000)):
        fading = {step: 2.0 ** (-(STEPS - step) * TOKENS / half_life) for step in range(1, STEPS + 1)}
        assert_close(average(run, name), weighted_mean(run, fading), 1e-6)
    assert_close(average(run, "last"), weighted_mean(run, {4: 1, 6: 1, 8: 1}), 1e-7)
    assert_close(average(run, "last", 3), saved(run, 2), 0)


def test_steps_of_any_size_count_by_their_tokens() -> None:
    """As where batches grow and one of them is skipped: what fades is what was trained on."""
    tokens, half_life = [64, 64, 160, 384, 384], 300
    weights = torch.randn(len(tokens), 7, generator=torch.Generator().manual_seed(0))
    made = OverHalfLife(AverageConfig(half_life=half_life), [torch.zeros(7)])
    for step, (number, weight) in enumerate(zip(tokens, weights, strict=True)):
        made.take(step + 1, number, [weight])
    ages = [sum(tokens[step + 1 :]) for step in range(len(tokens))]  # a step counts for the tokens it was made on
    shares = [2 ** (-age / half_life) * (1 - 2 ** (-one / half_life)) for age, one in zip(ages, tokens, strict=True)]
    wanted = sum(share * weight.double() for share, weight in zip(shares, weights, strict=True)) / sum(shares)
    assert (made.values()[0].double() - wanted).abs().max() <= 1e-6


def test_they_are_evaluated_beside_a_run_that_does_not_notice(
    runs: Runs, layout: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run = runs[layout]
    found = evaluations(run)[STEPS]["averages"]
    assert list(found) == ["ema", "slow", "last"]
    assert found == pytest.approx(evaluations(runs["whole"])[STEPS]["averages"], rel=1e-5)
    if layout == "whole":
        assert losses(run) == losses(runs["plain"])
        assert evaluations(run)[STEPS]["loss"] == evaluations(runs["plain"])[STEPS]["loss"]
        assert evaluations(runs["plain"])[STEPS]["averages"] == {}
    else:
        assert losses(run) == pytest.approx(losses(runs["plain"]), rel=1e-5)
    result = told(capsys, "eval", f"{run}:last")
    assert (result["average"], result["step"]) == ("last", STEPS)
    assert result["loss"] == pytest.approx(found["last"], rel=1e-5)
    assert result["loss"] != pytest.approx(evaluations(run)[STEPS]["loss"], rel=1e-3)


@pytest.mark.parametrize("layout", [pytest.param("shared", marks=pytest.mark.slow), "parameters"])
def test_a_resume_goes_on_with_them(runs: Runs, layout: str) -> None:
    run = runs[layout]
    again, elsewhere = half_way(run, f"{layout}-again", after=3), half_way(run, f"{layout}-elsewhere", after=3)
    runs.train(f"resume={again}")
    runs.train(f"resume={elsewhere}", "launch.processes=1", "engine.zero_stage=2")
    assert evaluations(again)[STEPS]["averages"] == evaluations(run)[STEPS]["averages"]
    assert evaluations(elsewhere)[STEPS]["averages"] == pytest.approx(evaluations(run)[STEPS]["averages"], rel=1e-5)
    for name in ("ema", "slow", "last"):
        assert_close(average(again, name), average(run, name), 0)
        assert_close(average(elsewhere, name), average(run, name), 1e-4)


@pytest.mark.slow
def test_they_are_the_same_to_the_bit_after_kill_9(runs: Runs) -> None:
    words = [*runs.words, AVERAGES, "run.id=killed"]
    runs.command.kill_when(lambda text: "step 5/" in text, "train", *words)
    run = runs.train(*words)
    for name in ("ema", "slow", "last"):
        assert_close(average(run, name), average(runs["whole"], name), 0)


def test_where_a_checkpoint_has_none_they_begin_with_its_weights(runs: Runs) -> None:
    run = half_way(runs["plain"], "later", after=3)
    runs.train(f"resume={run}", "new_science=true", AVERAGES)
    said = [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()]
    assert [one["data"]["begun"] for one in said if one["name"] == "averages"] == [["ema", "slow", "last"]]
    fading = {step: 2.0 ** (-(STEPS - step) * TOKENS / HALF_LIFE) for step in range(4, STEPS + 1)}
    assert_close(average(run, "ema"), weighted_mean(run, fading), 1e-6)


def test_the_books_count_what_is_held_and_saved(runs: Runs, layout: str) -> None:
    config = load(runs[layout] / "config.yaml")
    ranks = config.launch.ranks
    folder = runs[layout] / "checkpoints" / f"step-{STEPS:08d}"
    tensors = [one for file in folder.glob("*.safetensors") for one in load_file(file).values()]
    assert checkpoint_bytes(config) == sum(one.numel() * one.element_size() for one in tensors)
    plain = config.model_copy(update={"optim": config.optim.model_copy(update={"averages": {}})})
    held = sum(one.numel() * 4 for one in saved(runs[layout], STEPS).values()) * 5 / ranks
    on, without = memory(config), memory(plain)
    assert on.total + on.host - without.total - without.host == pytest.approx(held, abs=4 * 5)


def test_text_and_checkpoints_of_transformers_are_made_of_them(
    runs: Runs, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = runs["whole"]
    assert told(capsys, "generate", f"{run}@4:ema", "prompt=ab", "tokens=3")["step"] == 4
    assert told(capsys, "export", f"{run}:ema", f"to={tmp_path / 'hf'}")["average"] == "ema"
    [embedding] = [one for name, one in load_file(tmp_path / "hf" / "model.safetensors").items() if "embed" in name]
    assert torch.equal(embedding, average(run, "ema")["tokens.weight"])
    card = (tmp_path / "hf" / "README.md").read_text()
    assert "`ema`, of the weights, with a half-life of 1,000 tokens" in card
    last = [record for record in read_metrics(run) if record["kind"] == "evaluation"][-1]
    assert f"held-out loss: {last['averages']['ema']:.4f} nats per target at step {STEPS}" in card


@pytest.mark.slow
def test_a_run_begins_from_one(runs: Runs) -> None:
    run = runs.train(
        *runs.words,
        f"init={runs['whole']}@6:ema",
        "budget.steps=1",
        "checkpoint.every_steps=1",
        "run.id=begun",
        "optim.lr=1e-30",
    )
    assert json.loads((run / "lineage.json").read_text())["average"] == "ema"
    assert_close(saved(run, 1), average(runs["whole"], "ema", 6), 1e-6)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["eval", "{run}:emma"], "no average 'emma' (did you mean 'ema'?); there is ema, slow, last"),
        (["generate", "{run}@99:ema"], "no checkpoint of step 99; there is 1, 2"),
        (["export", "{run}:best", "to=never"], "no average 'best' (did you mean 'last'?); there is ema, slow, last"),
        (["train", "init={run}:emma"], "init: "),
        (["eval", "{plain}:ema"], "no average 'ema'; it has none (optim.averages, isoflop merge)"),
        (["train", "optim.averages={{a: {{}}}}"], "optim.averages.a.half_life: state it or optim.averages.a.latest"),
        (
            ["train", "optim.averages={{a: {{half_life: 1k, latest: 2}}}}"],
            "optim.averages.a.half_life: state it or optim.averages.a.latest",
        ),
        (["train", "optim.averages={{a: {{half_life: 0}}}}"], "optim.averages.a.half_life: 0 given"),
        (["train", "optim.averages={{a: {{latest: 2}}}}"], "optim.averages.a.every_steps: state how often"),
        (["train", "optim.averages={{a: {{half_life: 5, every_steps: 2}}}}"], "optim.averages.a.every_steps"),
        (["train", "optim.averages={{_b: {{half_life: 5}}}}"], "'_b' is no name of an average"),
    ],
)
def test_bad_input_is_a_line(runs: Runs, words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([word.format(run=runs["whole"], plain=runs["plain"]) for word in words]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert said in line
