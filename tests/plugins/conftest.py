"""The command with plugins: the example, and small ones that a test writes."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.forks import FORKS

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "plugin"
Run = Callable[..., "subprocess.CompletedProcess[str]"]

OPTIMIZER = """
from trainer.descriptions.optimizers import OptimizerDescription
from trainer.utils.schema import key

class Plain(OptimizerDescription):
    name, help, implementation, states = "plain", "no state", "mine:plain", ()

    class Keys(OptimizerDescription.Keys):
        dampening_of_mine: float = key(0.0, "not read", ge=0)

def plain(groups, optim):
    import torch
    return torch.optim.SGD(groups, lr=optim.lr)
"""


@pytest.fixture
def isoflop(tmp_path: Path) -> Run:
    """The command, in an empty folder. path: what else is importable."""

    def run(*words: str, path: Path | None = None, program: str | None = None) -> subprocess.CompletedProcess[str]:
        python = os.pathsep.join([str(ROOT), *([str(path)] if path else [])])
        environment = {name: value for name, value in os.environ.items() if name != "ISOFLOP_PLUGINS"}
        environment["PYTHONPATH"] = python
        if program is None:
            return FORKS.run([*words], tmp_path, environment, 300)
        return subprocess.run(
            [sys.executable, "-c", program, *words],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
        )

    return run


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    def written(name: str = "mine.py", text: str = OPTIMIZER) -> Path:
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(textwrap.dedent(text))
        return file

    return written


@pytest.fixture
def installed(tmp_path: Path) -> Callable[..., Path]:
    """A folder that holds an installed distribution: one that declares entry points, and its packages."""

    def make(entry_points: str, packages: dict[str, str], name: str = "mine-dist") -> Path:
        site = tmp_path / "site"
        info = site / f"{name.replace('-', '_')}-1.5.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.5\n")
        (info / "entry_points.txt").write_text(textwrap.dedent(entry_points))
        for package, text in packages.items():
            (site / package).write_text(textwrap.dedent(text))
        return site

    return make
