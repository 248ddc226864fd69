"""Checkpoints that are complete or absent, and that any ZeRO stage and any number of ranks can read.

    checkpoints/step-00000200/
      model-00001-of-00002.safetensors      whole fp32 weights, a share of the parameters per rank
      moments-00001-of-00002.safetensors    fp32 slices of the optimizer's states, `<kind>/<parameter>@<first element>`
      manifest.json                         step, tensors, where each slice is, a sha256 of every file and of itself

A rank that resumes asks for slices of flattened parameters, whatever the layout that wrote them.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from trainer.config import CheckpointConfig
from trainer.training.distributed import World
from trainer.training.engine import Engine
from trainer.utils.checkpoint_files import (
    FORMAT,
    CorruptCheckpoint,
    folder_of,
    holds_weights,
    manifest_digest,
    steps_in,
    verified_manifest,
)
from trainer.utils.files import fsync_folder, sha256, write_synced

# --- writing ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Snapshot:
    """This rank's share of a checkpoint in host memory; training may go on while it is written."""

    step: int
    zero_stage: int
    shapes: dict[str, tuple[int, ...]]
    weights: dict[str, Tensor]  # whole, fp32
    states: dict[str, Tensor]  # `<kind>/<parameter>@<first element>` -> fp32 slice
    slices: list[dict[str, Any]]  # what the states are: name, kind, start, numel


def snapshot(engine: Engine, world: World, step: int, buffers: dict[str, Tensor] | None = None) -> Snapshot:
    """Copy this rank's share of the state after `step` updates. Collective: at stage 3 all ranks gather each weight.

    `buffers` are memory of an earlier snapshot that is no longer needed, to be used again.
    """
    buffers = {} if buffers is None else buffers
    weights = {
        name: _copied(f"weight/{name}", weight, buffers)
        for index, (name, weight) in enumerate(engine.weights())
        if index % world.size == world.rank
    }
    states: dict[str, Tensor] = {}
    slices = []
    for fragment in engine.to_save():
        key = f"{fragment.kind}/{fragment.name}@{fragment.start}"
        states[key] = _copied(key, fragment.tensor, buffers)
        metadata = {"name": fragment.name, "kind": fragment.kind, "start": fragment.start}
        slices.append(metadata | {"numel": fragment.tensor.numel()})
    engine.synchronize()
    return Snapshot(step, engine.stage, engine.shapes(), weights, states, slices)


def _copied(name: str, tensor: Tensor, buffers: dict[str, Tensor]) -> Tensor:
    buffer = buffers.get(name)
    if buffer is None or buffer.shape != tensor.shape:
        pinned = tensor.device.type == "cuda"
        buffer = buffers[name] = torch.empty(tensor.shape, dtype=torch.float32, pin_memory=pinned)
    return buffer.copy_(tensor.detach(), non_blocking=True)


def write(saved: Snapshot, world: World, checkpoints: Path, metadata: dict[str, Any]) -> Path:
    """Write a checkpoint, each rank its share. Collective. Raises OSError on every rank when any rank could not write;
    the folder is then absent and its staging folder is removed."""
    step = saved.step
    target, staging = folder_of(checkpoints, step), checkpoints / f".step-{step:08d}.partial"
    try:
        _together(world, lambda: _clear(staging) if world.is_first else None)
        shares = _together(world, lambda: _write_share(saved, world, staging))
        facts = {"step": step, "world_size": world.size, **metadata, "zero_stage": saved.zero_stage}
        publish = partial(_publish, staging, target, facts, saved.shapes, shares)
        _together(world, lambda: publish() if world.is_first else None)
    except OSError:
        if world.is_first:
            shutil.rmtree(staging, ignore_errors=True)
        raise
    return target


def _together(world: World, action: Callable[[], Any]) -> list[Any]:
    """Run on every rank: either all ranks get all results, or all ranks raise the first OSError."""
    result, failure = None, None
    try:
        result = action()
    except OSError as error:
        failure = (error.errno, error.strerror)
    outcomes = world.gather((result, failure))
    for _, first in outcomes:
        if first is not None:
            raise OSError(*first)
    return [one for one, _ in outcomes]


def _clear(staging: Path) -> None:
    staging.parent.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir()


