"""A tracker that was added by its two files, with a key of its own that switches it on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def test_it_hears_of_every_step(isoflop: Any, tiny: list[str]) -> None:
    done = isoflop("train", *tiny, "tracker=[csv_file,csv]", "budget.steps=3", "evaluation.every_steps=null")
    assert done.returncode == 0, done.stderr
    run = Path(done.stdout.splitlines()[0])
    records = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    wanted = [f"{one['step']},{one['loss']}" for one in records if one["kind"] == "step"]
    assert (run / "losses.csv").read_text().splitlines() == ["step,loss", *wanted]
    assert len(wanted) == 3
    assert len((run / "metrics.csv").read_text().splitlines()) == 4  # beside one of the package


def test_its_key_is_typed(isoflop: Any, tiny: list[str]) -> None:
    done = isoflop("train", *tiny, "tracker.csv=losses.csv")
    assert (done.returncode, done.stderr) == (2, "isoflop: tracker.csv: 'losses.csv' given, a valid boolean wanted\n")
