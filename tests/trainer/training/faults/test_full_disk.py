"""A disk without room is one line, also where the file that should tell the launcher has no room either."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from trainer.config import Config
from trainer.run_folder import RunFolder
from trainer.training.faults.reporting import report_failure
from trainer.training.faults.signals import StopRequest
from trainer.utils.command_line import command_line
from trainer.utils.outcomes import FAILED
from trainer.worker import work


@pytest.mark.parametrize("launched", [True, False])
def test_a_full_run_folder_is_one_line(
    launched: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "config.yaml").write_text(Config().to_yaml())
    reply = tmp_path / "error.json"
    reply.symlink_to("/dev/full")
    if launched:
        monkeypatch.setenv("ISOFLOP_LAUNCHED", "1")
        monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", str(reply))

    def lock(self: RunFolder) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(RunFolder, "lock", lock)
    monkeypatch.setattr(StopRequest, "__init__", lambda self, *_, **__: setattr(self, "interrupted", None))
    assert work(tmp_path) == FAILED
    way = f"free some space, then: {command_line('train', f'resume={tmp_path}')}"
    assert capsys.readouterr().err == f"isoflop: run.root: the disk of {tmp_path} is full; {way}\n"
    assert reply.is_symlink() is not launched  # half a file would break the agent, which reads JSON


def test_a_failure_that_the_launcher_is_told_of_is_not_shown_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ISOFLOP_LAUNCHED", "1")
    monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", str(tmp_path / "error.json"))
    report_failure("wrong", user=True)
    assert '"message": "wrong"' in (tmp_path / "error.json").read_text()
    assert capsys.readouterr().err == ""
