"""What a finished run computed and read, and where two of them differ."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file

from trainer.trackers import read_metrics

LOSS_TOLERANCE = 1e-5  # relative, of every step and every evaluation
WEIGHT_TOLERANCE = 1e-3  # norm of a tensor's difference over its norm: AdamW divides by small roots of second moments


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
        if missing := sorted(other.keys() - mine.keys()):
            found.append(f"{what}: {len(missing)} are missing, the first is {missing[0]}")
        if extra := sorted(mine.keys() - other.keys()):
            found.append(f"{what}: {len(extra)} too many, the first is {extra[0]}")
    for what in ("losses", "held_out"):
        mine, other = getattr(ours, what), getattr(theirs, what)
        off = {step: apart(mine[step], other[step]) for step in mine.keys() & other.keys()}
        if off and not (worst := max(off.values())) <= LOSS_TOLERANCE:
            step = min(step for step in off if not off[step] <= LOSS_TOLERANCE)
            found.append(f"{what}: {worst:.1e} apart at most, from step {step} on")
    for step in sorted(ours.samples.keys() & theirs.samples.keys()):
        if ours.samples[step] != theirs.samples[step]:
            found.append(f"samples: step {step} was made of others")
            break
    if wrong := [step for step in ours.tokens if ours.tokens[step] != theirs.tokens.get(step)]:
        found.append(f"tokens: the counter differs from step {min(wrong)} on")
    for name in sorted(ours.weights.keys() & theirs.weights.keys()):
        if not (off_by := tensor_apart(ours.weights[name], theirs.weights[name])) <= WEIGHT_TOLERANCE:
            found.append(f"weights: {name} is {off_by:.1e} apart")
    return found


def repeated(history: History) -> list[str]:
    """A line where a sample was read twice."""
    times = sum(history.samples.values(), Counter[str]())
    twice = [sample for sample, count in times.items() if count > 1]
    return [f"samples: {len(twice)} were read more than once"] if twice else []


def apart(ours: float, theirs: float) -> float:
    """Relative difference; nan where one is nan."""
    return abs(ours - theirs) / max(abs(theirs), 1e-30)


def tensor_apart(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    if ours.shape != theirs.shape:
        return float("inf")
    return float((ours - theirs).norm() / theirs.norm().clamp_min(1e-30))


def greatest(ours: History, theirs: History) -> dict[str, float]:
    """The largest relative difference of losses, held-out losses and weights."""
    return {
        "losses": max(
            (apart(ours.losses[s], theirs.losses[s]) for s in ours.losses.keys() & theirs.losses.keys()), default=0
        ),
        "held_out": max(
            (apart(ours.held_out[s], theirs.held_out[s]) for s in ours.held_out.keys() & theirs.held_out.keys()),
            default=0,
        ),
        "weights": max(
            (tensor_apart(ours.weights[n], theirs.weights[n]) for n in ours.weights.keys() & theirs.weights.keys()),
            default=0,
        ),
    }
