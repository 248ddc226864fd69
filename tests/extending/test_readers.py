"""A new reader by its two files: files/trainer/{descriptions/readers,data}/notebook.py."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path
from typing import Any

import pytest

from trainer.descriptions.readers import READERS, reader_of, readers_by_suffix

SMALL = ["data=text", "tokenizer.vocabulary=330", "tokenizer.sentinels=10", "data.sequence_length=16"]
RUN = [
    *("model.depth=1", "model.width=16", "model.heads=2", "engine.device=cpu", "engine.threads=1"),
    *("optim.batch_size=4", "budget.steps=2", "tracker.console=none", "tracker.wandb=disabled"),
]


@pytest.fixture
def cells() -> list[tuple[str, str]]:
    """What is written and what is programmed in each notebook."""
    chance = random.Random(0)
    words = ["".join(chance.choices("abcdefgh", k=6)) for _ in range(80)]
    return [
        (f"# On {' '.join(chance.choices(words, k=40))}", " + ".join(chance.choices(words, k=40))) for _ in range(20)
    ]


@pytest.fixture
def notebooks(cells: list[tuple[str, str]], tmp_path: Path) -> Path:
    folder = tmp_path / "notebooks"
    folder.mkdir()
    for number, (text, code) in enumerate(cells):
        read = [{"cell_type": "markdown", "source": text}, {"cell_type": "code", "source": [code[:9], code[9:]]}]
        printed = [read[0], {**read[1], "outputs": ["qqqq"]}]
        (folder / f"{number}.ipynb").write_text(json.dumps({"cells": printed, "nbformat": 4}))
    return folder


def test_its_text_is_trained_on(isoflop: Any, notebooks: Path, cells: list[tuple[str, str]]) -> None:
    words = [*SMALL, f"data.path={notebooks}"]
    sizes = {}
    for kind in ("all", "code"):
        made = isoflop("data", *words, f"data.cells={kind}", "--json")
        assert made.returncode == 0, made.stderr
        facts = json.loads(made.stdout)
        sizes[kind] = facts["train"]["bytes"] + facts["held_out"]["bytes"]
        assert facts["train"]["documents"] + facts["held_out"]["documents"] == 20
    text, code = (sum(map(len, part)) for part in zip(*cells, strict=True))
    assert sizes == {"code": code, "all": text + code + 2 * 20}
    trained = isoflop("train", *words, *RUN, "--json")
    assert trained.returncode == 0, trained.stderr
    (notebooks / "3.ipynb").write_text('{"cells": 5}')
    torn = isoflop("data", *words)
    assert torn.returncode == 2 and torn.stderr.splitlines()[-1] == (
        f"isoflop: data: {notebooks}/3.ipynb is no notebook of nbformat 4"
    )


def test_two_readers_of_one_suffix_are_one_line(isoflop: Any, project: Path, notebooks: Path, tmp_path: Path) -> None:
    copy = tmp_path / "project"
    shutil.copytree(project, copy, ignore=shutil.ignore_patterns("__pycache__"))
    description = copy / "trainer/descriptions/readers/notebook.py"
    description.write_text(description.read_text().replace('".ipynb",', '".ipynb", ".md"'))
    told = isoflop("data", *SMALL, f"data.path={notebooks}", project=copy)
    assert told.returncode == 2
    assert told.stderr.splitlines()[-1] == ("isoflop: reader text: .md files are read by notebook; take other suffixes")


@pytest.mark.parametrize("name", READERS)
def test_what_a_description_names_is_there(name: str) -> None:
    assert callable(READERS.implementation(name))


def test_readers_go_by_the_suffix_below_the_compression() -> None:
    files = {"a.JSONL.gz": "jsonl", "b.parquet": "parquet", "c.idx": "megatron", "d.py.zst": "text", "README": "text"}
    assert {name: reader_of(name).name for name in files} == files
    assert all(suffix == suffix.lower() and suffix.startswith(".") for suffix in readers_by_suffix())
