"""Merging of checkpoints in place of a decay of the learning rate (WSM, Tian et al. 2025, arXiv 2507.17634).

A run at a constant rate whose later steps had been w(s) times as long, w falling from 1 to 0, would end at about
sum_j c_j theta_j: each checkpoint theta_j weighs what w falls behind it, because the steps up to it count w before it.
With w(j) = decay((s_j - s_0) / (s_K - s_0) x K / (K + 1)) at the j-th of the checkpoints 0 .. K, c_0 = 1 - w(1),
c_j = w(j) - w(j + 1) and c_K = w(K): no weight is below 0, they sum to 1, and a linear decay over equal distances is
the mean (Sanyal et al. 2023; model soups, Wortsman et al. 2022).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from trainer.run_folder import RunFolder
from trainer.training.checkpoint import write_weights
from trainer.training.chosen_weights import ChosenWeights
from trainer.utils.checkpoint_files import CorruptCheckpoint, folder_of, steps_in
from trainer.utils.errors import UserError
from trainer.utils.files import fsync_folder
from trainer.utils.which_weights import Place, merged_folder, wholly_intact

DECAYS: dict[str, Callable[[float], float]] = {
    "linear": lambda done: 1 - done,
    "cosine": lambda done: 0.5 * (1 + math.cos(math.pi * done)),
    "sqrt": lambda done: 1 - math.sqrt(done),
}
WEIGHTS = ("uniform", *DECAYS)


def shares(steps: Sequence[int], weights: str) -> list[float]:
    """What each checkpoint weighs, of at least two steps in rising order; they sum to 1."""
    last = len(steps) - 1
    if weights == "uniform":
        return [1 / len(steps)] * len(steps)
    length = (steps[-1] - steps[0]) * len(steps) / last
    lengths = [DECAYS[weights]((step - steps[0]) / length) for step in steps]
    return [own - behind for own, behind in zip(lengths, [*lengths[1:], 0.0], strict=True)]


def merge(run: Path, steps: Sequence[int], weights: str, name: str) -> dict[str, Any]:
    """Write the average `name` of checkpoints of a run. Returns facts to print.

    Raises UserError for a step without an intact checkpoint, checkpoints of unlike models, and a name that is taken.
    """
    folder = RunFolder(run)
    config, target = folder.load_config(), merged_folder(run, name)
    if name in config.optim.averages:
        raise UserError(f"merge: name: {name} is an average of the run's own (optim.averages); choose another name=")
    if target.exists():
        raise UserError(f"merge: name: {target} is there already; choose another name=, or delete that folder")
    sources = [_checkpoint(folder, step) for step in sorted(steps)]
    for one in sources[1:]:
        _same_shapes(sources[0], one)
    weighed = shares([one.step for one in sources], weights)
    target.parent.mkdir(exist_ok=True)
    fsync_folder(run)
    facts = {
        "step": sources[-1].step,
        "science": sources[-1].manifest.get("science", config.science_hash()),
        "best": {},
        "merged": {
            "steps": [one.step for one in sources],
            "weights": weights,
            "shares": weighed,
            "digests": [Place(one.folder, one.manifest, None).digest for one in sources],
        },
    }
    write_weights(target, _sum(sources, weighed), facts)
    return {"average": name, "folder": str(target), "steps": facts["merged"]["steps"], "shares": weighed}  # type: ignore[index]


def _sum(sources: Sequence[ChosenWeights], weighed: Sequence[float]) -> dict[str, Tensor]:
    """Added up in fp64, parameter by parameter; fp32."""
    readers = [one.reader() for one in sources]
    summed = {}
    for name, shape in sources[0].shapes.items():
        total = torch.zeros(shape, dtype=torch.float64)
        for read, share in zip(readers, weighed, strict=True):
            total.add_(read(name), alpha=share)
        summed[name] = total.float()
    return summed


def _checkpoint(folder: RunFolder, step: int) -> ChosenWeights:
    known = steps_in(folder.checkpoints)
    if step not in known:
        there = f"there is {', '.join(map(str, known))}" if known else "there is none yet"
        raise UserError(f"merge: steps: no checkpoint of step {step} in {folder.path}; {there}")
    path = folder_of(folder.checkpoints, step)
    try:
        return ChosenWeights.of(Place(path, wholly_intact(path, None), None))
    except CorruptCheckpoint as error:
        raise UserError(f"merge: steps: {path} is damaged ({error}); leave it out") from None


def _same_shapes(one: ChosenWeights, other: ChosenWeights) -> None:
    for name in {**one.shapes, **other.shapes}:
        ours, theirs = one.shapes.get(name), other.shapes.get(name)
        if ours != theirs:
            said = [str(list(shape)) if shape is not None else "not there" for shape in (ours, theirs)]
            raise UserError(
                f"merge: steps: {one.step} and {other.step} are of unlike models: {name} is {said[0]} and {said[1]}"
            )
