"""`isoflop new`: the project that it writes works as it stands."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from jsonschema import Draft202012Validator

from trainer.cli.main import main
from trainer.cli.new import FILES, TEMPLATES

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def project(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    folder = tmp_path / "my study"
    assert main(["new", str(folder)]) == 0
    assert capsys.readouterr().out.startswith(f"made {folder}; ")
    return folder


def run(project: Path, *words: str, **variables: str) -> str:
    """Standard output of a program of this environment in the project's folder."""
    done = subprocess.run(
        [sys.executable, "-P", "-m", *words],
        cwd=project,
        env={**os.environ, "PYTHONPATH": str(ROOT), **variables},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def commands(project: Path) -> list[list[str]]:
    """What the README says to type."""
    lines = [line.strip() for line in (project / "README.md").read_text().splitlines() if line.startswith("    ")]
    return [shlex.split(line, comments=True) for line in lines]


def test_every_template_is_written(project: Path) -> None:
    assert {file.name for file in TEMPLATES.iterdir()} == set(FILES.values())
    assert all((project / name).read_text() for name in FILES)
    assert (project / "README.md").read_text().startswith("# my study\n")
    assert not [name for name in FILES if "{project}" in (project / name).read_text()]


def test_its_files_fit_their_schemas_which_know_them(project: Path) -> None:
    for file in project.glob("configs/*/*.yaml"):
        (named,) = [line.rpartition("=")[2] for line in file.read_text().splitlines() if "$schema=" in line]
        schema = json.loads((file.parent / named).read_text())
        assert list(Draft202012Validator(schema).iter_errors(yaml.safe_load(file.read_text()))) == []
        assert '"mine"' in json.dumps(schema)


def test_its_own_tests_pass_and_notice_a_wrong_file(project: Path) -> None:
    words = ("pytest", "-q", "-p", "no:cacheprovider")
    assert "4 passed" in run(project, *words)
    with (project / "configs" / "experiment" / "small.yaml").open("a") as file:
        file.write("sede: 3\n")
    with pytest.raises(AssertionError, match=r"small.yaml:\d+: sede: no such key"):
        run(project, *words)


def test_the_commands_of_its_readme_that_train_nothing(project: Path) -> None:
    found = [words for words in commands(project) if words[0] == "isoflop" and words[1] not in ("train", "ledger")]
    assert [words[1] for words in found] == ["plan", "schema", "schema"]
    before = {file: file.read_text() for file in project.glob("schemas/*.json")}
    for words in found:
        run(project, *words)
    assert before == {file: file.read_text() for file in project.glob("schemas/*.json")}


@pytest.mark.slow
def test_the_commands_of_its_readme_that_train(project: Path, cache: Path) -> None:
    less = ["budget.steps=2", "evaluation.samples=8", "engine.precision=fp32", f"run.cache={cache}"]
    trained = [words for words in commands(project) if words[:2] == ["isoflop", "train"]]
    assert len(trained) == 3
    for words in trained:
        run(project, *words, *less)
    assert len(list(project.glob("runs/mine-causal-stdlib/*/report.html"))) == 3
    assert "mine" in run(project, "isoflop", "ledger")


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["name=mine"], "new: name=mine: it takes the name of a folder alone: isoflop new mine"),
        (["--name=mine"], "new: --name=mine: it takes the name of a folder alone: isoflop new mine"),
        ([], "new: name one folder, e.g. isoflop new my-experiments; got none"),
        (["a", "b"], "new: name one folder, e.g. isoflop new my-experiments; got a b"),
        (["full"], "new: full: it is not empty; name a folder that is new"),
        (["file"], "new: file: it is a file; name a folder that is new"),
        (["file/below"], "file/below: Not a directory"),
        (["--force"], "--force: no such option; there is none"),
    ],
)
def test_what_a_person_got_wrong_is_one_line(
    words: list[str], line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("full").mkdir()
    for file in ("full/notes.txt", "file"):
        Path(file).write_text("mine\n")
    assert main(["new", *words]) == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err == f"isoflop: {line}\n"
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "full", "notes.txt"]


def test_an_empty_folder_is_taken(tmp_path: Path) -> None:
    assert main(["new", str(tmp_path)]) == 0 and (tmp_path / "configs").is_dir()
