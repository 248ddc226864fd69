"""Where text comes from: a stream of documents, in an order that depends on the files alone.

A document arrives in parts of about a mebibyte, cut behind a newline, so that a file of any size is read in little
memory.
"""

from __future__ import annotations

import glob
import json
import os
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from trainer.config import DataConfig
from trainer.errors import UserError, nearest

PART_BYTES = 1 << 20
LONGEST_LINE = 1 << 26
TEXT_SUFFIXES = (
    ".txt .text .md .rst .tex .org .html .htm .xml .csv .tsv .log .srt .yaml .yml .toml .ini .cfg "
    ".py .pyi .c .h .cc .cpp .hpp .cu .java .js .ts .go .rs .rb .php .pl .sh .sql .r .jl .lua .swift .kt .scala .hs .ml"
)
JSON_SUFFIXES = ".jsonl .ndjson"
# Packages that some installations of Python lack, and folders that are no library text.
STDLIB_SKIPPED = (
    "site-packages dist-packages __pycache__ test tests idlelib tkinter turtledemo lib2to3 distutils ensurepip "
    "lib-dynload"
)


@dataclass(frozen=True)
class Source:
    """One file of the corpus. `name` does not depend on where the corpus lies."""

    name: str
    path: Path
    size: int
    mtime_ns: int


@dataclass(frozen=True)
class Part:
    """A piece of a document. `first` and `last` mark the document's edges; `read` is how many file bytes it took."""

    name: str
    text: str
    first: bool
    last: bool
    read: int


def sources(data: DataConfig) -> list[Source]:
    """The corpus's files, sorted by name. UserError when there are none."""
    found = _stdlib() if data.name == "stdlib" else _given(data.path)
    return sorted(found, key=lambda source: source.name)


def parts(data: DataConfig, files: list[Source]) -> Iterator[Part]:
    """All documents of all files, part by part. Empty documents come as one empty part."""
    for source in files:
        try:
            if source.path.suffix.lower() in JSON_SUFFIXES.split():
                yield from _json_documents(source, data.field)
            elif data.document == "file":
                yield from _whole_file(source)
            else:
                yield from _pieces_of_file(source, data.document)
        except OSError as error:
            raise UserError(f"data: cannot read {source.path}: {error.strerror}") from None


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
                found.append(_source(path, root))
    if not found:
        raise UserError(f"data=stdlib: no standard library sources in {root}; use data=text data.path=...")
    return found


def _given(paths: tuple[str, ...]) -> list[Source]:
    found: dict[Path, Source] = {}
    for given in paths:
        pattern = str(Path(given).expanduser())
        matches = sorted(glob.glob(pattern, recursive=True)) if glob.has_magic(pattern) else [pattern]  # noqa: PTH207
        if not matches:
            raise UserError(f"data.path: nothing matches {given}")
        for match in map(Path, matches):
            for source in _at(match):
                found.setdefault(source.path.resolve(), source)
    return list(found.values())


def _at(path: Path) -> list[Source]:
    if path.is_file():
        return [_source(path, path.parent)]
    if not path.is_dir():
        beside = path.parent if path.parent.is_dir() else Path()
        names = [entry.name for entry in beside.iterdir()]
        raise UserError(f"data.path: no such file or folder: {path}{nearest(path.name, names)}")
    suffixes = f"{TEXT_SUFFIXES} {JSON_SUFFIXES}".split()
    found = []
    for folder, folders, files in os.walk(path):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            if Path(name).suffix.lower() in suffixes and not name.startswith("."):
                found.append(_source(Path(folder, name), path))
    if not found:
        raise UserError(f"data.path: {path} holds no text files (.txt, .md, .py, .jsonl ...); name others one by one")
    return found


def _source(path: Path, root: Path) -> Source:
    status = path.stat()
    return Source(path.relative_to(root).as_posix(), path, status.st_size, status.st_mtime_ns)


# --- what is in them -------------------------------------------------------------------------------------------------


def _blocks(source: Source) -> Iterator[bytes]:
    """The file in blocks that end behind a newline, or at its end."""
    waiting = bytearray()
    with source.path.open("rb") as file:
        while block := file.read(PART_BYTES):
            cut = block.rfind(b"\n") + 1
            if not cut:
                waiting += block
                if len(waiting) > LONGEST_LINE:
                    raise UserError(
                        f"data: {source.path} has a line longer than {LONGEST_LINE >> 20} MiB; break it into lines"
                    )
                continue
            yield bytes(waiting) + block[:cut]
            waiting = bytearray(block[cut:])
    if waiting:
        yield bytes(waiting)


def _decode(source: Source, content: bytes, offset: int) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise UserError(
            f"data: {source.path} is not UTF-8 at byte {offset + error.start:,} (0x{content[error.start]:02x}); "
            "convert it, e.g. with iconv -f latin1 -t utf-8"
        ) from None


def _whole_file(source: Source) -> Iterator[Part]:
    offset = 0
    previous: Part | None = None
    for block in _blocks(source):
        text = _decode(source, block, offset)
        if previous:
            yield previous
        previous = Part(source.name, text, first=offset == 0, last=False, read=len(block))
        offset += len(block)
    if previous:
        yield Part(previous.name, previous.text, previous.first, True, previous.read)
    else:
        yield Part(source.name, "", True, True, 0)


def _lines(source: Source) -> Iterator[tuple[int, str, int]]:
    """(line number, line with its newline, bytes)."""
    number = offset = 0
    for block in _blocks(source):
        for line in block.splitlines(keepends=True) if b"\r" not in block else _split_newlines(block):
            number += 1
            yield number, _decode(source, line, offset), len(line)
            offset += len(line)


def _split_newlines(block: bytes) -> list[bytes]:
    lines = [line + b"\n" for line in block.split(b"\n")]
    lines[-1] = lines[-1][:-1]
    return lines if lines[-1] else lines[:-1]


def _pieces_of_file(source: Source, document: str) -> Iterator[Part]:
    """Every line, or every run of lines between blank ones, as a document of its own."""
    gathered: list[str] = []
    read = 0
    for number, line, size in _lines(source):
        read += size
        blank = not line.strip()
        if not blank:
            gathered.append(line)
        if gathered and (blank or document == "line"):
            yield Part(f"{source.name}:{number}", "".join(gathered).rstrip("\r\n"), True, True, read)
            gathered, read = [], 0
    if gathered or not source.size:
        yield Part(source.name, "".join(gathered).rstrip("\r\n"), True, True, read)


def _json_documents(source: Source, field: str) -> Iterator[Part]:
    empty = True
    for number, line, size in _lines(source):
        if not line.strip():
            continue
        empty = False
        where = f"{source.path} line {number}"
        try:
            record = json.loads(line)
        except json.JSONDecodeError as error:
            raise UserError(f"data: {where} is not whole JSON: {error.msg} at column {error.colno}") from None
        if not isinstance(record, dict):
            raise UserError(f"data: {where} is a JSON {type(record).__name__}, not an object with a field {field!r}")
        if field not in record:
            raise UserError(
                f"data: {where} has no field {field!r}{nearest(field, record)}; "
                f"set data.field to one of {', '.join(record)}"
            )
        text = record[field]
        if not isinstance(text, str):
            raise UserError(f"data: {where}: the field {field!r} holds no text but {json.dumps(text)[:40]}")
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise UserError(f"data: {where}: half a surrogate pair at character {error.start} is no text") from None
        yield Part(f"{source.name}:{number}", text, True, True, size)
    if empty:
        yield Part(source.name, "", True, True, source.size)
