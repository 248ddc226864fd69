"""A plugin of pytest: each test is a row of the proof as soon as it ends, and those that passed before are left out.

PROOF_ROWS: the file descriptor for the rows; PROOF_DONE: a file that names what passed before, a line each.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

_begun: dict[str, float] = {}


def pytest_collection_modifyitems(config: Any, items: list[Any]) -> None:
    done = set(Path(os.environ["PROOF_DONE"]).read_text().splitlines())
    again = [item for item in items if item.nodeid not in done]
    config.hook.pytest_deselected(items=[item for item in items if item.nodeid in done])
    items[:] = again


def pytest_runtest_logreport(report: Any) -> None:
    """Called where the reports are gathered, with xdist too. A test is told by its call, or by what stopped it."""
    if "PYTEST_XDIST_WORKER" in os.environ or (report.when != "call" and report.passed):
        return
    row = {"name": report.nodeid, "part": "tests", "status": report.outcome, "seconds": report.duration}
    if report.failed:
        lines = str(report.longrepr).strip().splitlines()
        errors = [line[1:].strip() for line in lines if line.startswith("E ")]
        row["why"] = (errors or lines or ["no reason given"])[0][:300]
    elif report.skipped:
        row["why"] = str(report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr)[:300]
    os.write(int(os.environ["PROOF_ROWS"]), (json.dumps(row) + "\n").encode())
