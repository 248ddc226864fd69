"""Runs that tests train by the command, and what is left of one that ended half way."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any


def trained(isoflop: Any, *words: str) -> Path:
    done = isoflop("train", *words)
    assert done.returncode == 0, done.stderr
    return Path(done.stdout.splitlines()[0])


def half_way(run: Path, name: str, *, after: int) -> Path:
    """A copy of a run as it was after step `after`, at which it wrote a checkpoint."""
    half = run.with_name(name)
    shutil.copytree(run, half)
    for folder in (half / "checkpoints").glob("step-*"):
        if int(folder.name.removeprefix("step-")) > after:
            shutil.rmtree(folder)
    lines = (half / "metrics.jsonl").read_text().splitlines()
    kept = [line for line in lines if json.loads(line)["step"] <= after]
    (half / "metrics.jsonl").write_text("\n".join(kept) + "\n")
    return half
