"""Files that are complete or absent: written aside, fsynced, renamed."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
from pathlib import Path

FULL = (errno.ENOSPC, errno.EDQUOT)  # what the system says of a disk without room


def fsync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_synced(path: Path, content: bytes) -> str:
    """Write a new file to disk and return its sha256. The caller makes it visible by renaming its folder."""
    with open(path, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    return hashlib.sha256(content).hexdigest()


def write_atomic(path: Path, content: str | bytes) -> None:
    """Replace `path` by the new content, or leave it as it was."""
    data = content.encode() if isinstance(content, str) else content
    aside = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        write_synced(aside, data)
        os.replace(aside, path)
    except BaseException:
        with contextlib.suppress(OSError):
            aside.unlink()
        raise
    fsync_folder(path.parent)


def sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
