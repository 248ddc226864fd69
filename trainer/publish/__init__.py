"""What a paper prints of its runs, with its proof: tables, forms and a page, and the files that all of it comes from.

`publish` copies what runs wrote and derives everything else from the copies; `verify` does the same again and names
what differs. So a number in a publication is either what the runs' own files say, or it is found.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from trainer.publish.derived import derive
from trainer.publish.manifest import FILE, RAW, Manifest, fingerprints
from trainer.publish.sources import collect
from trainer.publish.verification import Verified, verify
from trainer.utils.errors import UserError
from trainer.utils.files import fsync_folder, write_synced

__all__ = ["Manifest", "Verified", "publish", "verify"]


def publish(root: Path, to: Path, settings: Mapping[str, Any], *, copied: bool = True) -> Manifest:
    """Publish the runs below a root in a new folder, complete or not at all; returns its manifest.

    settings: `run` (the run that the forms are about), `name`, `authors`. copied: whether raw/ goes along; without it
    the manifest names the files by their sha256, and who verifies must have the root. Raises UserError where the root
    holds no runs, and where `to` is there already.
    """
    if to.exists() or to.is_symlink():
        raise UserError(f"{to}: is there already; a publication is never written over: name a new folder")
    if root.resolve() == to.resolve() or root.resolve() in to.resolve().parents:
        raise UserError(f"{to}: lies below {root}, whose runs are published; name a folder elsewhere")
    files = collect(root)
    sources = fingerprints(files)
    to.parent.mkdir(parents=True, exist_ok=True)
    aside = to.with_name(f".{to.name}.{os.getpid()}.partial")
    try:
        with _written(files, aside / RAW if copied else None) as raw:
            derived = derive(raw, sources, settings)
        manifest = Manifest(dict(settings), sources, fingerprints(derived), copied)
        _write_all(derived | {FILE: manifest.to_text().encode()}, aside)
        for folder in sorted({path.parent for path in aside.rglob("*")} | {aside}):
            fsync_folder(folder)
        aside.rename(to)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise
    fsync_folder(to.parent)
    return manifest


@contextmanager
def _written(files: Mapping[str, bytes], folder: Path | None) -> Iterator[Path]:
    """The files in this folder, or in a temporary one that goes away."""
    if folder is not None:
        _write_all(files, folder)
        yield folder
        return
    with TemporaryDirectory(prefix="isoflop-publish-") as temporary:
        _write_all(files, Path(temporary) / RAW)
        yield Path(temporary) / RAW


def _write_all(files: Mapping[str, bytes], folder: Path) -> None:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_synced(path, content)
