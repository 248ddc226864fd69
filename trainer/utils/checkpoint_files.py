"""The files of a checkpoint: their names, and whether they are as they were written. Read without torch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from trainer.utils.files import sha256

FORMAT = 1


class CorruptCheckpoint(Exception):
    """A checkpoint that must not be used, and why."""


def folder_of(checkpoints: Path, step: int) -> Path:
    return checkpoints / f"step-{step:08d}"


def steps_in(checkpoints: Path) -> list[int]:
    """Steps of the checkpoints that were completed, oldest first."""
    if not checkpoints.is_dir():
        return []
    return sorted(int(path.name[5:]) for path in checkpoints.glob("step-*") if path.name[5:].isdigit())


def manifest_digest(manifest: Mapping[str, Any]) -> str:
    """sha256 of a manifest without its own."""
    content = {name: value for name, value in manifest.items() if name != "sha256"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def verified_manifest(folder: Path, wanted: Callable[[int, str, Mapping[str, Any]], bool]) -> dict[str, Any]:
    """The manifest, once it and each wanted file is found as it was written. wanted(number, name, manifest).

    Raises CorruptCheckpoint, naming what is wrong.
    """
    try:
        manifest: dict[str, Any] = json.loads((folder / "manifest.json").read_bytes())
        if manifest.get("sha256") != manifest_digest(manifest):
            raise CorruptCheckpoint("manifest.json: its sha256 differs")
        if manifest["format"] != FORMAT:
            raise CorruptCheckpoint(
                f"manifest.json: format {manifest['format']} is not the one this version reads ({FORMAT})"
            )
        for number, (name, metadata) in enumerate(manifest["files"].items()):
            if not wanted(number, name, manifest):
                continue
            file = folder / name
            if not file.is_file():
                raise CorruptCheckpoint(f"{name}: missing")
            if file.stat().st_size != metadata["bytes"]:
                raise CorruptCheckpoint(f"{name}: {file.stat().st_size} bytes instead of {metadata['bytes']}")
            if sha256(file) != metadata["sha256"]:
                raise CorruptCheckpoint(f"{name}: its sha256 differs")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CorruptCheckpoint(f"manifest.json: {type(error).__name__}: {error}") from None
    return manifest


def holds_weights(number: int, name: str, manifest: Mapping[str, Any]) -> bool:
    """Whether a file of a checkpoint holds weights, not states of the optimizer."""
    return name in manifest["weights"].values()


def weights_digest(manifest: Mapping[str, Any]) -> str:
    """sha256 over those of the files that hold weights: the same for a copy of the checkpoint, wherever it lies."""
    files = {name: manifest["files"][name]["sha256"] for name in sorted(set(manifest["weights"].values()))}
    return hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()
