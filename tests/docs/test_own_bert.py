"""The page that makes a BERT of a folder of text: its commands run in their order, and transformers fills a mask."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.conftest import Command
from tests.docs.commands import ROOT, STAND_IN, blocks, commands
from trainer.compose import compose
from trainer.hub.exchange import type_of

PAGE = ROOT / "docs" / "how-to" / "own-bert.md"
TINY = ["tokenizer.vocabulary=512", "budget.steps=4", "evaluation.samples=8", "model.depth=2", "engine.threads=1"]


def test_the_recipe_leaves_for_transformers_and_ends_within_its_five_minutes() -> None:
    config = compose(
        ["experiment=bert-minutes", "data=text", "data.path=mine/", "model.vocabulary=2048", "model.max_length=128"]
    )
    assert type_of(config.model).type == "modernbert"
    assert config.budget.hours is not None and config.budget.hours <= 5 / 60


@pytest.mark.slow
def test_the_page_runs(tmp_path: Path, corpus: Path, command: type[Command], monkeypatch: pytest.MonkeyPatch) -> None:
    transformers = pytest.importorskip("transformers")
    (tmp_path / "mine").symlink_to(corpus)
    isoflop = command(tmp_path)
    words = [[word.replace(STAND_IN, "<mask>") for word in one.words] for one in commands(PAGE)]
    for one in words[: [line[0] for line in words].index("export") + 1]:
        done = isoflop(*one, *(TINY if one[0] == "train" else []), ISOFLOP_CACHE=str(tmp_path / "cache"))
        assert done.returncode == 0, f"{one}\n{done.stdout}\n{done.stderr}"
    monkeypatch.chdir(tmp_path)
    (program,) = ("\n".join(block) for _, language, block in blocks(PAGE.read_text()) if language == "python")
    exec(program, {})

    fill = transformers.pipeline("fill-mask", "my-bert", top_k=1)
    text = "abc def<mask> ghi"
    (best,) = fill(text)
    ours = isoflop("generate", "bert", f"prompt={text}", "temperature=0", "--json")
    assert json.dumps(best["sequence"], ensure_ascii=False)[1:-1] in ours.stdout
