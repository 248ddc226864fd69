"""Lines that are printed to be pasted: run in a new shell, from another folder."""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from trainer.config import Config
from trainer.run_folder import RunFolder
from trainer.training.faults.signals import go_on_with
from trainer.utils.command_line import command_line, remember, same_again

NASTY = ["train", "resume=/my runs/it's", 'a "b" $HOME `id` \\ *', "", "new\nline", "~/x;y"]
TELLS = '#!/bin/sh\nprintf \'%s\\0\' "$PWD" "$@"\n'  # a program that tells its folder and its words


def pasted(line: str, path: str = "/usr/bin:/bin") -> list[str]:
    """What a program of TELLS hears when the line is given to a new shell in the root folder."""
    shell = ["env", "-i", f"PATH={path}", "/bin/sh", "-c", line]
    return subprocess.run(shell, cwd="/", capture_output=True, text=True, check=True).stdout.split("\0")[:-1]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Makes a folder with a program in it, and lets this Python seem to be beside it."""

    def make(folder: str, *programs: str) -> Path:
        scripts = tmp_path / folder / "bin"
        scripts.mkdir(parents=True)
        for name in programs:
            (scripts / name).write_text(TELLS)
            (scripts / name).chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(scripts / "python"))
        monkeypatch.setattr("sysconfig.get_path", lambda *_: str(scripts))
        for name in ("VIRTUAL_ENV", "CONDA_PREFIX"):
            monkeypatch.delenv(name, raising=False)
        return scripts

    return make


def test_words_reach_the_program_as_they_were(place: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    place("a clone's $home/.venv", "isoflop", "wandb")
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    assert pasted(command_line(*NASTY)) == ["/", *NASTY]
    assert pasted(command_line(*NASTY, program="wandb")) == ["/", *NASTY]


def test_the_same_command_again_runs_in_the_folder_where_it_was_given(
    place: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place("clone", "isoflop")
    here = tmp_path / "my 'work'"
    here.mkdir()
    monkeypatch.chdir(here)
    remember(NASTY)
    assert pasted(same_again()) == [str(here), *NASTY]


def test_the_bare_name_is_printed_only_where_a_new_shell_finds_it(
    place: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripts = place("installed", "isoflop")
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    assert command_line("status") == f"{scripts / 'isoflop'} status"
    monkeypatch.setenv("PATH", f"{scripts}:/usr/bin:/bin")
    assert command_line("status") == "isoflop status"
    monkeypatch.setenv("VIRTUAL_ENV", str(scripts.parent))  # activated in this shell
    assert command_line("status") == f"{scripts / 'isoflop'} status"
    monkeypatch.delenv("VIRTUAL_ENV")
    (other := tmp_path / "other").mkdir()
    (other / "isoflop").write_text(TELLS)  # of another installation
    (other / "isoflop").chmod(0o755)
    monkeypatch.setenv("PATH", f"{other}:{scripts}:/usr/bin:/bin")
    assert command_line("status") == f"{scripts / 'isoflop'} status"


def test_without_a_script_the_module_is_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainer.utils.command_line._script_folders", lambda: [])
    shell = ["env", "-i", "PATH=/usr/bin:/bin", "/bin/sh", "-c", command_line("price", "--help")]
    done = subprocess.run(shell, cwd="/", capture_output=True, text=True)
    assert done.stdout.startswith("isoflop price"), done.stderr


@pytest.mark.parametrize(
    ("change", "goes_there"),
    [
        ({"path": ("notes/*.txt",)}, True),
        ({"sources": {"one": {"path": ["notes"]}}}, True),
        ({"path": ("/data/notes.txt", "~/notes.txt", "hf://owner/set", "https://example.org/a.txt")}, False),
        ({}, False),
    ],
)
def test_a_run_that_reads_relative_paths_goes_on_in_its_folder(
    change: dict[str, object], goes_there: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    data = {"name": "mixture" if "sources" in change else "text" if change else "stdlib", **change}
    (tmp_path / "config.yaml").write_text(Config.model_validate({"data": data}).to_yaml())
    there = f"cd {shlex.quote(str(tmp_path))} && "
    assert RunFolder(tmp_path).command("report").startswith(there) is goes_there
    assert (f"go on with: {there}" in go_on_with(tmp_path)) is goes_there
