"""A lock that a dead host has left is told and taken over; one that cannot be asked is refused with what to do."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from trainer.utils import folder_lock
from trainer.utils.errors import UserError
from trainer.utils.folder_lock import take_lock

HERE = socket.gethostname()


@pytest.fixture
def dead() -> int:
    """The number of a process that is no more."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def no_locks(*arguments: object) -> None:
    raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))


def left(folder: Path, process: int, host: str, boot: str | None = None) -> Path:
    """A lock file as a process leaves it that was killed."""
    path = folder / ".lock"
    path.write_text(f"process {process} on {host}\nboot {folder_lock._boot() if boot is None else boot}\n")
    return path


def test_a_lock_that_is_given_up_leaves_no_word(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / ".lock"
    for _ in range(2):
        with take_lock(path, UserError):
            assert path.read_text().startswith(f"process {os.getpid()} on {HERE}")
    assert path.read_text() == ""
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("host", "boot", "why"),
    [
        (HERE, None, "that process is no more"),
        (HERE, "another-boot", "that host was started anew since"),
        ("a-node", "another-boot", "it holds no lock any more"),
    ],
)
def test_what_a_dead_process_has_left_is_taken_over(
    host: str, boot: str | None, why: str, dead: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with take_lock(left(tmp_path, dead, host, boot), UserError):
        assert capsys.readouterr().err == f"isoflop: {tmp_path}: taken over from process {dead} on {host}: {why}\n"


def test_of_version_0_1_0_nothing_is_said(dead: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It left its words in the file however it ended."""
    (tmp_path / ".lock").write_text(f"process {dead} on a-node")
    take_lock(tmp_path / ".lock", UserError).close()
    assert capsys.readouterr().err == ""


def local_locks(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    mounts = folder / "mountinfo"
    mounts.write_text(
        f"36 35 0:40 / {folder} rw,relatime - nfs server:/export rw,vers=3,local_lock=all,addr=10.0.0.1\n"
    )
    monkeypatch.setattr(folder_lock, "MOUNTS", mounts)


@pytest.mark.parametrize("prepare", [lambda patch, folder: patch.setattr(fcntl, "flock", no_locks), local_locks])
def test_another_host_that_cannot_be_asked_is_refused(
    prepare: Callable[[pytest.MonkeyPatch, Path], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = left(tmp_path, 17, "a-node")
    before = path.read_text()
    prepare(monkeypatch, tmp_path)
    with pytest.raises(UserError, match=rf"process 17 on a-node.*rm {path}"):
        take_lock(path, UserError)
    assert path.read_text() == before


def test_a_file_system_without_locks(dead: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the file says counts there: a live process of this host holds it, a dead one does not."""
    monkeypatch.setattr(fcntl, "flock", no_locks)
    with take_lock(tmp_path / ".lock", UserError), pytest.raises(UserError, match=f"process {os.getpid()}"):
        take_lock(tmp_path / ".lock", UserError)
    take_lock(left(tmp_path, dead, HERE), UserError).close()


def test_held_by_what_a_dead_process_has_started(dead: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder_lock, "PAUSE", 0)
    path = left(tmp_path, dead, HERE)
    with path.open() as child:
        fcntl.flock(child, fcntl.LOCK_EX)
        with pytest.raises(UserError, match=f"process {dead} on .* has started.*fuser"):
            take_lock(path, UserError)


def test_held_on_another_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder_lock, "PAUSE", 0)
    path = left(tmp_path, 17, "a-node")
    with path.open() as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(UserError, match=rf"process 17 on a-node \(if a-node is gone.*rm {path}"):
            take_lock(path, UserError)
