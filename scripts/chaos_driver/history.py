"""What a finished run computed and read, and where two of them differ."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from trainer.trackers import read_metrics

LOSS_TOLERANCE = 1e-5  # relative, of every step and every evaluation
WEIGHT_TOLERANCE = 2e-4  # norm of a tensor's difference over its norm: AdamW divides by small roots of second moments


@dataclass(frozen=True)
class History:
    """Of the attempts that count."""

    losses: dict[int, float]  # by step
    tokens: dict[int, int]  # by step: the counter
    held_out: dict[int, float]  # by step
    samples: dict[int, Counter[str]]  # by step: fingerprints of the samples that it was made of
    weights: dict[str, torch.Tensor]  # of the last checkpoint


def read_history(run: Path, reads: Path) -> History:
    """From a run folder, and the folder where its ranks noted what they read."""
    records = read_metrics(run)
    steps = {record["step"]: record for record in records if record["kind"] == "step"}
    last = max((path for path in (run / "checkpoints").glob("step-*") if path.name[5:].isdigit()), default=run)
    return History(
        {step: record["loss"] for step, record in steps.items()},
        {step: record["tokens"] for step, record in steps.items()},
        {record["step"]: record["loss"] for record in records if record["kind"] == "evaluation"},
        _samples(reads),
        {name: tensor for file in last.glob("model*.safetensors") for name, tensor in load_file(file).items()},
    )


def _samples(reads: Path) -> dict[int, Counter[str]]:
    """Of each step the newest attempt that made it counts: the one before did not come as far as its checkpoint."""
    rows: dict[int, dict[int, list[str]]] = {}  # step -> attempt -> fingerprints
    for file in reads.glob("*.jsonl"):
        attempt = int(file.stem.partition("-")[0])
        for line in file.read_text(errors="replace").splitlines():
            try:
                record = json.loads(line)
            except ValueError:  # torn by a kill
                continue
            rows.setdefault(record["step"] + 1, {}).setdefault(attempt, []).extend(record["rows"])
    return {step: Counter(attempts[max(attempts)]) for step, attempts in sorted(rows.items())}


def differences(ours: History, theirs: History) -> list[str]:
    """A line for everything in which the disturbed run is not the undisturbed one; none where both are the same."""
    found = []
    for what in ("losses", "tokens", "held_out", "samples", "weights"):
        mine, other = getattr(ours, what), getattr(theirs, what)
        for keys, how in ((other.keys() - mine.keys(), "missing"), (mine.keys() - other.keys(), "too many")):
            if keys:
                found.append(f"{what}: {len(keys)} {how}, the first is {min(keys)}")
    for what, most in (("losses", LOSS_TOLERANCE), ("held_out", LOSS_TOLERANCE), ("weights", WEIGHT_TOLERANCE)):
        off = {key: value for key, value in apart(ours, theirs)[what].items() if not value <= most}
        if off:
            found.append(f"{what}: {max(off.values()):.1e} apart at most, the first is {min(off)}")
    for what in ("samples", "tokens"):
        mine, other = getattr(ours, what), getattr(theirs, what)
        if off_steps := [step for step in mine.keys() & other.keys() if mine[step] != other[step]]:
            found.append(f"{what}: others than in the undisturbed run, the first in step {min(off_steps)}")
    return found


def repeated(history: History) -> list[str]:
    """A line where a sample was read twice."""
    times = sum(history.samples.values(), Counter[str]())
    twice = [sample for sample, count in times.items() if count > 1]
    return [f"samples: {len(twice)} were read more than once"] if twice else []


def apart(ours: History, theirs: History) -> dict[str, dict[Any, float]]:
    """Relative differences of what both have: losses and held_out by step, weights by name."""

    def both(what: str, difference: Callable[[Any, Any], float]) -> dict[Any, float]:
        mine, other = getattr(ours, what), getattr(theirs, what)
        return {key: difference(mine[key], other[key]) for key in mine.keys() & other.keys()}

    return {
        "losses": both("losses", _numbers_apart),
        "held_out": both("held_out", _numbers_apart),
        "weights": both("weights", _tensors_apart),
    }


def _numbers_apart(ours: float, theirs: float) -> float:
    return abs(ours - theirs) / max(abs(theirs), 1e-30)


def _tensors_apart(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    if ours.shape != theirs.shape:
        return float("inf")
    return float((ours - theirs).norm() / theirs.norm().clamp_min(1e-30))
