"""The bytes of a corpus's files, unpacked; in blocks and in lines.

A file of any size is read in little memory: in blocks of about a mebibyte, cut behind a newline.
"""

from __future__ import annotations

import gzip
import importlib
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

from trainer.data.document import Source
from trainer.utils.errors import UserError

BLOCK_BYTES = 1 << 20
LONGEST_LINE = 1 << 26


@contextmanager
def opened(source: Source) -> Iterator[IO[bytes]]:
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
        self.library = library("zstandard", source)
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


def library(name: str, source: Source) -> Any:
    """A package that files like this one need. Raises UserError where it is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError:
        package = name.split(".")[0]
        raise UserError(f"data: {source.path} needs {package}; run pip install {package}") from None


def blocks(source: Source) -> Iterator[bytes]:
    """The file in blocks that end behind a newline, or at its end."""
    waiting = bytearray()
    with opened(source) as file:
        while block := file.read(BLOCK_BYTES):
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


def lines(source: Source) -> Iterator[tuple[int, str, int]]:
    """(line number, line with its newline, bytes)."""
    number = offset = 0
    for block in blocks(source):
        for line in block.splitlines(keepends=True) if b"\r" not in block else _split_newlines(block):
            number += 1
            yield number, decoded(source, line, offset), len(line)
            offset += len(line)


def _split_newlines(block: bytes) -> list[bytes]:
    lines = [line + b"\n" for line in block.split(b"\n")]
    lines[-1] = lines[-1][:-1]
    return lines if lines[-1] else lines[:-1]


def decoded(source: Source, content: bytes, offset: int) -> str:
    """The text of bytes that begin at `offset` of the file. Raises UserError where they are not UTF-8."""
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise UserError(
            f"data: {source.path} is not UTF-8 at byte {offset + error.start:,} (0x{content[error.start]:02x}); "
            "convert it, e.g. with iconv -f latin1 -t utf-8"
        ) from None
