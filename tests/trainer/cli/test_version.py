"""`isoflop --version`."""

from __future__ import annotations

import importlib.metadata
import platform

import pytest

from trainer.cli.main import main


def test_the_version_is_that_of_the_package_and_of_what_is_below_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first == f"isoflop {importlib.metadata.version('isoflop')}"
    below = {name: importlib.metadata.version(name) for name in ("torch", "deepspeed", "triton")}
    assert second == ", ".join(
        f"{name} {version}" for name, version in {"Python": platform.python_version(), **below}.items()
    )
