"""The three families on real text in three languages, end to end: package, corpus, tokenizer, mixture, training."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from trainer.trackers import read_metrics

SCRIPT = Path(__file__).parents[3] / "scripts" / "corpora" / "manpages.py"
LANGUAGES = ("de", "fr", "ja")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def mixture(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Overrides of the mixture that the script downloads."""
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        pytest.skip("the text comes from Debian's packages, and there is no apt-get here")
    folder = tmp_path_factory.mktemp("man")
    words = [sys.executable, str(SCRIPT), "--to", str(folder), *LANGUAGES]
    made = subprocess.run(words, capture_output=True, text=True)
    if made.returncode:
        pytest.skip(f"Debian's packages could not be had: {made.stderr.strip().splitlines()[-1]}")
    return shlex.split(made.stdout)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("decoder", ["model=llama-mini", "objective=causal"]),
        ("encoder", ["model=bert-base", "objective=masked_lm"]),
        ("encoder-decoder", ["model=t5-small", "objective=span_corruption"]),
    ],
)
def test_a_family_learns_three_languages(mixture, cache, isoflop, name, words):
    size = ["model.depth=2", "model.width=64", "model.heads=2", "optim.batch_size=8", "budget.steps=60"]
    size += ["tokenizer.vocabulary=2048", "tokenizer.training_bytes=1m", f"run.cache={cache}", "engine.threads=1"]
    size += ["data.sequence_length=128", "evaluation.samples=32", "optim.lr=3e-3", "run.experiment=man"]
    result = isoflop("train", *mixture, *words, *size, f"run.id={name}", "tracker.console=plain", timeout=900)
    assert result.returncode == 0, result.stderr
    run = isoflop.folder / "runs" / "man" / name
    losses = [record["loss"] for record in read_metrics(run) if record["kind"] == "step"]
    assert len(losses) == 60
    assert sum(losses[-10:]) / 10 < 0.85 * losses[0], (losses[0], losses[-10:])

    card = json.loads(isoflop("data", "card", *mixture, *words, *size, "--json").stdout)
    sources = {source["name"]: source for source in card["sources"]}
    assert set(sources) == set(LANGUAGES) == {source["language"] for source in card["sources"]}
    assert all(source["licence"] and source["files"] > 300 for source in card["sources"])
    assert sum(source["share_of_tokens"] for source in card["sources"]) == pytest.approx(1)
