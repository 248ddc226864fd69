"""What is in the files of a corpus: text, JSONL, Parquet (plain or compressed with gzip or zstd), Megatron-LM's tokens.

A document arrives in parts of about a mebibyte, cut behind a newline, so that a file of any size is read in little
memory.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import PurePath
from typing import IO, Any

from trainer.config import DataConfig
from trainer.data import megatron
from trainer.data.document import Part, Source
from trainer.utils.errors import UserError, nearest

PART_BYTES = 1 << 20
LONGEST_LINE = 1 << 26
COMPRESSED = (".gz", ".zst")
JSON_SUFFIXES = (".jsonl", ".ndjson")
PARQUET_SUFFIX = ".parquet"


def kind(name: str) -> str:
    """The suffix that tells what is in a file, below its compression: `.jsonl` of `a.jsonl.gz`."""
    path = PurePath(name.lower())
    return PurePath(path.stem).suffix if path.suffix in COMPRESSED else path.suffix


def read(source: Source, data: DataConfig) -> Iterator[Part]:
    """All documents of one file, part by part. Empty documents come as one empty part."""
    suffix = kind(source.path.name)
    if suffix in JSON_SUFFIXES:
        return _json_documents(source, data.field)
    if suffix == PARQUET_SUFFIX:
        return _parquet_documents(source, data.field)
    if suffix == megatron.SUFFIX:
        return (Part(name, "", True, True, size, tokens) for name, tokens, size in megatron.documents(source))
    return _whole_file(source) if data.document == "file" else _pieces_of_file(source, data.document)


@contextmanager
def _opened(source: Source) -> Iterator[IO[bytes]]:
    """The file's bytes, unpacked; UserError when the packed file is torn."""
    suffix = source.path.suffix.lower()
    try:
        if suffix == ".gz":
            with gzip.open(source.path) as unpacked:
                yield unpacked  # type: ignore[misc]
        elif suffix == ".zst":
            with source.path.open("rb") as packed:
                yield _Zstd(packed, source)  # type: ignore[misc]
        else:
            with source.path.open("rb") as file:
                yield file
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UserError(f"data: {source.path} is no whole gzip file: {error}") from None


class _Zstd:
    """Unpacks frame after frame; the library's own stream takes a torn file for a whole one."""

    def __init__(self, packed: IO[bytes], source: Source) -> None:
        self.packed, self.source = packed, source
        self.library = _library("zstandard", source)
        self.frame: Any = None

    def read(self, size: int) -> bytes:
        """Some bytes, none at the end."""
        while True:
            rest = self.frame.unused_data if self.frame is not None and self.frame.eof else b""
            block = rest or self.packed.read(min(size, 1 << 14))
            if not block:
                if self.frame is not None and not self.frame.eof:
                    raise UserError(f"data: {self.source.path} is no whole zstd file: it ends inside a frame")
                return b""
            if self.frame is None or self.frame.eof:
                self.frame = self.library.ZstdDecompressor().decompressobj()
            try:
                unpacked: bytes = self.frame.decompress(block)
            except self.library.ZstdError as error:
                raise UserError(f"data: {self.source.path} is no whole zstd file: {error}") from None
            if unpacked:
                return unpacked


def _library(name: str, source: Source) -> Any:
    import importlib

    try:
        return importlib.import_module(name)
    except ImportError:
        package = name.split(".")[0]
        raise UserError(f"data: {source.path} needs {package}; run pip install {package}") from None


def _blocks(source: Source) -> Iterator[bytes]:
    """The file in blocks that end behind a newline, or at its end."""
    waiting = bytearray()
    with _opened(source) as file:
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
    read, empty = 0, True
    for number, line, size in _lines(source):
        read += size
        blank = not line.strip()
        if not blank:
            gathered.append(line)
        if gathered and (blank or document == "line"):
            yield Part(f"{source.name}:{number}", "".join(gathered).rstrip("\r\n"), True, True, read)
            gathered, read, empty = [], 0, False
    if gathered or empty:
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
        except (ValueError, RecursionError) as error:  # a number of thousands of digits, brackets thousands deep
            raise UserError(f"data: {where} is JSON that cannot be read: {error}") from None
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


def _parquet_documents(source: Source, field: str) -> Iterator[Part]:
    parquet = _library("pyarrow.parquet", source)
    arrow = _library("pyarrow", source)
    try:
        with parquet.ParquetFile(source.path) as file:
            names = file.schema_arrow.names
            if field not in names:
                raise UserError(
                    f"data: {source.path} has no column {field!r}{nearest(field, names)}; "
                    f"set data.field to one of {', '.join(names)}"
                )
            rows = file.metadata.num_rows
            number = 0
            for batch in file.iter_batches(batch_size=256, columns=[field]):
                for text in batch.column(0).to_pylist():
                    number += 1
                    if not isinstance(text, str):
                        raise UserError(f"data: {source.path} row {number}: {field!r} holds no text but {text!r:.40}")
                    yield Part(f"{source.name}:{number}", text, True, True, source.size // max(rows, 1))
            if not rows:
                yield Part(source.name, "", True, True, source.size)
    except arrow.ArrowException as error:
        raise UserError(f"data: {source.path} is no whole Parquet file: {' '.join(str(error).split())}") from None
