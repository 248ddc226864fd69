"""Where text comes from: a stream of documents, in an order that depends on the files alone."""

from __future__ import annotations

import glob
import os
import sysconfig
from collections.abc import Callable, Iterator
from pathlib import Path

from trainer.config import DataConfig
from trainer.data.document import DocumentPart, Source
from trainer.data.files import library
from trainer.data.huggingface_dataset import SCHEME
from trainer.descriptions.readers import READERS, reader_of, readers_by_suffix, suffix_of
from trainer.utils.errors import UserError, nearest

# Packages that some installations of Python lack, folders that are no library text, and generated tables: what repeats
# is learned first, and a small model trained on character maps writes character maps.
STDLIB_SKIPPED = (
    "site-packages dist-packages __pycache__ test tests idlelib tkinter turtledemo lib2to3 distutils ensurepip "
    "lib-dynload encodings pydoc_data"
)


def sources(data: DataConfig, fetch: Callable[[str], Path] | None = None) -> list[Source]:
    """The corpus's files, sorted by name; `fetch` makes a folder of hf://... Raises UserError when there are none."""
    if data.name == "stdlib":
        found = _stdlib()
    elif data.name == "text":
        found = _given("text", "data.path", data.path, fetch)
    else:
        found = []
        for name, source in data.sources.items():
            found += _given(name, f"data.sources.{name}.path", source.path, fetch)
    return sorted(found, key=lambda file: (file.origin, file.name))


def parts(data: DataConfig, files: list[Source]) -> Iterator[tuple[str, DocumentPart]]:
    """(origin, part): all documents of all files, part by part. Empty documents come as one empty part."""
    for source in files:
        try:
            for part in _documents(source, data):
                yield source.origin, part
        except OSError as error:
            raise UserError(f"data: cannot read {source.path}: {error.strerror or error}") from None


def _documents(source: Source, data: DataConfig) -> Iterator[DocumentPart]:
    reader = reader_of(source.path.name)
    if reader.library is not None:
        library(reader.library, source)
    documents: Iterator[DocumentPart] = READERS.implementation(reader.name)(source, data)
    return documents


# --- which files -----------------------------------------------------------------------------------------------------


def _stdlib() -> list[Source]:
    root = Path(sysconfig.get_path("stdlib"))
    skipped = STDLIB_SKIPPED.split()
    found = []
    for folder, folders, files in os.walk(root):
        folders[:] = [
            name for name in folders if name not in skipped and not name.startswith("config-") and "_test" not in name
        ]
        for name in files:
            path = Path(folder, name)
            if name.endswith(".py") and not name.startswith("_sysconfigdata") and not path.is_symlink():
                found.append(_source("stdlib", path, root))
    if not found:
        raise UserError(f"data=stdlib: no standard library sources in {root}; use data=text data.path=...")
    return found


def _given(origin: str, key: str, paths: tuple[str, ...], fetch: Callable[[str], Path] | None) -> list[Source]:
    found: dict[Path, Source] = {}
    for given in paths:
        if not given:
            raise UserError(f"{key}: '' names no file or folder; the folder you are in is data.path=.")
        named = fetch is not None and given.startswith(SCHEME)
        pattern = str(fetch(given) if fetch and named else Path(given).expanduser())
        matches = sorted(glob.glob(pattern, recursive=True)) if glob.has_magic(pattern) else [pattern]  # noqa: PTH207
        if not matches:
            raise UserError(f"{key}: nothing matches {given}")
        for match in map(Path, matches):
            for source in _at(origin, key, match):
                found.setdefault(source.path.resolve(), source)
    return list(found.values())


def _at(origin: str, key: str, path: Path) -> list[Source]:
    if path.is_file():
        return [_source(origin, path, path.parent)]
    if not path.is_dir():
        if (first := _first_of_pair(path)) is not None:
            return [_source(origin, first, path.parent)]
        if path.exists():
            raise UserError(f"{key}: {path} is neither a file nor a folder")
        beside = path.parent if path.parent.is_dir() else Path()
        names = [entry.name for entry in beside.iterdir()]
        near = nearest(path.name, names) or ("" if path.is_absolute() else f" (seen from {Path.cwd()})")
        raise UserError(f"{key}: no such file or folder: {path}{near}")
    suffixes, found = readers_by_suffix(), []
    for folder, folders, files in os.walk(path):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            if suffix_of(name) in suffixes and not name.startswith("."):
                found.append(_source(origin, Path(folder, name), path))
    if not found:
        raise UserError(f"{key}: {path} holds no text files (.txt, .md, .py, .jsonl ...); name others one by one")
    return found


def _first_of_pair(prefix: Path) -> Path | None:
    """The file that is read where two belong together and are named by their prefix."""
    firsts = (Path(f"{prefix}{suffix}") for one in READERS.values() if one.beside for suffix in one.suffixes)
    return next((first for first in firsts if first.is_file()), None)


def _source(origin: str, path: Path, root: Path) -> Source:
    status = path.stat()
    size, changed = status.st_size, status.st_mtime_ns
    beside = reader_of(path.name).beside
    if beside is not None and (second := path.with_suffix(beside)).is_file():
        size, changed = size + second.stat().st_size, max(changed, second.stat().st_mtime_ns)
    return Source(origin, path.relative_to(root).as_posix(), path, size, changed)
