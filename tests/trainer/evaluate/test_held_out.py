"""Held-out loss by source and language, in the loop and by `isoflop eval`."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def trained(tmp_path_factory, command, cache):
    """A short run over two languages in three sources, of which one repeats itself and is easily learned."""
    folder = tmp_path_factory.mktemp("mixture")
    chance = random.Random(0)
    words = []
    for name, alphabet in (("plain-de", "aei"), ("other-de", "nrst"), ("text-fr", "bcdfghklmopq")):
        (folder / name).mkdir()
        for number in range(40):
            lines = [" ".join("".join(chance.choices(alphabet, k=4)) for _ in range(8)) for _ in range(12)]
            (folder / name / f"{number}.txt").write_text("\n".join(lines))
        words += [f"+data.sources.{name}.path={folder / name}", f"+data.sources.{name}.language={name[-2:]}"]
    done = command(folder)(
        *("train", "data=mixture", *words, "data.sequence_length=32", f"run.cache={cache}", "run.id=mixed"),
        "data.held_out=0.3",
        *("tokenizer.vocabulary=420", "model.depth=2", "model.width=32", "optim.batch_size=8", "budget.steps=8"),
        *("evaluation.every_steps=8", "checkpoint.every_steps=8", "engine.precision=fp32", "engine.threads=1"),
    )
    assert done.returncode == 0, done.stderr
    return next(Path(folder, "runs").glob("*/mixed"))


def test_the_loop_and_the_verb_agree(trained, command):
    records = [json.loads(line) for line in (trained / "metrics.jsonl").read_text().splitlines()]
    loop = [record for record in records if record["kind"] == "evaluation"][-1]
    done = command(trained)("eval", str(trained), "--json")
    assert done.returncode == 0, done.stderr
    verb = json.loads(done.stdout)
    assert set(loop["sources"]) == {"plain-de", "other-de", "text-fr"} and set(loop["languages"]) == {"de", "fr"}
    for part in ("sources", "languages"):
        for name, one in loop[part].items():
            assert one == pytest.approx(verb[part][name], rel=1e-4)
    assert loop["bits_per_byte"] == pytest.approx(verb["bits_per_byte"], rel=1e-4)
    assert json.loads((trained / "evaluation.json").read_text())["held_out"] == verb


def test_parts_add_up(trained):
    """Targets and nats of the parts are those of the whole; so are the bits, each weighted by its bytes."""
    records = [json.loads(line) for line in (trained / "metrics.jsonl").read_text().splitlines()]
    whole = [record for record in records if record["kind"] == "evaluation"][-1]
    for part in (whole["sources"], whole["languages"]):
        assert sum(one["targets"] for one in part.values()) == whole["targets"]
        nats = sum(one["targets"] * one["loss"] for one in part.values())
        assert nats == pytest.approx(whole["targets"] * whole["loss"], rel=1e-6)
        size = sum(one["targets"] * one["loss"] / math.log(2) / one["bits_per_byte"] for one in part.values())
        assert nats / math.log(2) / size == pytest.approx(whole["bits_per_byte"], rel=1e-6)
    assert whole["languages"]["fr"] == whole["sources"]["text-fr"]