def _write_share(saved: Snapshot, world: World, staging: Path) -> dict[str, Any]:
    """This rank's two files."""
    suffix = f"{world.rank + 1:05d}-of-{world.size:05d}.safetensors"
    model_file = "model.safetensors" if world.size == 1 else f"model-{suffix}"
    states_file = f"moments-{suffix}"
    files = {
        model_file: _write_tensors(staging / model_file, saved.weights),
        states_file: _write_tensors(staging / states_file, saved.states),
    }
    slices = [slice_ | {"file": states_file} for slice_ in saved.slices]
    return {"files": files, "weights": dict.fromkeys(saved.weights, model_file), "moments": slices}


def _write_tensors(path: Path, tensors: dict[str, Tensor]) -> dict[str, Any]:
    """Straight to the file: safetensors holds the interpreter for as long as it builds a string of bytes."""
    path.touch()
    mode = path.stat().st_mode  # by the umask; safetensors writes a file aside that is nobody else's
    try:
        save_file(tensors, path, metadata={"format": "pt"})
        path.chmod(mode)
    except SafetensorError as error:
        raise _os_error(error) from None
    with open(path, "rb+") as file:
        os.fsync(file.fileno())
    return {"bytes": path.stat().st_size, "sha256": sha256(path)}


def _os_error(error: SafetensorError) -> OSError:
    """What the system said, which safetensors has only as text: `I/O error: ... (os error 28)`."""
    number = re.search(r"os error (\d+)", str(error))
    return OSError(int(number[1]), os.strerror(int(number[1]))) if number else OSError(5, str(error))


def _publish(
    staging: Path,
    target: Path,
    facts: dict[str, Any],
    shapes: Mapping[str, tuple[int, ...]],
    shares: list[dict[str, Any]],
) -> None:
    """Write the manifest, the last file of a staging folder, and rename the folder to what it is from then on."""
    manifest = {
        "format": FORMAT,
        **facts,
        "shapes": shapes,
        "weights": {name: file for share in shares for name, file in share["weights"].items()},
        "moments": [slice_ for share in shares for slice_ in share["moments"]],
        "files": {name: file for share in shares for name, file in share["files"].items()},
    }
    manifest["sha256"] = manifest_digest(json.loads(json.dumps(manifest)))
    write_synced(staging / "manifest.json", json.dumps(manifest, indent=1).encode())
    fsync_folder(staging)
    if target.exists():  # the same step saved again, by a run that went back before it
        os.rename(target, target.with_name(f".{target.name}.old.partial"))
    os.rename(staging, target)
    fsync_folder(target.parent)
    shutil.rmtree(target.with_name(f".{target.name}.old.partial"), ignore_errors=True)


def save_weights(checkpoints: Path, weights: dict[str, Tensor], metadata: dict[str, Any]) -> Path:
    """A checkpoint of step 0 from weights alone, as of an imported model; its optimizer states read as zeros."""
    return write_weights(folder_of(checkpoints, 0), weights, {"step": 0, **metadata})


def write_weights(target: Path, weights: dict[str, Tensor], facts: dict[str, Any]) -> Path:
    """A folder of whole fp32 weights with a manifest, complete or absent. `facts`: the step, and what else it says."""
    staging = target.with_name(f".{target.name}.partial")
    _clear(staging)
    name = "model.safetensors"
    whole = {parameter: value.float().contiguous() for parameter, value in weights.items()}
    files = {name: _write_tensors(staging / name, whole)}
    share = {"files": files, "weights": dict.fromkeys(weights, name), "moments": []}
    shapes = {parameter: tuple(value.shape) for parameter, value in weights.items()}
    _publish(staging, target, {"world_size": 1, **facts}, shapes, [share])
    return target


def remove_leftovers(checkpoints: Path) -> None:
    """Delete the staging folders of killed processes."""
    if checkpoints.is_dir():
        for path in checkpoints.glob(".step-*.partial"):
            shutil.rmtree(path, ignore_errors=True)


def prune(checkpoints: Path, config: CheckpointConfig, saved_step: int, best_step: int | None) -> list[int]:
    """Delete checkpoints beyond the retention rules once that of `saved_step` is complete; returns their steps.

    One of a later step was found damaged when the run went on from before it: it is left alone, and takes no place.
    """
    steps = [step for step in steps_in(checkpoints) if step <= saved_step]
    keep = set(steps[-config.keep_last :])
    if config.keep_best and best_step is not None:
        keep.add(best_step)
    if config.keep_every is not None:
        keep.update(step for step in steps if step % config.keep_every == 0)
    keep.update(config.at_steps)
    pruned = [step for step in steps if step not in keep]
    for step in pruned:  # renamed first, so that a half-deleted folder never looks complete
        folder = folder_of(checkpoints, step)
        gone = folder.with_name(f".{folder.name}.partial")
        os.rename(folder, gone)
        shutil.rmtree(gone, ignore_errors=True)
    return pruned


