"""The bytes of a corpus's files, unpacked and in UTF-8; in blocks and in lines.

A file of any size is read in little memory: in blocks of about a mebibyte, cut behind a newline.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from contextlib import contextmanager

from trainer.data.document import Source
from trainer.data.unpacking import Readable, unpacked
from trainer.utils.errors import UserError

BLOCK_BYTES = 1 << 20
LOOK_BYTES = 1 << 16  # first bytes that tell what a file is
LONGEST_LINE = 1 << 26


@contextmanager
def opened(source: Source) -> Iterator[Readable]:
    """The file's bytes, unpacked and in UTF-8; UserError when the file is torn or in another encoding."""
    with source.path.open("rb") as file:
        head = file.read(LOOK_BYTES)
        file.seek(0)
        stream, _, _ = unpacked(file, source.path, head, BLOCK_BYTES)
        yield stream if source.encoding == "utf-8" else Recoded(stream, source)


class Recoded:
    """The bytes in UTF-8, without a byte order mark."""

    def __init__(self, stream: Readable, source: Source) -> None:
        self.stream, self.source = stream, source
        self._decoder = codecs.getincrementaldecoder(source.encoding)()
        self._read = 0

    def read(self, size: int) -> bytes:
        """Some bytes, none at the end; about as many as were asked for."""
        while True:
            block = self.stream.read(size)
            try:
                text = self._decoder.decode(block, final=not block)
            except UnicodeError as error:
                before = self._read - len(getattr(error, "object", b"")) + len(block)
                place = f" at byte {before + error.start:,}" if isinstance(error, UnicodeDecodeError) else ""
                name = self.source.encoding.removesuffix("-sig").upper()
                raise UserError(
                    f"data: {self.source.path} is not {name}{place}: {getattr(error, 'reason', error)}"
                ) from None
            self._read += len(block)
            if text or not block:
                return text.encode(errors="surrogatepass")


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
            "name its encoding, e.g. data.encoding=latin-1 or cp1252"
        ) from None
