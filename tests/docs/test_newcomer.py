"""scripts/newcomer walks from a clone of this checkout to transformers, on tiny trainings."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.commands import ROOT

SCRIPT = ROOT / "scripts" / "newcomer"
TINY = (
    "model.depth=1 model.width=32 model.heads=4 model.ffn_width=64 data.sequence_length=64 tokenizer.vocabulary=1024 "
    "optim.batch_size=8 evaluation.samples=8 engine.threads=1 tracker.console=plain"
)
STEPS = ["clone", "set-up", "first run", "lab", "own text", "export", "transformers", "doctor", "help"]
STEPS += ["tests", "report", "board"]


def visit(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    # Nothing of this process's own variables but the way to programs: as in a shell that was just opened.
    variables = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "PYTHON": sys.executable, **environment}
    return subprocess.run([SCRIPT, *words], env=variables, capture_output=True, text=True, timeout=1800)


@pytest.mark.slow
def test_a_new_users_path(tmp_path: Path) -> None:
    """The packages are those of this environment, and isoflop is the clone's."""
    folder = tmp_path / "ein neuer Rechner, größer"
    words = ["--minutes", "0.02", "--words", TINY, "--lab-words", "grid.seeds=[0]", str(folder)]
    done = visit(*words, NEWCOMER_VENV=sys.prefix)
    assert done.returncode == 0, done.stdout + done.stderr
    head, *rows = done.stdout.splitlines()
    assert head.split() == ["step", "seconds", "seen"]
    assert [re.split(r"\s{2,}", row)[0] for row in rows] == [*STEPS, "all"]
    assert all(re.fullmatch(r".*?\s+\d+\.\d  \S.*", row) for row in rows), rows
    assert (folder / "home/.cache/isoflop").is_dir() and not (folder / "home/.config/isoflop").exists()


def test_set_up_in_a_folder_with_spaces(tmp_path: Path) -> None:
    """The words that pip is given, by a Python that only writes them down."""
    clone = tmp_path / "mein Ordner (größer)"
    for name in ("scripts/setup", "pyproject.toml", "constraints.txt"):
        (clone / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, clone / name)
    python = clone / ".venv/bin/python"
    python.parent.mkdir(parents=True)
    python.write_text('#!/bin/sh\nprintf "%s|" "$@" >> "$(dirname "$0")/said"\necho >> "$(dirname "$0")/said"\n')
    python.chmod(0o755)
    subprocess.run([clone / "scripts/setup", "[hub]"], check=True, capture_output=True)
    torch, ours = (python.parent / "said").read_text().splitlines()
    assert re.fullmatch(r".*\|-c\|.*/constraints.txt\|torch==[\d.]+\|", torch)
    assert ours.endswith(f"|-c|{clone}/constraints.txt|-e|{clone}[hub]|")
    assert (clone / ".venv/.installedhub").is_file()


def test_what_fails_is_named_in_one_line(tmp_path: Path) -> None:
    done = visit("--minutes", "1", str(tmp_path / "new"), NEWCOMER_VENV=str(tmp_path))
    assert done.returncode == 1
    *progress, line = done.stderr.splitlines()
    assert line.startswith("newcomer: set-up: NEWCOMER_VENV: ") and "no environment of Python" in line
    assert str(tmp_path / "new" / "logs" / "set-up.txt") in line and len(progress) == 2
    assert [row.split()[0] for row in done.stdout.splitlines()] == ["step", "clone", "all"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--minutes", "0"], "a number above 0 wanted"),
        (["--minutes", "x"], "'x' given, a number above 0 wanted"),
        (["."], "an empty folder"),
    ],
)
def test_wrong_words_begin_nothing(words: list[str], said: str) -> None:
    done = visit(*words)
    assert done.returncode == 2 and said in done.stderr.splitlines()[-1] and done.stdout == ""