def set_aside(checkpoints: Path, step: int) -> list[str]:
    """Rename the checkpoints after `step`, so that nothing goes on from them; returns their new names."""
    names = []
    for late in steps_in(checkpoints):
        if late > step:
            folder = folder_of(checkpoints, late)
            names.append(f"untrusted-{folder.name}")
            shutil.rmtree(folder.with_name(names[-1]), ignore_errors=True)  # of an attempt before
            os.rename(folder, folder.with_name(names[-1]))
    return names


# --- reading ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Checkpoint:
    """A verified checkpoint on disk."""

    folder: Path
    manifest: dict[str, Any]

    @property
    def step(self) -> int:
        return int(self.manifest["step"])

    def reader(self) -> Callable[[str, str, int, int], Tensor]:
        """read(name, kind, start, numel): fp32 elements [start, start + numel) of a flattened parameter or state."""
        slices: dict[tuple[str, str], list[dict[str, Any]]] = {}
        for slice_ in self.manifest["moments"]:
            slices.setdefault((slice_["name"], slice_["kind"]), []).append(slice_)
        files = {name: safe_open(self.folder / name, "pt") for name in self.manifest["files"]}  # type: ignore[no-untyped-call]
        whole: dict[str, Tensor] = {}  # the parameter read last: its slices are asked for in a row

        def read(name: str, kind: str, start: int, numel: int) -> Tensor:
            if kind == "weight":
                if name not in whole:
                    whole.clear()
                    whole[name] = files[self.manifest["weights"][name]].get_tensor(name).view(-1)
                return whole[name].narrow(0, start, numel)
            if not slices:  # an imported model has not been stepped yet
                return torch.zeros(numel)
            result = torch.empty(numel, dtype=torch.float32)
            missing = numel
            for slice_ in slices[(name, kind)]:
                first = max(start, slice_["start"])
                last = min(start + numel, slice_["start"] + slice_["numel"])
                if first < last:
                    part = files[slice_["file"]].get_slice(f"{kind}/{name}@{slice_['start']}")
                    result[first - start : last - start] = part[first - slice_["start"] : last - slice_["start"]]
                    missing -= last - first
            if missing:
                raise CorruptCheckpoint(f"{missing} elements of {kind} of {name} are in no file")
            return result

        return read

    def weights(self) -> dict[str, Tensor]:
        """The whole fp32 weights by name."""
        read = self.reader()
        shapes = self.manifest["shapes"]
        return {n: read(n, "weight", 0, int(torch.Size(s).numel())).view(*s).clone() for n, s in shapes.items()}


def open_checkpoint(folder: Path, share: tuple[int, int] = (0, 1)) -> Checkpoint:
    """Open and verify: rank r of n checks every n-th file. Raises CorruptCheckpoint, naming what is wrong."""
    return Checkpoint(folder, verified_manifest(folder, lambda number, *_: number % share[1] == share[0]))


def open_weights(folder: Path) -> Checkpoint:
    """Open and verify what of a checkpoint holds weights. Raises CorruptCheckpoint, naming what is wrong."""
    return Checkpoint(folder, verified_manifest(folder, holds_weights))


def latest_valid_checkpoint(checkpoints: Path, world: World) -> tuple[Checkpoint | None, list[str]]:
    """The latest checkpoint whose bytes are as written, and a line for each later one that is corrupt. Collective."""
    damage: list[str] = []
    for step in reversed(world.broadcast(steps_in(checkpoints))):
        checkpoint, error = None, None
        try:
            checkpoint = open_checkpoint(folder_of(checkpoints, step), (world.rank, world.size))
        except CorruptCheckpoint as caught:
            error = str(caught)
        errors = [one for one in world.gather(error) if one]
        if not errors:
            return checkpoint, damage
        damage.append(_damage(step, errors[0]))
    return None, damage


def valid_checkpoints(checkpoints: Path) -> Iterator[Checkpoint]:
    """Valid checkpoints, latest first, for readers only; the corrupt ones among them are named on standard error."""
    for step in reversed(steps_in(checkpoints)):
        try:
            yield open_checkpoint(folder_of(checkpoints, step))
        except CorruptCheckpoint as error:
            print(f"isoflop: {_damage(step, str(error))}", file=sys.stderr)


def _damage(step: int, what: str) -> str:
    return f"checkpoint of step {step} is damaged ({what}) and was not used"
