"""The files that a path names: one, those of a folder, those of a glob. What is left out is said."""

from __future__ import annotations

import glob
import os
import stat
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from trainer.config import DataConfig
from trainer.data.document import Source
from trainer.data.formats import OF_THE_SYSTEM, Kind, kind_of
from trainer.data.huggingface_dataset import SCHEME
from trainer.descriptions.readers import COMPRESSED, DEFAULT, READERS, readers_by_suffix, suffix_of
from trainer.utils.errors import UserError, nearest
from trainer.utils.home import expanded
from trainer.utils.urls import SCHEMES, is_remote

MOST_FILES = 1_000_000  # that a pattern matches
Fetch = Callable[[str, DataConfig, list[str]], Path]  # (URL, group of its source, notes) -> what it is on this disk
KINDS = (
    *((stat.S_ISFIFO, "a FIFO"), (stat.S_ISSOCK, "a socket")),
    *((stat.S_ISCHR, "a device"), (stat.S_ISBLK, "a device"), (stat.S_ISDIR, "a folder")),
)


def files_of(origin: str, key: str, data: DataConfig, fetch: Fetch | None, notes: list[str]) -> list[Source]:
    """The files of `data.path`, each once. data: as it holds for this origin; `fetch` brings URLs to this disk.

    notes: takes a line for what is not read, or not as it may be meant. Raises UserError where a path names nothing.
    """
    found: dict[Path, tuple[Source, Kind]] = {}
    for given in data.path:
        if not given:
            raise UserError(f"{key}: '' names no file or folder; the folder you are in is data.path=.")
        for match in _matches(key, given, data, fetch, notes):
            try:
                for source, kind in _at(origin, key, match, data, notes):
                    found.setdefault(source.path.resolve(), (source, kind))
            except OSError as error:
                raise UserError(f"{key}: cannot read {error.filename or match}: {error.strerror or error}") from None
    if not data.format:
        as_text = [source.path for source, kind in found.values() if kind.json_lines and kind.reader == DEFAULT]
        if as_text:
            more = f" and {len(as_text) - 1:,} more files" if len(as_text) > 1 else ""
            notes.append(
                f"{key}: {as_text[0]}{more} hold JSON lines and are read as text, as the name says; "
                "data.format=jsonl reads their field"
            )
    return [source for source, _ in found.values()]


def _matches(key: str, given: str, data: DataConfig, fetch: Fetch | None, notes: list[str]) -> list[Path]:
    if "://" in given and not (given.startswith(SCHEME) or is_remote(given)):
        raise UserError(
            f"{key}: {given.partition('://')[0]}:// is no place to read from; there are hf, {', '.join(SCHEMES)}"
        )
    if fetch is not None and (given.startswith(SCHEME) or is_remote(given)):
        folder = fetch(given, data, notes)  # a data set of the hub lies there in parts, beside what was asked for
        return (sorted(folder.glob("part-*.jsonl")) if given.startswith(SCHEME) else []) or [folder]
    pattern = str(expanded(given))
    matches = sorted(globbed(key, pattern)) if glob.has_magic(pattern) else [pattern]
    if not matches:
        raise UserError(f"{key}: nothing matches {given}")
    return [Path(match) for match in matches]


def globbed(key: str, pattern: str) -> Iterator[str]:
    """What a pattern of `key` matches. UserError where it begins in folders of the system or matches too many."""
    first = Path(pattern).absolute().parts[1]
    if _of_the_system(Path(pattern).absolute()):
        raise UserError(f"{key}: {pattern} matches views into the system, no text")
    if (glob.has_magic(first) and Path(pattern).is_absolute()) or pattern.count("**") > 1:
        raise UserError(f"{key}: {pattern} may match any file of this host; begin with a folder, and write ** once")
    for number, match in enumerate(glob.iglob(pattern, recursive=True)):  # noqa: PTH207
        if number > MOST_FILES:
            raise UserError(
                f"{key}: {pattern} matches more than {MOST_FILES:,} files and folders; name a folder of them"
            )
        yield match


def _of_the_system(path: Path) -> bool:
    return path.parts[1:2] != () and path.parts[1] in OF_THE_SYSTEM and path.parts[:3] != ("/", "dev", "shm")


