"""Whole lines of a file to which a run appends, read from where the last reading stopped."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from trainer.utils.bounded import no_file, parse_json

CHUNK = 1 << 20  # bytes read at a time
LONGEST_LINE = 1 << 20  # a longer one is no record


class GrowingFile:
    """A file and the place up to which it was read; a line that is not ended yet is left for the next reading."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._rewind()

    def _rewind(self) -> None:
        self.offset = 0
        self._file: int | None = None  # its inode, of a file that was read
        self._skipping = False  # inside of a line that is too long

    def size(self) -> int:
        """Bytes of the file; 0 where there is none."""
        try:
            return self.path.stat().st_size
        except OSError:
            return 0

    def replaced(self) -> bool:
        """Whether another file is there, or a shorter one, so that what was read no longer holds. Begins anew then."""
        try:
            state = self.path.stat()
        except OSError:
            state = None
        if state is None:
            gone = self._file is not None
        else:
            gone = self._file not in (None, state.st_ino) or state.st_size < self.offset
        if gone:
            self._rewind()
        return gone

    def chunks(self) -> Iterator[bytes]:
        """The new whole lines, some at a time; what is yielded counts as read. None where no plain file is there."""
        if no_file(self.path):
            return
        try:
            file = open(self.path, "rb")  # noqa: SIM115 - closed below, by the generator's end too
        except OSError:
            return
        with file:
            self._file = os.fstat(file.fileno()).st_ino
            while True:
                file.seek(self.offset)
                chunk = file.read(CHUNK)
                end = chunk.rfind(b"\n") + 1
                if end == 0:
                    if len(chunk) < LONGEST_LINE:
                        return
                    self.offset, self._skipping = self.offset + len(chunk), True
                    continue
                begin = chunk.find(b"\n") + 1 if self._skipping else 0
                self.offset, self._skipping = self.offset + end, False
                yield chunk[begin:end]

    def objects(self, most: int) -> Iterator[dict[str, object]]:
        """The new lines that are JSON objects, at most so many; torn ones are left out."""
        for chunk in self.chunks():
            for line in chunk.splitlines():
                item = object_of(line)
                if item is not None:
                    yield item
                    most -= 1
                    if most <= 0:
                        return


def object_of(line: bytes) -> dict[str, object] | None:
    """The JSON object of a line; None where it holds none, as one that a kill tore."""
    try:
        item = parse_json(line)
    except ValueError:
        return None
    return item if isinstance(item, dict) else None


def sampled_lines(path: Path, size: int, number: int) -> Iterator[bytes]:
    """About so many whole lines of a file of `size` bytes, evenly spaced, the last ones among them: read by seeking, in
    a time that does not grow with the file."""
    window = 4096  # bytes, several records
    if no_file(path):
        return
    try:
        file = open(path, "rb", buffering=0)  # noqa: SIM115
    except OSError:
        return
    with file:
        if hasattr(os, "posix_fadvise"):  # else the system reads far ahead at every place
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_RANDOM)
        for place in range(number):
            at = max(0, size - window) * place // max(1, number - 1)
            file.seek(at)
            lines = file.read(window).split(b"\n")
            whole = lines[:-1] if at == 0 else lines[1:-1]  # the first begins before the window, the last goes on
            yield from whole if place == number - 1 else whole[:1]  # of the end all: the last one may be torn
