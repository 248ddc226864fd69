"""Padding is counted by what the samples hold, over all ranks, and said where it is much."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.trainer.data.loading import fixed
from trainer.compose import compose
from trainer.config import Config
from trainer.data import StepBatch, StepLoader
from trainer.models import NOT_A_TARGET
from trainer.training.dataset import examples, prepare

OF_FAMILY = {
    "decoder": ["model=llama-mini"],
    "encoder": ["model=bert-mini", "objective=masked_lm"],
    "encoder_decoder": ["model=t5-mini", "objective=span_corruption"],
}


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Documents of very different lengths."""
    folder = tmp_path_factory.mktemp("texts")
    for number in range(80):
        words = [f"w{(number * 7 + k * k) % 50}" for k in range(4 + 3 * (number % 40))]
        (folder / f"{number:02}.txt").write_text(" ".join(words))
    return folder


@pytest.fixture(scope="module")
def make_config(texts: Path, cache: Path) -> Callable[..., Config]:
    def make(*words: str) -> Config:
        small = [f"data.path={texts}", f"run.cache={cache}", "data.sequence_length=64", "tokenizer.vocabulary=384"]
        return compose(["data=text", *small, "optim.batch_size=10", *words])

    return make


def padding_of(config: Config, world_size: int) -> tuple[int, int]:
    samples = examples(prepare(config), config, "train")
    loaders = [StepLoader(samples, **fixed(10, 3), rank=rank, world_size=world_size) for rank in range(world_size)]
    counts = [StepBatch(0, loader.step(0), 0.0).padding for loader in loaders]
    return sum(padding for padding, _ in counts), sum(positions for _, positions in counts)


@pytest.mark.parametrize("packing", ["packed", "padded"])
@pytest.mark.parametrize("family", OF_FAMILY)
def test_padding_is_what_holds_no_text(make_config, family: str, packing: str) -> None:
    """By the token of padding, and behind a decoder's text by the absence of targets; however ranks divide a batch."""
    config = make_config(*OF_FAMILY[family], f"data.packing={packing}")
    prepared = prepare(config)
    batch = examples(prepared, config, "train").batch(0, 10)
    if family == "encoder_decoder":
        sides = [batch["source_tokens"] == prepared.pad, batch["targets"] == NOT_A_TARGET]
    else:
        sides = [batch["tokens"] == prepared.pad]
    wanted = sum(int(side.sum()) for side in sides), sum(side.size for side in sides)
    assert padding_of(config, 1) == padding_of(config, 3) == wanted
    if packing == "padded":
        assert wanted[0] > 0.1 * wanted[1]
    if family == "decoder" and packing == "packed":
        assert wanted[0] == 0


def test_a_run_says_how_much_is_padding(make_config, texts: Path, cache: Path, command, tmp_path: Path) -> None:
    """Beside its tokens: in the records, on the console and in the price tag. Budgets count positions."""
    words = [f"data.path={texts}", f"run.cache={cache}", "data.sequence_length=64", "tokenizer.vocabulary=384"]
    small = ["model.depth=1", "model.width=32", "model.heads=2", "optim.batch_size=10", "budget.tokens=3000"]
    fast = ["engine.precision=fp32", "engine.threads=1", "tracker.console=plain", "run.id=one"]
    isoflop = command(tmp_path)
    done = isoflop("train", "data=text", "data.packing=padded", *OF_FAMILY["encoder"], *words, *small, *fast)
    assert done.returncode == 0, done.stderr
    run = next(tmp_path.glob("runs/*/one"))
    steps = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    shares = [record["padding"] for record in steps if record["kind"] == "step"]
    assert len(shares) == 5 and steps[-2]["tokens"] == 3200  # the fewest steps of 640 positions
    mean = f"{np.mean(shares):.0%}"
    assert np.mean(shares) > 0.05
    finished = next(line for line in done.stdout.splitlines() if line.startswith("finished after step"))
    assert f"3.2k tokens ({mean} padding)" in finished
    assert f"counted; {mean} of them are padding" in done.stdout
    tag = json.loads((run / "pricetag.json").read_text())
    assert f"counted; {mean} of them are padding" in json.dumps(tag)
