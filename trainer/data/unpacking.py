"""Compressed files, told by their first bytes: gzip, zstd, xz and bzip2, of one member or several."""

from __future__ import annotations

import bz2
import importlib
import lzma
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from trainer.utils.errors import UserError

LONGEST_WINDOW = 1 << 31  # of zstd --long, as Reddit's dumps have it
DEEPEST = 4  # compressions of one file, one in another
# First bytes -> the compression. No UTF-8 text begins with one of them, but for bzip2's, which is long.
BEGINNINGS = {
    b"\x1f\x8b\x08": "gzip",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\xfd7zXZ\x00": "xz",
    b"]\x00\x00": "xz",  # .lzma
    **{f"BZh{level}".encode() + mark: "bzip2" for level in range(1, 10) for mark in (b"1AY&SY", b"\x17rE8P\x90")},
    **{bytes([0x50 + number]) + b"\x2a\x4d\x18": "zstd" for number in range(16)},  # a frame of a user's own
}
BY_SUFFIX = {
    ".gz": "gzip",
    ".gzip": "gzip",
    ".zst": "zstd",
    ".zstd": "zstd",
    ".xz": "xz",
    ".lzma": "xz",
    ".bz2": "bzip2",
}
# Packed bytes that are unpacked at a time: no more than about 100 MB come of them. zstd's size is part of what a
# document's parts are, and with them of a trained tokenizer.
STEP = {"gzip": 1 << 13, "zstd": 1 << 14, "xz": 1 << 12, "bzip2": 1 << 12}


class Readable(Protocol):
    def read(self, size: int, /) -> bytes:
        """Some bytes, none at the end."""


def compression_of(head: bytes) -> str | None:
    """The compression that a file which begins so is packed with; null: none of ours."""
    return next((name for beginning, name in BEGINNINGS.items() if head.startswith(beginning)), None)


class Unpacked:
    """Unpacks member after member; the libraries' own streams take a torn file for a whole one."""

    def __init__(self, packed: Readable, path: Path, compression: str) -> None:
        self.packed, self.path, self.compression = packed, path, compression
        self._new, self._errors = _decompressor(compression, path)
        self._member: Any = None
        self._rest = b""  # packed bytes behind a member's end

    def read(self, size: int) -> bytes:
        """Some bytes, none at the end; maybe more than `size`. Raises UserError when the file is torn."""
        while True:
            between = self._member is None or self._member.eof
            block = self._rest or self.packed.read(min(size, STEP[self.compression]))
            self._rest = b""
            if not block:
                if between:
                    return b""
                raise self._torn("it ends too early")
            if between:
                block = block.lstrip(b"\0") if self._member is not None else block  # padding
                if not block:
                    continue
                self._member = self._new()
            try:
                unpacked: bytes = self._member.decompress(block)
            except self._errors as error:
                raise self._torn(str(error)) from None
            self._rest = self._member.unused_data if self._member.eof else b""
            if unpacked:
                return unpacked

    def _torn(self, reason: str) -> UserError:
        return UserError(f"data: {self.path} is no whole {self.compression} file: {reason}")


class Filled:
    """The same bytes in blocks of the size that is asked for."""

    def __init__(self, stream: Readable) -> None:
        self.stream = stream
        self._waiting = bytearray()

    def read(self, size: int) -> bytes:
        while len(self._waiting) < size and (block := self.stream.read(size)):
            self._waiting += block
        taken = bytes(self._waiting[:size])
        del self._waiting[:size]
        return taken


class Peeked:
    """The same bytes, of which the first block was looked at."""

    def __init__(self, stream: Readable, size: int) -> None:
        self.stream = stream
        self.head = self._waiting = stream.read(size)

    def read(self, size: int) -> bytes:
        waiting, self._waiting = self._waiting, b""
        return waiting or self.stream.read(size)


def unpacked(packed: Readable, path: Path, head: bytes, size: int) -> tuple[Readable, bytes, tuple[str, ...]]:
    """A file's bytes without its compressions, the first of these bytes, and the compressions.

    packed, head: the file's bytes, and the first of them. size: bytes that are looked at. Raises UserError when the
    name says that the file is packed and its content does not, or it is torn.
    """
    named, stream, found = BY_SUFFIX.get(path.suffix.lower()), packed, list[str]()
    while len(found) < DEEPEST and (compression := compression_of(head)):
        found.append(compression)
        inner: Readable = Unpacked(stream, path, compression)
        stream = peeked = Peeked(inner if compression == "zstd" else Filled(inner), size)
        head = peeked.head
    if named and not found and head:
        raise UserError(f"data: {path} is no whole {named} file: it does not begin as one")
    return stream, head, tuple(found)


def library(name: str, path: Path) -> Any:
    """A package that files like this one need. Raises UserError where it is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError:
        package = name.split(".")[0]
        raise UserError(f"data: {path} needs {package}; run pip install {package}") from None


def _decompressor(compression: str, path: Path) -> tuple[Callable[[], Any], tuple[type[Exception], ...]]:
    """What unpacks one member, anew each time, and what it raises of damaged bytes."""
    if compression == "gzip":
        return lambda: zlib.decompressobj(31), (zlib.error,)
    if compression == "xz":
        return lzma.LZMADecompressor, (lzma.LZMAError, EOFError)
    if compression == "bzip2":
        return bz2.BZ2Decompressor, (OSError, ValueError, EOFError)
    zstd = library("zstandard", path)
    return lambda: zstd.ZstdDecompressor(max_window_size=LONGEST_WINDOW).decompressobj(), (zstd.ZstdError,)
