"""What a command finds around it: closed streams, full devices, a folder that is gone, a strange environment."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from trainer.cli.main import main
from trainer.run.place import OF_A_RANK, PLACE, under_torchrun
from trainer.utils.errors import UserError

ROOT = Path(__file__).resolve().parents[3]


def shell(line: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """A line of bash, where $isoflop is the command."""
    return subprocess.run(
        ["bash", "-c", line],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "isoflop": f"{sys.executable} -m trainer", **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.mark.parametrize(
    ("line", "code", "says"),
    [
        ("$isoflop plan >&-", 0, ""),
        ("$isoflop plan nonsense=1 2>&-", 2, ""),
        ("$isoflop plan <&- >&- 2>&-", 0, ""),
        ("$isoflop --version > /dev/full", 1, "isoflop: standard output"),
        ("$isoflop plan | head -1; exit ${PIPESTATUS[0]}", 0, ""),
        ("mkdir gone; cd gone; rmdir ../gone; $isoflop plan", 2, "isoflop: the working directory cannot be used"),
    ],
)
def test_streams_and_folders(line: str, code: int, says: str, tmp_path: Path) -> None:
    done = shell(line, tmp_path)
    assert done.returncode == code, done
    assert done.stderr.startswith(says)
    assert done.stderr.count("\n") == bool(says)


def test_a_long_output_to_a_full_device(tmp_path: Path) -> None:
    done = shell("$isoflop plan --cfg > /dev/full; $isoflop plan --info > /dev/full", tmp_path)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert done.stderr.count("\n") == 2


def test_what_standard_output_cannot_spell(tmp_path: Path) -> None:
    program = "from trainer.__main__ import _open_streams; _open_streams(); print('a \u2581 b')"
    done = shell(f'{sys.executable} -c "{program}"', tmp_path, PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stdout) == (0, "a \\u2581 b\n")


def test_no_file_takes_the_number_of_a_closed_stream(tmp_path: Path) -> None:
    """What a library prints past Python would go into it."""
    program = "from trainer.__main__ import _open_streams; _open_streams(); file = open('out', 'w'); "
    program += "print(file.fileno(), file=file)"
    shell(f'{sys.executable} -c "{program}" >&- 2>&-', tmp_path)
    assert int((tmp_path / "out").read_text()) > 2


@pytest.fixture
def no_rank(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in (*OF_A_RANK, "TORCHELASTIC_RUN_ID"):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


def test_some_variables_of_a_rank_are_told_and_forgotten(
    no_rank: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert not under_torchrun()
    assert capsys.readouterr().err == ""
    no_rank.setenv("WORLD_SIZE", "4")
    no_rank.setenv("RANK", "0")
    assert not under_torchrun()
    assert capsys.readouterr().err.startswith("isoflop: RANK, WORLD_SIZE: of no rank")
    assert not {"RANK", "WORLD_SIZE"} & os.environ.keys()


def test_all_of_them_are_torchruns_or_refused(no_rank: pytest.MonkeyPatch) -> None:
    for name in PLACE:
        no_rank.setenv(name, "1")
    with pytest.raises(UserError, match="set, and not by torchrun"):
        under_torchrun()
    no_rank.setenv("TORCHELASTIC_RUN_ID", "none")
    assert under_torchrun()


@pytest.mark.slow
@pytest.mark.parametrize("umask", ["077", "002"])
def test_files_of_a_run_follow_the_umask(umask: str, tiny: list[str], tmp_path: Path) -> None:
    words = " ".join([*tiny, "run.id=run", "run.experiment=umask", f"run.cache={tmp_path}/cache"])
    assert shell(f"umask {umask}; $isoflop train {words}", tmp_path).returncode == 0
    wanted = 0o666 & ~int(umask, 8)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    modes = {path.name: oct(path.stat().st_mode & 0o777) for path in files}
    assert {name: mode for name, mode in modes.items() if mode != oct(wanted)} == {}


NOBODY = "~nobody-of-this-name/x"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (f"data run.cache={NOBODY}", f"run.cache: {NOBODY}: whose home is not known"),
        (f"data data=text data.path={NOBODY}", f"data.path: no such file or folder: {NOBODY}"),
        (f"plan tokenizer.path={NOBODY}", f"tokenizer.path: no such file: {NOBODY}"),
        (f"plan model={NOBODY}.yaml", "no such file"),
        (f"plan --config-dir {NOBODY}", "is no directory"),
        (f"plan site.curve={NOBODY}", "no such file"),
        (f"train resume={NOBODY}", f"{NOBODY}: no run folder"),
    ],
)
def test_the_home_of_nobody(
    words: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ISOFLOP_CACHE", str(tmp_path / "cache"))
    assert main(words.split()) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert said in line and not [*tmp_path.iterdir()]


def test_a_home_that_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What reads goes on; what would write names the way out."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/proc/none")
    for name in ("XDG_CONFIG_HOME", "XDG_CACHE_HOME", "ISOFLOP_CACHE"):
        monkeypatch.delenv(name, raising=False)
    assert main(["plan"]) == 0 and capsys.readouterr().err == ""
    for words, way in ((["config", "site=de-2023"], "XDG_CONFIG_HOME"), (["data"], "run.cache")):
        assert main(words) == 2
        [line] = capsys.readouterr().err.splitlines()
        assert "cannot write" in line and way in line
