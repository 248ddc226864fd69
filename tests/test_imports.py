"""Imports run downwards; the rooms stay apart."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ABOVE_LAUNCH = ("cli", "start", "verbs", "compose", "scaling")
OURS = {"trainer", "kernels", "launch", "conf"}


def imports(file: Path) -> set[str]:
    """Absolute names that a file imports, wherever in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def files(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


def test_kernels_import_nothing_of_ours() -> None:
    for file in files("kernels"):
        foreign = {name for name in imports(file) if name.split(".")[0] in OURS - {"kernels"}}
        assert not foreign, (file, foreign)


@pytest.mark.parametrize("room", ["books", "data", "objectives", "models", "meter", "trackers", "tasks"])
def test_lower_rooms_do_not_import_upper_ones(room: str) -> None:
    upper = {
        "cli",
        "start",
        "worker",
        "loop",
        "compose",
        "evaluate",
        "generation",
        "trained",
        "report",
        "hub",
        "scaling",
    }
    for file in files(f"trainer/{room}"):
        above = {name for name in imports(file) if name.startswith("trainer.") and name.split(".")[1] in upper}
        assert not above, (file, above)


def test_launchers_compose_nothing() -> None:
    for file in files("launch"):
        above = {name for name in imports(file) if name.split(".")[:2] in [["trainer", room] for room in ABOVE_LAUNCH]}
        assert not above, (file, above)


def test_only_one_file_knows_deepspeed_and_one_knows_hydra() -> None:
    for library, home in (("deepspeed", "engine.py"), ("hydra", "compose.py")):
        users = {file.name for file in files("trainer") if any(n.split(".")[0] == library for n in imports(file))}
        assert users == {home}


@pytest.mark.parametrize("module", ["trainer.config", "trainer.books", "trainer.compose", "trainer.data"])
def test_planning_needs_no_torch(module: str) -> None:
    program = f"import sys, {module}; sys.exit('torch' in sys.modules or 'deepspeed' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT).returncode == 0
