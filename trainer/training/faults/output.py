"""A run outlives the terminal or the pipe that shows it."""

from __future__ import annotations

import errno
import io
import os
import sys
from typing import Any, TextIO

from trainer.utils.files import FULL

GONE = (errno.EPIPE, errno.EIO)  # a pipe without a reader; a terminal that was closed


class _Output(io.FileIO):
    """A file descriptor that becomes /dev/null when its reader is gone. On a full disk what is written is lost."""

    def write(self, content: Any) -> int:
        try:
            return super().write(content)
        except OSError as error:
            if error.errno in FULL:
                return memoryview(content).nbytes
            if error.errno not in GONE:
                raise
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, self.fileno())
        os.close(null)
        return memoryview(content).nbytes


def outlive_readers() -> None:
    """From now on, what is printed to a terminal or a pipe that is gone is lost, and is no error."""
    sys.stdout, sys.stderr = _lasting(sys.stdout, sys.__stdout__), _lasting(sys.stderr, sys.__stderr__)


def _lasting(stream: TextIO, original: TextIO | None) -> TextIO:
    """The stream on the same descriptor; unchanged where it was replaced by another one."""
    if stream is None or stream is not original:
        return stream
    stream.flush()
    file = io.BufferedWriter(_Output(stream.fileno(), "w", closefd=False))  # type: ignore[arg-type]
    immediate = stream is sys.__stderr__ or stream.isatty()
    return io.TextIOWrapper(file, stream.encoding, stream.errors, line_buffering=immediate)
