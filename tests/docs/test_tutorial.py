"""The tutorial's commands run in its order, in one folder, on tiny runs; what it shows is what they print but for numbers."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.docs.commands import ROOT, blocks
from tests.docs.outputs import Shown, paired, shown, without_numbers
from trainer.cli.main import main

PAGE = ROOT / "docs" / "tutorial.md"
# What makes a run a matter of seconds; budgets of the page are replaced.
TINY = [
    *("model.width=32", "model.heads=4", "model.kv_heads=null", "model.head_size=null", "model.ffn_width=64"),
    *("data.sequence_length=32", "tokenizer.vocabulary=512", "optim.batch_size=8", "evaluation.samples=8"),
    *("engine.threads=1", "tracker.console=plain", "budget.steps=6"),
]
LADDER = ["ladder.sizes=[model.width=32 model.heads=2 model.depth=1,model.width=48 model.heads=3 model.depth=1]"]
LADDER += ["ladder.flops=[2e8,4e8,8e8]", "data=text", "engine.threads=1"]
FITTED = ["replicates=20"]


def tiny(words: tuple[str, ...], text: Path) -> list[str]:
    """The words of a command, those of its size replaced."""
    verb = words[0]
    if verb == "train":
        kept = [word for word in words if not word.startswith("budget.")]
        return [*kept, *TINY, *([] if "data=text" in words else ["data=text", f"data.path={text}"])]
    if verb == "sweep":
        kept = [word for word in words if not word.startswith("ladder.")]
        return [*kept, *LADDER, f"data.path={text}"]
    return [*words, *(FITTED if verb == "fit" else [])]


def sections() -> dict[str, list[Shown]]:
    """The commands of each heading, in order."""
    heads = [(n, line.removeprefix("## ")) for n, line in enumerate(PAGE.read_text().splitlines(), 1) if line[:3] == "## "]
    found: dict[str, list[Shown]] = {head: [] for _, head in heads}
    for one in shown(PAGE):
        found[[head for n, head in heads if n < one.line][-1]].append(one)
    return found


FIRST = ("A first run", "Read the report", "Ask for the price")
SECTIONS = sections()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where all of it is run: with the pages that the tutorial takes for text."""
    folder = tmp_path_factory.mktemp("tutorial")
    (folder / "docs").mkdir()
    for page in sorted((ROOT / "docs").glob("*.md"))[:6]:
        shutil.copy(page, folder / "docs")
    return folder


@pytest.fixture(autouse=True)
def there(folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("ISOFLOP_CACHE", str(folder / "cache"))
    yield


@pytest.mark.parametrize(
    "head", [pytest.param(head, marks=() if head in FIRST else pytest.mark.slow) for head, found in SECTIONS.items() if found]
)
def test_a_section_runs_and_prints_what_it_shows(
    head: str, folder: Path, corpus: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for one in SECTIONS[head]:
        if one.is_pure:  # tests/docs/test_outputs.py holds it to the digit
            continue
        capfd.readouterr()
        code = main(tiny(one.words, corpus))
        out, err = capfd.readouterr()
        assert code == 0, f"{one.typed}\n{out}\n{err}"
        found = paired(one.lines, [*out.splitlines(), *err.splitlines()], without_numbers)
        assert not isinstance(found, str), f"{PAGE.name}:{one.line}: {one.typed}: {found}\n{out}\n{err}"
