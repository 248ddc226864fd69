"""A schedule that was added by its two files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest


def test_a_run_follows_it(isoflop: Any, tiny: list[str]) -> None:
    words = [*tiny, "optim.schedule=inverse_sqrt", "optim.timescale=2", "optim.lr=0.01", "optim.warmup_steps=1"]
    done = isoflop("train", *words, "budget.steps=4", "evaluation.every_steps=null")
    assert done.returncode == 0, done.stderr
    records = map(json.loads, (Path(done.stdout.splitlines()[0]) / "metrics.jsonl").read_text().splitlines())
    rates = [one["lr"] for one in records if one["kind"] == "step"]
    assert rates == pytest.approx([0.01, 0.01, 0.01 * (2 / 3) ** 0.5, 0.01 * (2 / 4) ** 0.5])


def test_its_key_is_its_own(isoflop: Any, tiny: list[str]) -> None:
    done = isoflop("train", *tiny, "optim.timescale=2", "optim.decay_fraction=0.5")
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "isoflop: optim.timescale: optim.schedule=cosine does not read it; inverse_sqrt does",
        "isoflop: optim.decay_fraction: optim.schedule=cosine does not read it; wsd does",
    ]
