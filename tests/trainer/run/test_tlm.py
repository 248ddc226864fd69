"""XLM from parallel text, as the documentation has it: every preset learns a little, and a run goes all the way."""

from __future__ import annotations

import json
import random

import pytest
import torch

from trainer.compose import CONF, compose
from trainer.data import Samples, prepare
from trainer.models import build, initialize
from trainer.trackers import read_metrics

PRESETS = sorted(path.stem for path in (CONF / "model").glob("xlm-*.yaml"))
TINY = ["model.depth=2", "model.width=32", "model.heads=2", "model.vocabulary=null", "tokenizer.vocabulary=400"]
TINY += ["data.sequence_length=48", "optim.batch_size=4", "engine.threads=1", "engine.precision=fp32"]


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """Folders en and de (and more languages under the same pages): 24 pages of 5 paragraphs, word by word the same."""
    root, chance = tmp_path_factory.mktemp("pages"), random.Random(0)
    words = ["".join(chance.choices("abcdefghij", k=4)) for _ in range(60)]
    for language in ("en", "de", "fr", "ro"):
        (root / language).mkdir()
    for number in range(24):
        text = [chance.choices(words, k=8) for _ in range(5)]
        for language in ("en", "de", "fr", "ro"):
            said = "\n\n".join(" ".join(f"{word}{language}" for word in part) for part in text)
            (root / language / f"p{number}.txt").write_text(said + "\n")
    return root


def parallel(pages, *languages):
    return ["data=parallel", *(f"data.parallel.{one}={pages / one}" for one in languages)]


@pytest.mark.parametrize("name", PRESETS)
def test_three_steps_of_every_preset(name, pages, cache):
    other = next((one for one in ("de", "fr", "ro") if f"en{one}" in name), "fr")
    words = [f"model={name}", "objective=tlm", *parallel(pages, "en", other), *TINY, f"run.cache={cache}"]
    config = compose([*words, "budget.steps=3"])
    net = build(config)
    initialize(net, 0)
    samples, losses = Samples(prepare(config), config, "train"), []
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
    for step in range(3):
        batch = {part: torch.from_numpy(array) for part, array in samples.batch(4 * step, 4 * step + 4).items()}
        assert ("languages" in batch) == bool(config.model.languages)
        loss, count, _ = net(**batch)
        optimizer.zero_grad()
        (loss / count).backward()
        assert all(parameter.grad is not None for parameter in net.parameters())
        optimizer.step()
        losses.append((loss / count).item())
    assert losses[-1] < losses[0]


@pytest.mark.slow
def test_a_run_goes_all_the_way(pages, cache, isoflop):
    """Training on one rank and on two, evaluation by pairs, filling in a language, export and import."""
    mono = f"+data.sources.mono={{path: {pages / 'fr'}, language: fr}}"
    keys = [
        "model=xlm-mlm-enfr-1024",
        "model.languages=[de,en,fr]",
        "objective=tlm",
        *parallel(pages, "en", "de"),
        mono,
    ]
    keys += [*TINY, f"run.cache={cache}", "run.experiment=xlm", "tracker.console=plain", "evaluation.every_steps=4"]
    keys += ["checkpoint.every_steps=4", "optim.lr=1e-2"]
    straight = isoflop("train", *keys, "run.id=straight", "budget.steps=8")
    assert straight.returncode == 0, straight.stderr
    run = isoflop.folder / "runs" / "xlm" / "straight"
    records = read_metrics(run)
    step = [record for record in records if record["kind"] == "step"]
    evaluation = [record for record in records if record["kind"] == "evaluation"][-1]
    assert set(evaluation["sources"]) == {"de-en", "mono"} and len(step) == 8
    assert set(step[-1]["sources"]) == {"de-en", "mono"}
    again = isoflop("train", *keys, "run.id=again", "budget.steps=8", "launch.processes=2")
    assert again.returncode == 0, again.stderr
    other = [record for record in read_metrics(isoflop.folder / "runs" / "xlm" / "again") if record["kind"] == "step"]
    assert [one["loss"] for one in other] == pytest.approx([one["loss"] for one in step], rel=1e-5)
    assert isoflop("report", str(run)).returncode == 0
    scored = isoflop("eval", str(run), "--json")
    assert scored.returncode == 0 and set(json.loads(scored.stdout)["sources"]) == {"de-en", "mono"}
    for words, code in ((["language=de"], 0), ([], 0), (["language=ro"], 2)):
        said = isoflop("generate", str(run), "prompt=<mask> abc", *words)
        assert said.returncode == code, said.stderr
    assert "no language 'ro'" in said.stderr and len(said.stderr.strip().splitlines()) == 1
    assert isoflop("export", str(run), f"to={isoflop.folder / 'hub'}").returncode == 0
    assert json.loads((isoflop.folder / "hub" / "config.json").read_text())["lang2id"] == {"de": 0, "en": 1, "fr": 2}
    back = isoflop("import", str(isoflop.folder / "hub"), f"to={isoflop.folder / 'back'}", "--check", "--json")
    assert back.returncode == 0 and json.loads(back.stdout)["exact"]
