"""A run in which everything breaks ends where the undisturbed one does, and read every sample once."""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.trainer.training.faults.history import losses, samples_expected, samples_read
from trainer.trackers import read_events

ROOT = Path(__file__).resolve().parents[4]

SURVIVE = ["launch.restarts=100", "faults.straggler_steps=1"]

# How often each fault strikes in the long version.
MIXTURE = {"nan": 14, "kill": 14, "slow": 8, "agent": 6, "term": 6, "truncate": 4, "disk": 3, "hang": 1}


def plan(counts: dict[str, int], gap: int, seed: int) -> list[dict[str, Any]]:
    """These faults in random order and on random ranks, one every `gap` steps or so."""
    chance = random.Random(seed)
    kinds = [kind for kind, count in counts.items() for _ in range(count)]
    chance.shuffle(kinds)
    details: dict[str, dict[str, Any]] = {"slow": {"seconds": 0.5}, "disk": {"steps": 2 * gap}}
    only_first = ("truncate", "disk")
    return [
        {
            "kind": kind,
            "rank": 0 if kind in only_first else chance.randrange(2),
            "step": 5 + number * gap + chance.randrange(gap),
            **details.get(kind, {}),
        }
        for number, kind in enumerate(kinds)
    ]


def survive(words: list[str], folder: Path, faults: list[dict[str, Any]], starts: int) -> int:
    """Start the run again until it has finished; returns how often that was needed."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "ISOFLOP_TEST_FAULTS": json.dumps(faults)}
    program = [sys.executable, "-m", "tests.trainer.training.faults.chaos", "train", *words]
    for start in range(1, starts + 1):
        done = subprocess.run(program, cwd=folder, env=environment, capture_output=True, text=True, timeout=3600)
        if done.returncode == 0:
            return start
        assert done.returncode in (1, 75, -9), done.stdout[-3000:] + done.stderr[-3000:]
    raise AssertionError(f"not finished after {starts} starts:\n{done.stdout[-3000:]}{done.stderr[-3000:]}")


def weights(run: Path, step: int) -> dict[str, torch.Tensor]:
    files = (run / "checkpoints" / f"step-{step:08d}").glob("model*.safetensors")
    return {name: tensor for file in files for name, tensor in load_file(file).items()}


def check(tiny: list[str], folder: Path, faults: list[dict[str, Any]], starts: int) -> Path:
    """Both runs, and that nothing tells them apart."""
    steps = max(fault["step"] for fault in faults) + 3
    words = [*tiny, f"budget.steps={steps}", "checkpoint.every_steps=2", "checkpoint.keep_last=4"]
    words += ["evaluation.every_steps=null", "evaluation.samples=1", "launch.processes=2", "run.experiment=chaos"]
    survive([*words, "run.id=undisturbed"], folder, [], 1)
    disturbed = folder / "runs" / "chaos" / "disturbed"
    (disturbed / "checkpoints").mkdir(parents=True)
    disk = disturbed / "checkpoints"
    small = (
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", disk], capture_output=True).returncode == 0
    )
    if not small:  # a full disk needs one that can be filled
        faults = [fault for fault in faults if fault["kind"] != "disk"]
    try:
        hang_seconds = 6 if any(fault["kind"] == "hang" for fault in faults) else 120  # else a busy host hangs too
        words += [*SURVIVE, f"faults.hang_seconds={hang_seconds}", "run.id=disturbed"]
        survive(words, folder, faults, starts)
        undisturbed = folder / "runs" / "chaos" / "undisturbed"
        assert len(list((disturbed / "faults").iterdir())) == len(faults), "not every fault struck"
        assert losses(disturbed) == losses(undisturbed)
        assert sorted(losses(disturbed)) == list(range(1, steps + 1))
        assert samples_read(disturbed, steps) == samples_read(undisturbed, steps) == samples_expected(disturbed, steps)
        ours, theirs = weights(disturbed, steps), weights(undisturbed, steps)
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    finally:
        if small:
            subprocess.run(["umount", "--lazy", disk], check=True)
    return disturbed


def told(run: Path) -> Counter[str]:
    return Counter(event["name"] for event in read_events(run))


def test_five_faults(tiny: list[str], tmp_path: Path) -> None:
    """Few starts, because they are what costs: with the truncated checkpoint the agent is killed."""
    counts = dict.fromkeys(("nan", "kill", "slow", "term", "truncate"), 1)
    faults = [fault | {"patience": 60.0} for fault in plan(counts, 2, seed=2)]
    run = check(tiny, tmp_path, faults, starts=3)
    assert told(run)["transient"] == told(run)["stopped"] == told(run)["damage"] == 1
    assert told(run)["resume"] == 3  # after each of kill, truncate and term
    at = {fault["kind"]: fault for fault in faults}
    lost = [event for event in read_events(run) if event["name"] == "lost"]
    assert len(lost) == 2
    assert at["kill"]["rank"] == 1
    assert (lost[0]["step"], lost[0]["attempt"]) == (at["kill"]["step"], 0)
    assert re.match(r"rank 0 lost another rank \((Connection|Broken pipe)", lost[0]["text"])
    slow = [event["text"] for event in read_events(run) if event["name"] == "straggler"]
    assert any(text.startswith(f"rank {at['slow']['rank']} on ") for text in slow)


@pytest.mark.slow
def test_more_than_fifty_faults(tiny: list[str], tmp_path: Path) -> None:
    seed = int(os.environ.get("ISOFLOP_TEST_SEED", "7"))
    faults = plan(MIXTURE, 3, seed)
    assert len(faults) >= 50
    run = check(tiny, tmp_path, faults, starts=20)
    events = told(run)
    assert events["transient"] == MIXTURE["nan"]
    assert events["hang"] == MIXTURE["hang"]
    assert events["resume"] >= sum(MIXTURE[kind] for kind in ("kill", "agent", "term", "truncate", "hang"))
