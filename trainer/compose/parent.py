"""The run whose weights another one begins from: its folder, its configuration, and which checkpoint."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from trainer.config import Config, InitConfig
from trainer.run_folder import RunFolder, find_run
from trainer.tokenizer_files import read_file, tokenizer_file
from trainer.utils.checkpoint_files import CorruptCheckpoint, folder_of, steps_in
from trainer.utils.errors import UserError
from trainer.utils.home import expanded
from trainer.utils.which_weights import Place, Which, averages_in, intact, merged_folder, no_average, places

OF_TRANSFORMERS = ("config.json", "pytorch_model.bin", "model.safetensors", "model.safetensors.index.json")


@dataclass(frozen=True)
class Parent:
    """A run, and the checkpoint of it that is taken."""

    folder: RunFolder
    config: Config
    step: int
    weights: str  # sha256, see `Place.digest`

    @property
    def tokenizer(self) -> str | None:
        """sha256 of its tokenizer; null where it has none."""
        return file_digest(self.folder.tokenizer) if self.folder.tokenizer.is_file() else None


def find_parent(init: InitConfig) -> Parent:
    """The run that the group names, with an intact checkpoint of pre-training. Raises UserError, saying the way out."""
    name = str(init.run)
    folder = _run(name)
    config = folder.load_config()
    if config.task.outputs:
        way = f"; name the run that it was tuned from: init={config.task.parent}" if config.task.parent else ""
        raise UserError(
            f"init: {name} was tuned with task.kind={config.task.kind}, and has no head of pre-training any more{way}"
        )
    place = _merged(folder, name, init) or _checkpoint(folder, name, init)
    return Parent(folder, config, place.step, place.digest)


def file_digest(path: Path) -> str:
    """sha256 of a tokenizer as one file, as runs keep it. Raises UserError where it cannot be read."""
    return hashlib.sha256(read_file(tokenizer_file(path))).hexdigest()


def _run(name: str) -> RunFolder:
    if not name:  # as of an unset variable of the shell
        raise UserError("init: name a run, e.g. init=runs/<experiment>/<id>; got none")
    path = expanded(name)
    if (path / "manifest.json").is_file() and path.name.startswith("step-"):
        step = path.name.removeprefix("step-").lstrip("0") or "0"
        raise UserError(f"init: {name} is a checkpoint; name its run: init={path.parent.parent}@{step}")
    if name.startswith("hub:") or (not (path / "config.yaml").is_file() and _is_of_transformers(path)):
        raise UserError(f"init: {name} is no run yet; isoflop import {name} to=<folder> makes one, then init=<folder>")
    if path.is_file():
        raise UserError(f"init: {name} is a file; name the folder of a run")
    try:
        return find_run(name, "runs")
    except UserError as error:
        raise UserError(f"init: {error}") from None


def _is_of_transformers(path: Path) -> bool:
    return any((path / name).is_file() for name in OF_TRANSFORMERS)


def _merged(folder: RunFolder, name: str, init: InitConfig) -> Place | None:
    """A merged average of that name; None where there is none."""
    if init.average is None or not merged_folder(folder.path, init.average).is_dir():
        return None
    try:
        place = next(places(folder.path, Which(average=init.average), _intact))
    except UserError as error:
        raise UserError(f"init: {name}: {error}") from None
    if init.step not in (None, place.step):
        raise UserError(f"init: {name}: {init.average} is merged of several steps; name it without @{init.step}")
    return place


def _checkpoint(folder: RunFolder, name: str, init: InitConfig) -> Place:
    """The checkpoint asked for, or the newest one whose weights are intact."""
    step, average = init.step, init.average
    steps = steps_in(folder.checkpoints)
    if not steps:
        raise UserError(f"init: {name} has no checkpoint yet")
    if step is not None and step not in steps:
        raise UserError(f"init: {name} has no checkpoint of step {step}; there is {', '.join(map(str, steps))}")
    damage = []
    for one in reversed(steps) if step is None else [step]:
        try:
            manifest = _intact(folder_of(folder.checkpoints, one), average)
        except CorruptCheckpoint as error:
            damage.append(f"checkpoint of step {one} is damaged ({error})")
            continue
        for line in damage:
            print(f"isoflop: init: {name}: {line} and was not used", file=sys.stderr)
        if average is not None and average not in averages_in(manifest):
            raise UserError(f"init: {no_average(folder.path, average, manifest)}")
        return Place(folder_of(folder.checkpoints, one), manifest, average)
    others = "" if step is None or len(steps) == 1 else f"; there is {', '.join(str(s) for s in steps if s != step)}"
    raise UserError(f"init: {name}: {damage[0]}{others}")


def _intact(folder: Path, average: str | None) -> Mapping[str, Any]:
    """The manifest, its weights compared with it once a process."""
    files = sorted((file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in folder.iterdir())
    return _verified(folder, average, tuple(files))


@lru_cache(maxsize=8)
def _verified(folder: Path, average: str | None, files: tuple[tuple[str, int, int], ...]) -> Mapping[str, Any]:
    return intact(folder, average)