def _at(origin: str, key: str, path: Path, data: DataConfig, notes: list[str]) -> list[tuple[Source, Kind]]:
    path = _first_of_pair(path) or path
    if path.is_file():
        kind = kind_of(path, data)
        if kind.refusal:
            raise UserError(kind.refusal)
        return [(source_of(origin, path, path.parent, kind), kind)]
    if path.is_dir():
        return _in_folder(origin, key, path, data, notes)
    if path.is_symlink():
        raise UserError(f"{key}: {path} is a link that leads to no file")
    if path.exists():
        raise UserError(f"{key}: {path} is neither a file nor a folder but {_what(path.stat())}; write it to a file")
    beside = path.parent if path.parent.is_dir() else Path()
    names = [entry.name for entry in beside.iterdir()]
    near = nearest(path.name, names) or ("" if path.is_absolute() else f" (seen from {Path.cwd()})")
    raise UserError(f"{key}: no such file or folder: {path}{near}")


def _in_folder(origin: str, key: str, root: Path, data: DataConfig, notes: list[str]) -> list[tuple[Source, Kind]]:
    if _of_the_system(root.resolve()):
        raise UserError(f"{key}: {root} holds views into the system, no text")
    found: list[tuple[Source, Kind]] = []
    skipped: Counter[str] = Counter()
    for folder, folders, files in os.walk(root, onerror=_raised):
        folders[:] = [name for name in folders if not name.startswith(".")]
        skipped["linked folders"] += sum(Path(folder, name).is_symlink() for name in folders)
        for name in files:
            path = Path(folder, name)
            if name.startswith(".") or _is_second(path):
                continue
            kind = _kind_in_folder(key, path, data)
            if kind is None:
                skipped[_ending(name)] += 1
            else:
                found.append((source_of(origin, path, root, kind), kind))
    listed = ", ".join(f"{count:,} {ending}" for ending, count in skipped.most_common() if count)
    if not found:
        seen = f"; it holds {listed}" if listed else ""
        raise UserError(f"{key}: {root} holds no text files (.txt, .md, .py, .jsonl ...){seen}; name others one by one")
    if listed:
        notes.append(f"{key}: of {root} are not read: {listed}; name them one by one to read them")
    return found


def _kind_in_folder(key: str, path: Path, data: DataConfig) -> Kind | None:
    """What a file of a folder is; null: it is none that is read. Raises UserError where its name or its content says
    that it holds documents, and it cannot be read as such."""
    named = data.format is not None or suffix_of(path.name) in readers_by_suffix()
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            if named:
                raise UserError(
                    f"{key}: {path} is {_what(status)}, no file; take it away, or name the files one by one"
                )
            return None
        kind = kind_of(path, data)
    except FileNotFoundError:
        if named:
            raise UserError(f"{key}: {path} is a link that leads to no file") from None
        return None
    except (UserError, OSError):
        if named or suffix_of(path.name) == ".json":
            raise
        return None
    if kind.refusal and (named or kind.records):
        raise UserError(kind.refusal)
    return kind if named or (kind.records and not kind.refusal) else None


def _raised(error: OSError) -> None:
    raise error


def _what(status: os.stat_result) -> str:
    return next((what for is_one, what in KINDS if is_one(status.st_mode)), "something else")


def _ending(name: str) -> str:
    suffix = Path(name).suffix.lower()
    return (f"{suffix_of(name)}{suffix}" if suffix in COMPRESSED else suffix) or "without suffix"


# --- two files that belong together -----------------------------------------------------------------------------------


def _first_of_pair(path: Path) -> Path | None:
    """The file that is read where two belong together and are named by their prefix, or by the second."""
    pairs = [(f"{path}", one) for one in READERS.values() if one.beside and not path.exists()]
    pairs += [(f"{path.with_suffix('')}", one) for one in READERS.values() if one.beside and path.suffix == one.beside]
    firsts = (Path(f"{prefix}{suffix}") for prefix, one in pairs for suffix in one.suffixes)
    return next((first for first in firsts if first.is_file()), None)


def _is_second(path: Path) -> bool:
    seconds = {one.beside for one in READERS.values() if one.beside}
    return path.suffix in seconds and _first_of_pair(path) is not None


def source_of(origin: str, path: Path, root: Path, kind: Kind | None = None) -> Source:
    """The file as one of the corpus. root: what its name is relative to. kind: null: text in UTF-8."""
    status = path.stat()
    kind = kind or Kind(DEFAULT)
    name = path.relative_to(root).as_posix()
    source = Source(origin, name, path, status.st_size, status.st_mtime_ns, kind.reader, kind.encoding)
    beside = READERS[kind.reader].beside
    if beside is not None and (second := path.with_suffix(beside)).is_file():
        both = second.stat()
        return replace(source, size=source.size + both.st_size, mtime_ns=max(source.mtime_ns, both.st_mtime_ns))
    return source
