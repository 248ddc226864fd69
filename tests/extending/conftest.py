"""A copy of the project to which files were added, and nothing changed: what a person does who adds a thing."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.forks import FORKS

ROOT = Path(__file__).resolve().parents[2]
ADDED = Path(__file__).parent / "files"  # laid over the project's own; docs/extending.md shows them
PLUGIN = ROOT / "examples" / "plugin" / "my_plugin"
# An implementation is the same inside the package and outside: these are those of the plugin.
SHARED = {
    "trainer/objectives/reverse.py": PLUGIN / "objective.py",
    "trainer/trackers/csv_file.py": PLUGIN / "tracker.py",
}

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project's packages with the added files among them."""
    folder = tmp_path_factory.mktemp("extended")
    for package in ("trainer", "kernels", "launch", "conf"):
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    added = {str(file.relative_to(ADDED)): file for file in ADDED.rglob("*.py")} | SHARED
    taken = [name for name in added if (folder / name).exists()]
    assert not taken, f"these would change a file instead of adding one: {taken}"
    for name, file in added.items():
        shutil.copy(file, folder / name)
    return folder


@pytest.fixture
def isoflop(project: Path, tmp_path: Path) -> Run:
    """The command of that copy, in an empty folder."""

    def run(*words: str, timeout: float = 300, project: Path = project) -> subprocess.CompletedProcess[str]:
        return FORKS.run([*words], tmp_path, {**os.environ, "PYTHONPATH": str(project)}, timeout)

    return run
