"""Which weights of a run are meant: of which checkpoint, and which average of them. Read without torch.

`<run>` means the newest intact checkpoint, `<run>@<step>` that of a step, and `<run>:<average>` or
`<run>@<step>:<average>` an average that stands in it, or one that `isoflop merge` made.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainer.utils.checkpoint_files import (
    CorruptCheckpoint,
    folder_of,
    steps_in,
    verified_manifest,
    weights_digest,
)
from trainer.utils.errors import UserError, nearest

# A name, then perhaps a step, then perhaps an average. What begins with `hub:` is no run.
FORM = re.compile(r"(?P<run>.+?)(?:@(?P<step>\d+))?(?::(?P<average>[A-Za-z0-9][A-Za-z0-9_-]*))?")


@dataclass(frozen=True)
class Which:
    """Which weights of a run."""

    step: int | None = None  # null: the newest intact checkpoint
    average: str | None = None  # null: the weights themselves

    @property
    def text(self) -> str:
        """As it stands behind the name of a run."""
        step = "" if self.step is None else f"@{self.step}"
        return step if self.average is None else f"{step}:{self.average}"


NEWEST = Which()


def parse(name: str) -> tuple[str, Which]:
    """The name of a run, and which of its weights are meant."""
    found = None if name.startswith("hub:") else FORM.fullmatch(name)
    if found is None:
        return name, NEWEST
    step = found["step"]
    return found["run"], Which(None if step is None else int(step), found["average"])


def split(name: str) -> tuple[str, Which]:
    """The same; a path that is there means itself."""
    there = os.path.exists(os.path.expanduser(name))  # noqa: PTH110, PTH111 (any text will do, of any length)
    return (name, NEWEST) if there else parse(name)


@dataclass(frozen=True)
class Place:
    """Weights that are there and intact."""

    folder: Path  # of a checkpoint, or of a merged average
    manifest: Mapping[str, Any]
    average: str | None  # one that the optimizer's files of the checkpoint hold

    @property
    def step(self) -> int:
        return int(self.manifest["step"])

    @property
    def digest(self) -> str:
        """Of all that the weights are made of: the same for a copy of them, wherever it lies."""
        if not (from_states := kinds_of(self.manifest, self.average)):
            return weights_digest(self.manifest)
        names = sorted(_files(self.manifest, from_states, self.average))
        files = {name: self.manifest["files"][name]["sha256"] for name in names}
        content = {"files": files, "average": self.average, "kinds": from_states}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def places(
    run: Path, which: Which, verified: Callable[[Path, str | None], Mapping[str, Any]] | None = None
) -> Iterator[Place]:
    """Those of a run that are meant, newest first, each compared with its sums; of damaged ones a line on standard
    error.

    Raises UserError where there is no checkpoint of the step, and no average of the name in the newest one.
    """
    verified = verified or wholly_intact
    if which.average is not None and (folder := merged_folder(run, which.average)).is_dir():
        yield _merged(folder, which, verified)
        return
    checkpoints = run / "checkpoints"
    steps = steps_in(checkpoints)
    if which.step is not None and which.step not in steps:
        there = f"there is {', '.join(map(str, steps))}" if steps else "there is none yet"
        raise UserError(f"{run}: no checkpoint of step {which.step}; {there}")
    for step in reversed(steps) if which.step is None else [which.step]:
        folder = folder_of(checkpoints, step)
        try:
            place = Place(folder, verified(folder, which.average), which.average)
        except CorruptCheckpoint as error:
            print(f"isoflop: checkpoint of step {step} is damaged ({error}) and was not used", file=sys.stderr)
            continue
        if which.average is not None and which.average not in averages_in(place.manifest):
            raise no_average(run, which.average, place.manifest)
        yield place


def _merged(folder: Path, which: Which, verified: Callable[[Path, str | None], Mapping[str, Any]]) -> Place:
    if which.step is not None:
        raise UserError(f"{folder}: merged of several steps; name it without @{which.step}")
    try:
        return Place(folder, verified(folder, None), None)
    except CorruptCheckpoint as error:
        raise UserError(f"{folder} is damaged ({error}); delete it, and isoflop merge makes it anew") from None


def no_average(run: Path, name: str, manifest: Mapping[str, Any]) -> UserError:
    known = [*averages_in(manifest), *merged_in(run)]
    there = f"there is {', '.join(known)}" if known else "it has none (optim.averages, isoflop merge)"
    return UserError(f"{run.parent.name}/{run.name}: no average {name!r}{nearest(name, known)}; {there}")


def intact(folder: Path, average: str | None) -> dict[str, Any]:
    """The manifest, once the files are found as they were written that these weights are made of. Raises
    CorruptCheckpoint."""

    def wanted(number: int, name: str, manifest: Mapping[str, Any]) -> bool:
        return name in _files(manifest, kinds_of(manifest, average), average)

    return verified_manifest(folder, wanted)


def wholly_intact(folder: Path, average: str | None) -> dict[str, Any]:
    """The same, once all files are found as they were written."""
    return verified_manifest(folder, lambda *_: True)


def averages_in(manifest: Mapping[str, Any]) -> list[str]:
    """Names of the averages that a checkpoint holds."""
    return list(manifest.get("averages", {}))


def merged_folder(run: Path, name: str) -> Path:
    return run / "averages" / name


def merged_in(run: Path) -> list[str]:
    """Names of the merged averages of a run."""
    found = (file.parent.name for file in run.glob("averages/*/manifest.json"))
    return sorted(name for name in found if not name.startswith("."))


def kinds_of(manifest: Mapping[str, Any], average: str | None) -> list[str]:
    """What of the optimizer's files makes up the weights that are meant; empty where they are those of the weights'
    files."""
    if average is None:
        return [manifest["used"]["state"]] if manifest.get("used") else []
    kept = manifest.get("averages", {}).get(average)
    if kept is None:
        return []
    if "steps" in kept:
        return [f"average.{average}.{slot}" for slot, step in enumerate(kept["steps"]) if step is not None]
    return [f"average.{average}"]


def _files(manifest: Mapping[str, Any], kinds: list[str], average: str | None) -> set[str]:
    weights = set(manifest["weights"].values()) if average is None or not kinds else set()
    return weights | {one["file"] for one in manifest["moments"] if one["kind"] in kinds}


def merged_line(run: Path, name: str) -> str:
    """What a merged average was made of."""
    try:
        merged = json.loads((merged_folder(run, name) / "manifest.json").read_bytes())["merged"]
        steps = ", ".join(str(step) for step in merged["steps"])
        how = "their mean" if merged["weights"] == "uniform" else f"in place of a {merged['weights']} decay"
    except (OSError, ValueError, KeyError, TypeError):
        return "merged; its manifest.json is damaged"
    return f"merged of the checkpoints of steps {steps}, {how}"


def average_line(run: Path, name: str, manifest: Mapping[str, Any]) -> str:
    """What an average is, of a checkpoint with this manifest or merged."""
    kept = manifest.get("averages", {}).get(name)
    if kept is None:
        return merged_line(run, name)
    if "steps" in kept:
        steps = ", ".join(str(step) for step in sorted(step for step in kept["steps"] if step is not None))
        return f"mean of the weights after steps {steps}" if steps else "of no weights yet, so the weights themselves"
    return f"of the weights, with a half-life of {kept['half_life']:,} tokens"
