"""One process at a time works in a folder; how a lock that a dead host has left is told from a live one.

The lock is flock's: the system gives it up when the process that holds it ends, however it ends. What the file says is
for people, and for file systems that keep such locks to one host, or have none.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import shlex
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import IO

HELD = (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES)  # what flock says of a lock that another process has
TRIES, PAUSE = 5, 0.2  # for a process that only looks, or that is about to end; seconds
LOCAL_LOCKS = {"nolock", "local_lock=flock", "local_lock=all", "localflock"}  # mount options of NFS and Lustre
BOOT = Path("/proc/sys/kernel/random/boot_id")
MOUNTS = Path("/proc/self/mountinfo")


class HeldLock:
    """A lock until `close`, or until this process ends."""

    def __init__(self, file: IO[str]) -> None:
        self._file = file

    def close(self) -> None:
        if not self._file.closed:
            with contextlib.suppress(OSError):
                self._file.truncate(0)  # whoever finds something here finds what a dead process has left
            self._file.close()

    def __enter__(self) -> HeldLock:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def take_lock(path: Path, refused: Callable[[str], Exception]) -> HeldLock:
    """Hold the lock of this file. What a dead process has left is told on standard error, and taken over.

    Raises `refused(by whom and what to do)` where another process holds it, or where that cannot be known.
    """
    file = open(path, "a+")  # noqa: SIM115 - held open on purpose
    try:
        free = _flock(file)
        before = holder_of(file)
        if free is False:
            raise refused(_held_by(file, path))
        if before and (free is None or _boot_in(file)):  # version 0.1.0 left its words there in any case
            _take_over(file, path, before, locks=bool(free), refused=refused)
        file.truncate(0)
        job = f" (job {os.environ['SLURM_JOB_ID']})" if "SLURM_JOB_ID" in os.environ else ""
        file.write(f"process {os.getpid()} on {socket.gethostname()}{job}\nboot {_boot()}\n")
        file.flush()
    except BaseException:
        file.close()
        raise
    return HeldLock(file)


def holder_of(file: IO[str]) -> str:
    """The process that wrote this lock file last, and has not given it up; empty where there is none."""
    file.seek(0)
    return file.readline().strip()


def _flock(file: IO[str]) -> bool | None:
    """Whether the lock is ours now; null where the file system has no such locks."""
    for one in range(TRIES):
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except OSError as error:
            if error.errno not in HELD:
                return None
            if one + 1 < TRIES:
                time.sleep(PAUSE)
    return False


def _held_by(file: IO[str], path: Path) -> str:
    """Who holds the lock, and what to do where that process is no more."""
    holder = holder_of(file)
    process, host = _parsed(holder)
    if host and host != socket.gethostname():
        gone = f"if {host} is gone or has no such process: rm {shlex.quote(str(path))}"
        return f"{holder} ({gone})"
    if process and not _lives(process):
        return f"a process that {holder} has started, which has ended itself (fuser {shlex.quote(str(path))} names it)"
    return holder or "another process"


def _take_over(file: IO[str], path: Path, before: str, *, locks: bool, refused: Callable[[str], Exception]) -> None:
    """Say what became of the last holder, which did not give the lock up. locks: the file system has locks."""
    process, host = _parsed(before)
    if host == socket.gethostname():
        booted = _boot_in(file) not in ("", _boot())
        if not locks and not booted and process and _lives(process):
            raise refused(before)
        why = "that host was started anew since" if booted else "that process is no more"
    elif locks and not _locks_are_local(path):
        why = "it holds no lock any more"
    else:
        raise refused(
            f"{before}, as its lock says, which cannot be asked from here (this file system keeps locks to one host; "
            f"if that process is no more: rm {shlex.quote(str(path))})"
        )
    print(f"isoflop: {path.parent}: taken over from {before}: {why}", file=sys.stderr)


def _parsed(holder: str) -> tuple[int | None, str]:
    """Process id and host of what a lock file says."""
    found = re.match(r"process (\d+) on (\S+)", holder)
    return (int(found[1]), found[2]) if found else (None, "")


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _boot() -> str:
    """What this start of the system is called; empty where it has no such name."""
    try:
        return BOOT.read_text().strip()
    except OSError:
        return ""


def _boot_in(file: IO[str]) -> str:
    """The start of the system in which a lock file was written; empty where it does not say that."""
    file.seek(0)
    return next((line.split()[1] for line in file if line.startswith("boot ")), "")


def _locks_are_local(path: Path) -> bool:
    """Whether the file system of this path keeps locks to one host, as its mount options say."""
    try:
        lines = [line.split() for line in MOUNTS.read_text().splitlines()]
    except OSError:
        return False
    whole = path.absolute()
    around = [line for line in lines if len(line) > 9 and whole.is_relative_to(line[4].replace("\\040", " "))]
    if not around:
        return False
    nearest = max(around, key=lambda line: len(line[4]))
    return bool(LOCAL_LOCKS & set(",".join([nearest[5], nearest[-1]]).split(",")))
