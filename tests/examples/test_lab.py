"""The lab's notebooks: they run at tiny size, are pairs, and say nothing of the machine that they were written on."""

from __future__ import annotations

import os
import re
import runpy
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import jupytext
import pytest

ROOT = Path(__file__).resolve().parents[2]
LAB = ROOT / "examples" / "lab"
PROGRAMS = sorted(LAB.glob("0*.py"))
# What trains little beside the lab's own runs; all eight are run by the slow tests.
QUICK = ("02", "03", "04", "05", "08")
GOES_ON = "A prediction, before"  # the next section ends both: what was foretold is trained


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder of runs for all notebooks: what one of them trained the next one reads."""
    return tmp_path_factory.mktemp("lab")


def settings(root: Path) -> dict[str, str]:
    return {
        "ISOFLOP_LAB_SIZE": "tiny",
        "ISOFLOP_LAB_ROOT": str(root / "runs"),
        "ISOFLOP_LAB_CACHE": str(root / "cache"),
        "PYTHONPATH": str(ROOT),
        "HF_HUB_OFFLINE": "1",
        "DISPLAY": "",
        "MPLBACKEND": "",
        "MPLCONFIGDIR": str(root / "matplotlib"),
    }


def test_there_are_eight() -> None:
    assert [program.name[:2] for program in PROGRAMS] == [f"0{number}" for number in range(1, 9)]


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.name)
def test_a_notebook_is_the_pair_of_its_program(program: Path) -> None:
    cells = [[(cell.cell_type, cell.source) for cell in jupytext.read(file).cells] for file in both(program)]
    assert cells[0] == cells[1], "python examples/lab/pair.py writes it anew"


def both(program: Path) -> tuple[Path, Path]:
    return program, program.with_suffix(".ipynb")


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.name)
def test_every_section_ends_with_a_question(program: Path) -> None:
    cells = jupytext.read(program).cells
    text = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    _, *sections = re.split(r"^## ", text, flags=re.MULTILINE)
    assert len(sections) >= 3
    for section in sections:
        assert "**Question.**" in section or section.startswith(GOES_ON), section.splitlines()[0]
    assert 4 <= sum(cell.cell_type == "code" for cell in cells) <= 9


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.name)
def test_nothing_of_a_machine_and_no_download(program: Path) -> None:
    for file in both(program):
        assert not re.findall(r"/(?:home|root|work|tmp|Users)/|https?://|hub:", file.read_text()), file.name
        assert file.stat().st_size < 300_000


@pytest.mark.parametrize("name", QUICK)
def test_it_runs_at_tiny_size(
    name: str, root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for key, value in settings(root).items():
        monkeypatch.setenv(key, value)
    monkeypatch.chdir(root)
    monkeypatch.syspath_prepend(str(LAB))
    monkeypatch.delitem(sys.modules, "setting", raising=False)
    monkeypatch.setattr(socket.socket, "connect", refused)
    (program,) = (program for program in PROGRAMS if program.name.startswith(name))
    runpy.run_path(str(program), run_name="__main__")
    monkeypatch.delitem(sys.modules, "setting")
    pictures = sorted((root / "runs" / "pictures").glob(f"{name}-*.png"))
    said = capsys.readouterr().out
    assert pictures and all(f"pictures/{picture.name}" in said for picture in pictures)
    assert str(root) not in said


def refused(*_: Any) -> None:
    raise AssertionError("a notebook needs no network")


@pytest.mark.slow
@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.name)
def test_it_runs_as_a_program(program: Path, root: Path, tmp_path: Path) -> None:
    """From any folder, without a display."""
    environment = {**os.environ, **settings(root)}
    words = [sys.executable, str(program)]
    done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=1800)
    assert done.returncode == 0, done.stderr
    assert f"pictures/{program.name[:2]}-" in done.stdout


def test_another_size_is_one_line(root: Path) -> None:
    environment = {**os.environ, **settings(root), "ISOFLOP_LAB_SIZE": "big"}
    words = [sys.executable, str(PROGRAMS[2])]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode and done.stderr == "isoflop: ISOFLOP_LAB_SIZE: 'big' given, full or tiny wanted\n"
