"""A command that is forked off ends as one that is started does."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import LONGEST
from tests.forks import FORKS

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize("words", [["plan", "seed=3", "--json"], ["plan", "sede=3"], ["report", "nowhere"], []])
def test_it_says_what_a_process_of_its_own_says(isoflop: Any, words: list[str]) -> None:
    forked, started = isoflop(*words), isoflop(*words, STARTED="yes")
    assert (forked.returncode, forked.stdout, forked.stderr) == (started.returncode, started.stdout, started.stderr)


def test_its_folder_variables_and_search_path_are_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.py").write_text("import os\nraise OSError(os.getcwd() + os.environ['SAID'])\n")
    (tmp_path / "empty").mkdir()
    variables = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "PYTHONPATH": str(tmp_path), "SAID": " is where"}
    done = FORKS.run(["plan", "plugins=[mine]"], tmp_path / "empty", variables, 60)
    assert done.returncode == 2 and f"{tmp_path / 'empty'} is where" in done.stderr


def test_one_that_takes_too_long_is_killed_and_others_follow(isoflop: Any) -> None:
    with pytest.raises(subprocess.TimeoutExpired):
        isoflop("board", str(ROOT / "tests" / "golden" / "run_folders"), "open=false", timeout=3)
    assert isoflop("--version").returncode == 0


def test_the_longest_files_are_there() -> None:
    assert [name for name in LONGEST if not (ROOT / "tests" / name).is_file()] == []
