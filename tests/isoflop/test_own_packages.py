"""In the folder of a project that has a `trainer.py`, `kernels/`, `launch/` and `conf/` of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from launch.nodes import node_script
from launch.plan import Resources
from trainer.compose import compose
from trainer.utils.own_packages import HOME, NAMES, OWN, foreign, search_path

ROOT = Path(__file__).resolve().parents[2]
COMMAND = [sys.executable, "-P", "-m", "isoflop"]  # as the installed command: the current folder is not searched


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Whoever imports its packages in place of ours ends with exit code 99."""
    for name in ("trainer.py", *(f"{name}/__init__.py" for name in NAMES)):
        file = tmp_path / "project" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("raise SystemExit(99)\n")
    return tmp_path / "project"


def test_a_project_with_packages_of_our_names_trains_in_ranks_of_their_own(project: Path, tiny: list[str]) -> None:
    words = [
        *tiny,
        "model.depth=1",
        "budget.steps=1",
        "launch.restarts=1",
        "evaluation.every_steps=null",
        "run.id=here",
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [*COMMAND, "train", *words], cwd=project, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert len(list(project.glob("runs/*/here/report.html"))) == 1
    refused = subprocess.run(
        [sys.executable, "-m", "isoflop", "plan"], cwd=project, env=environment, capture_output=True, text=True
    )
    assert refused.returncode == 2 and refused.stderr.count("\n") == 1
    assert f"the package 'trainer' is not isoflop's ({project}/trainer.py)" in refused.stderr


def test_another_nodes_agent_does_not_search_the_folder_it_works_in(project: Path, tmp_path: Path) -> None:
    config = compose(["launch=torchrun", "launch.nodes=2", "launch.hosts=[a,b]", "launch.ssh=true"])
    script = node_script(config, tmp_path / "run", Resources(folder=project, cache=None), 0)
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True)
    assert done.returncode == 2 and "config.yaml" in done.stderr  # ours, which looks for the run


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of installed packages with `wares`, which is ours, as if it were one of NAMES."""
    home = tmp_path / "site"
    (home / "wares").mkdir(parents=True)
    (home / "wares" / "__init__.py").write_text(f"{OWN}\n")
    monkeypatch.syspath_prepend(home)
    return home


def test_our_own_is_in_place(installed: Path) -> None:
    assert foreign("wares", installed) == ""
    assert not any(foreign(name, HOME) for name in NAMES)


def test_one_that_another_distribution_overwrote_is_told_with_its_name(installed: Path) -> None:
    (installed / "wares" / "__init__.py").write_text("def ware(): ...\n")
    about = installed / "wares_of_others-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: wares-of-others\nVersion: 1.0\n")
    (about / "top_level.txt").write_text("wares\n")
    said = foreign("wares", installed)
    assert said.startswith("the package 'wares' is not isoflop's any more (") and "\n" not in said
    assert "of the distribution wares-of-others)" in said and said.endswith("then install isoflop again")


def test_one_whose_first_file_went_with_another_distribution_is_told(installed: Path) -> None:
    (installed / "wares" / "__init__.py").unlink()
    assert foreign("wares", installed).endswith("install isoflop again")


def test_an_earlier_one_is_told(installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "early" / "wares").mkdir(parents=True)
    (tmp_path / "early" / "wares" / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path / "early")
    assert f"({tmp_path}/early/wares/__init__.py)" in foreign("wares", installed)


def test_the_search_path_names_us_once_and_first_and_no_folder_that_is_searched_anyway(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PYTHONPATH", "/elsewhere")
    assert search_path() == f"{HOME}{os.pathsep}/elsewhere"
    monkeypatch.setenv("PYTHONPATH", search_path())
    assert search_path() == f"{HOME}{os.pathsep}/elsewhere"
    monkeypatch.setenv("PYTHONPATH", "/elsewhere")
    monkeypatch.setattr("site.getsitepackages", lambda: [str(HOME)])
    assert search_path() == "/elsewhere"
