"""Text that a model writes as it learns: the training does not notice, ranks agree, every family writes its own."""

from __future__ import annotations

import csv
import json
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from trainer.config import Config
from trainer.config.samples import SamplesConfig
from trainer.evaluate import text_samples
from trainer.evaluate.text_samples import TextSamples, hidden
from trainer.generation import GREEDY, MASK
from trainer.generation.loaded_model import Trained


def sampling(config: Config, **samples: Any) -> Config:
    """The same run with text samples."""
    tracker = config.tracker.model_copy(update={"samples": SamplesConfig(every_steps=1, **samples)})
    return config.model_copy(update={"tracker": tracker})


SAMPLED = ["tracker.samples.every_steps=4", "tracker.samples.tokens=6", "tracker.samples.temperature=1"]


def losses(run: Path) -> list[float]:
    lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return [one["loss"] for one in lines if one["kind"] == "step"]


@pytest.mark.parametrize("ranks", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_the_training_does_not_notice(ranks: int, tiny: list[str], isoflop: Any) -> None:
    """With samples and trackers, and without: the same curve to the bit; everything once, from one rank."""
    words = [*tiny, f"launch.processes={ranks}", "model.dropout=0.1", "budget.steps=8"]
    words += ["engine.zero_stage=3"] if ranks > 1 else []
    alone = isoflop("train", *words, "run.id=alone")
    done = isoflop("train", *words, *SAMPLED, "tracker=[csv,tensorboard]", "tracker.alerts=[end]", "run.id=sampled")
    assert (alone.returncode, done.returncode) == (0, 0), alone.stderr + done.stderr
    run, other = (Path(one.stdout.splitlines()[0]) for one in (done, alone))
    assert losses(run) == losses(other) and len(losses(run)) == 8
    written = [json.loads(line) for line in (run / "samples.jsonl").read_text().splitlines()]
    assert [(one["step"], one["tokens_seen"]) for one in written] == [(s, s * 12 * 32) for s in (4, 4, 8, 8)]
    assert written[0]["prompt"] == written[2]["prompt"] != written[1]["prompt"] and all(one["text"] for one in written)
    assert not (other / "samples.jsonl").exists() and not (other / "tensorboard").exists()
    with (run / "metrics.csv").open(newline="") as file:
        assert [float(row["loss"]) for row in csv.DictReader(file)] == losses(run)

    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(run / "tensorboard"), size_guidance={"tensors": 0}).Reload()
    assert [one.step for one in found.Scalars("train/loss")] == list(range(1, 9))
    assert [one.step for one in found.Tensors("text_samples/1")] == [4, 8]
    assert [one.step for one in found.Tensors("alerts/end")] == [8]


@pytest.mark.parametrize("objective", ["causal", "masked_lm", "bart", "span_corruption", "mass"])
def test_every_family(objective: str, untrained: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    run = untrained(objective)
    trained = Trained.load(run)

    @contextmanager
    def whole(engine: Any) -> Any:
        yield trained.model

    passages = {"a": [trained.tokenizer.encode("import os and return the value of a name") for _ in range(3)]}
    monkeypatch.setattr(text_samples, "whole_model", whole)
    monkeypatch.setattr(text_samples, "text_of", lambda source: source)
    monkeypatch.setattr(text_samples, "held_out_passages", lambda trained, prepared: passages)
    config = sampling(trained.config, prompt_tokens=32, tokens=12)
    source, engine = (
        SimpleNamespace(tokenizer_file=run / "tokenizer.model"),
        SimpleNamespace(world=SimpleNamespace(size=1)),
    )
    found, wrong = TextSamples(config, run, source, engine)(5, 700)  # type: ignore[arg-type]
    again, _ = TextSamples(config, run, source, engine)(5, 700)  # type: ignore[arg-type]
    assert wrong == [] and len(found) == 2 and found == again and (found[0].step, found[0].tokens_seen) == (5, 700)
    prompt = "import os and return the value of a name"
    if objective == "causal":
        assert (
            found[0].prompt == prompt
            and found[0].text == text_samples.answer_prompts(trained, [prompt], replace(GREEDY, tokens=12))[0].text
        )
    else:
        assert found[0].prompt == f"import os and {MASK} the value of {MASK} name" and MASK not in found[0].text
        if objective != "bart":  # which writes the whole text anew
            assert found[0].text.startswith("import os and")


def test_a_prompt_that_cannot_be_answered(untrained: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    run = untrained("masked_lm")
    trained = Trained.load(run)

    @contextmanager
    def whole(engine: Any) -> Any:
        yield trained.model

    monkeypatch.setattr(text_samples, "whole_model", whole)
    prompts = [f"a {MASK}", "word " * 300 + MASK]
    config = sampling(trained.config, prompts=prompts)
    source, engine = (
        SimpleNamespace(tokenizer_file=run / "tokenizer.model"),
        SimpleNamespace(world=SimpleNamespace(size=1)),
    )
    found, wrong = TextSamples(config, run, source, engine)(1, 10)  # type: ignore[arg-type]
    assert [one.prompt for one in found] == prompts[:1]
    assert len(wrong) == 1 and "tokens with its masks" in wrong[0]


def test_hidden_words() -> None:
    assert hidden("a b c d e f g h i") == f"a b c {MASK} e f g {MASK} i"
    assert hidden("a b") == f"a {MASK}"
