"""The tutorial's commands run in its order, in one folder, on tiny runs; they print what it shows, but for numbers."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.conftest import Command
from tests.docs.commands import ROOT, blocks
from tests.docs.outputs import Shown, paired, shown, without_numbers

PAGE = ROOT / "docs" / "tutorial.md"
# What makes a run a matter of seconds; budgets of the page are replaced.
TINY = [
    *("model.width=32", "model.heads=4", "model.kv_heads=null", "model.head_size=null", "model.ffn_width=64"),
    *("data.sequence_length=32", "tokenizer.vocabulary=512", "optim.batch_size=8", "evaluation.samples=8"),
    *("engine.threads=1", "tracker.console=plain", "budget.steps=6"),
]


def tiny(words: tuple[str, ...], text: Path) -> list[str]:
    """The words of a command, those of its size replaced."""
    if words[0] == "train":
        kept = [word for word in words if not word.startswith("budget.")]
        return [*kept, *TINY, *([] if "data=text" in words else ["data=text", f"data.path={text}"])]
    return [*words]


def heading(line: int) -> str:
    """The heading that a line of the page stands below."""
    heads = [one for one in PAGE.read_text().splitlines()[:line] if one.startswith("## ")]
    return heads[-1].removeprefix("## ") if heads else ""


def sections() -> dict[str, list[Shown]]:
    """The commands of each heading, in order."""
    found: dict[str, list[Shown]] = {}
    for one in shown(PAGE):
        found.setdefault(heading(one.line), []).append(one)
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
    shutil.copytree(ROOT / "docs/results/ladder", folder / "docs/results/ladder")
    return folder


@pytest.mark.parametrize(
    "head",
    [pytest.param(head, marks=() if head in FIRST else pytest.mark.slow) for head in SECTIONS],
)
def test_a_section_runs_and_prints_what_it_shows(
    head: str, folder: Path, corpus: Path, command: type[Command], monkeypatch: pytest.MonkeyPatch
) -> None:
    isoflop = command(folder)
    for one in SECTIONS[head]:
        if one.is_pure:  # tests/docs/test_outputs.py holds it to the digit
            continue
        done = isoflop(*tiny(one.words, corpus), ISOFLOP_CACHE=str(folder / "cache"))
        assert done.returncode == 0, f"{one.typed}\n{done.stdout}\n{done.stderr}"
        found = paired(one.lines, done.stdout.splitlines(), without_numbers)
        assert not isinstance(found, str), f"{PAGE.name}:{one.line}: {one.typed}: {found}\n{done.stdout}\n{done.stderr}"
    monkeypatch.chdir(folder)
    for line, language, block in blocks(PAGE.read_text()):
        if language == "python" and heading(line) == head:
            exec("\n".join(block), {})


def test_every_part_that_the_page_promises_is_there() -> None:
    verbs = [one.words[0] for found in SECTIONS.values() for one in found]
    order = ["train", "generate", "report", "plan", "compare", "export", "sweep", "fit", "ledger"]
    assert list(dict.fromkeys(verbs)) == order
