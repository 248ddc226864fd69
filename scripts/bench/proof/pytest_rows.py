"""A plugin of pytest: each test is a row of the proof as soon as it ends, and those that passed before are left out.

PROOF_ROWS: the file descriptor for the rows; PROOF_DONE: a file that names what passed before, a line each.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

_failed: set[str] = set()


def pytest_collection_modifyitems(config: Any, items: list[Any]) -> None:
    done = set(Path(os.environ["PROOF_DONE"]).read_text().splitlines())
    again = [item for item in items if item.nodeid not in done]
    config.hook.pytest_deselected(items=[item for item in items if item.nodeid in done])
    items[:] = again


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol() -> Generator[None, object, object]:
    """A fault of one test that stays on the device would fail all later ones of the process: xdist gets another."""
    found = yield
    torch = sys.modules.get("torch")
    if "PYTEST_XDIST_WORKER" in os.environ and torch is not None and torch.cuda.is_initialized():
        try:
            torch.cuda.synchronize()
        except Exception:
            os._exit(1)
    return found


def pytest_runtest_logreport(report: Any) -> None:
    """Called where the reports are gathered, with xdist too. A test is told by its call, or by what stopped it."""
    if "PYTEST_XDIST_WORKER" in os.environ or (report.when != "call" and report.passed) or report.nodeid in _failed:
        return
    row = {"name": report.nodeid, "part": "tests", "status": report.outcome, "seconds": report.duration}
    if report.failed:
        _failed.add(report.nodeid)  # the first reason stands, also where its process ends
        lines = str(report.longrepr).strip().splitlines()
        errors = [line[1:].strip() for line in lines if line.startswith("E ")]
        row["why"] = (errors or lines or ["no reason given"])[0][:300]
    elif report.skipped:
        row["why"] = str(report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr)[:300]
    os.write(int(os.environ["PROOF_ROWS"]), (json.dumps(row) + "\n").encode())
