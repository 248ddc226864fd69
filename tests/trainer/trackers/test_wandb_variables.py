"""W&B's own variables mean what they mean to `wandb.init`, and are frozen into the run."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.trainer.trackers.conftest import KEY
from tests.trainer.trackers.test_wandb import Loop, files_with
from trainer.compose import change, compose
from trainer.config import Config, load
from trainer.run.finetune_config import of_no_run
from trainer.run.many_runs import launch_many
from trainer.run.start import composed
from trainer.trackers import notes_on, settled, wandb_server
from trainer.trackers.wandb_variables import VARIABLES
from trainer.utils.errors import UserError

SAID = {
    "WANDB_PROJECT": "theirs",
    "WANDB_ENTITY": "team",
    "WANDB_NAME": "first try",
    "WANDB_RUN_GROUP": "ablations",
    "WANDB_JOB_TYPE": "pretraining",
    "WANDB_TAGS": "a, b",
    "WANDB_NOTES": "with a longer\nnote",
    "WANDB_RUN_ID": "abc-1",
}
ON = ["tracker=wandb", "tracker.wandb=offline"]


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("WANDB")]:
        monkeypatch.delenv(name)


def said(monkeypatch: pytest.MonkeyPatch, variables: Mapping[str, str]) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


def test_the_client_tells_the_server_what_the_variables_say(run: Path, loop: Loop, wandb_server: Any) -> None:
    """The real client, online; and a second attempt, in an environment that says otherwise, goes on as the first."""
    loop("--steps", "3", "--wandb", "auto", url=wandb_server.url, **SAID)
    first = {
        name: wandb_server.upserts[0].get(name)
        for name in ("name", "project", "entity", "groupName", "displayName", "jobType", "notes", "tags")
    }
    assert first == {
        "name": "abc-1",
        "project": "theirs",
        "entity": "team",
        "groupName": "ablations",
        "displayName": "first try",
        "jobType": "pretraining",
        "notes": "with a longer\nnote",
        "tags": ["a", "b"],
    }
    before = len(wandb_server.upserts)
    others = {
        "WANDB_PROJECT": "other",
        "WANDB_ENTITY": "others",
        "WANDB_RUN_ID": "xyz",
        "WANDB_RUN_GROUP": "no",
        "WANDB_BASE_URL": "http://127.0.0.1:9",
    }
    done = loop("--steps", "6", "--resumed-from", "3", "--attempt", "1", "--wandb", "auto", **others)
    again = wandb_server.upserts[before]
    assert (again["name"], again["project"], again["entity"], again["groupName"]) == (
        "abc-1",
        "theirs",
        "team",
        "ablations",
    )
    assert "not read: WANDB_PROJECT (theirs holds)" in done.stdout
    assert [row["_step"] for row in wandb_server.history["abc-1"]] == [1, 3, 4, 6]
    assert not files_with(KEY, run)


def test_keys_come_before_variables(run: Path, loop: Loop, wandb_server: Any, tmp_path: Path) -> None:
    """WANDB_DIR takes the files; what keys say holds, and of a variable that is not set the usual."""
    tracker = {"project": "mine", "name": "named", "tags": ["c"]}
    rest = {name: SAID[name] for name in ("WANDB_PROJECT", "WANDB_NAME", "WANDB_TAGS")}
    loop(
        "--steps",
        "2",
        "--wandb",
        "auto",
        "--tracker",
        json.dumps(tracker),
        url=wandb_server.url,
        WANDB_DIR=str(tmp_path / "big"),
        **rest,
    )
    upsert = wandb_server.upserts[0]
    assert (upsert["project"], upsert["displayName"], upsert["tags"]) == ("mine", "named", ["c"])
    assert upsert["groupName"] == Config().experiment
    assert list((tmp_path / "big" / "wandb").glob("run-*"))
    assert not list((run / "wandb").glob("run-*"))


def test_a_silent_client_prints_nothing_of_itself(run: Path, loop: Loop) -> None:
    done = loop("--steps", "2", "--wandb", "offline", WANDB_SILENT="true", WANDB_PROJECT="theirs")
    assert "W&B" not in done.stdout and "wandb" not in done.stdout


def test_variables_stand_in_for_keys_that_nobody_gave(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    said(
        monkeypatch,
        SAID | {"WANDB_DIR": "there", "WANDB_RESUME": "must", "WANDB_BASE_URL": "https://wandb.example.org/"},
    )
    (tmp_path / "mine.yaml").write_text("wandb: offline\nentity: of-a-file\n")
    monkeypatch.chdir(tmp_path)
    tracker = composed(["tracker=mine.yaml", "tracker.group=typed"])[0].tracker
    assert tracker.model_dump(include=set(VARIABLES)) == {
        "project": "theirs",
        "entity": "of-a-file",
        "group": "typed",
        "name": "first try",
        "job_type": "pretraining",
        "tags": ("a", "b"),
        "notes": "with a longer\nnote",
        "dir": str(tmp_path / "there"),
        "run_id": "abc-1",
        "resume": "must",
        "base_url": "https://wandb.example.org",
    }
    (first, second) = notes_on(composed(["tracker=mine.yaml", "tracker.group=typed"])[0])
    assert first.startswith("wandb: project theirs from WANDB_PROJECT")
    assert second == (
        "wandb: not read: WANDB_ENTITY (of-a-file holds), WANDB_RUN_GROUP (typed holds); "
        "command line > file or frozen run > variable > default"
    )
    off = composed(["tracker.wandb=disabled"])[0]
    assert off.tracker == compose(["tracker.wandb=disabled"]).tracker
    assert notes_on(off) == []


def test_a_run_that_goes_on_keeps_what_it_began_with(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Also what it had left open, also where its group of keys is given anew; a run without W&B takes it up then."""
    began = settled(compose([*ON, "tracker.project=first"]))
    (tmp_path / "config.yaml").write_text(began.to_yaml())
    before = load(tmp_path / "config.yaml")
    said(monkeypatch, SAID)
    for words in ([], ["tracker=wandb"]):
        now = settled(change(before, words), before)
        assert (now.tracker.project, now.tracker.entity, now.tracker.run_id) == ("first", None, None)
    assert settled(change(before, ["tracker.project=typed"]), before).tracker.project == "typed"
    (tmp_path / "config.yaml").write_text(compose([]).to_yaml())
    without = load(tmp_path / "config.yaml")
    assert settled(change(without, ON), without).tracker.project == "theirs"


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("WANDB_RUN_ID", "a/b", "WANDB_RUN_ID: 'a/b' given; an id of W&B has"),
        ("WANDB_RESUME", "perhaps", "WANDB_RESUME: 'perhaps' given; W&B takes allow, auto, must, never"),
    ],
)
def test_a_variable_that_says_nothing_is_one_line(
    name: str, value: str, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(UserError) as caught:
        composed(ON)
    assert str(caught.value).startswith(told)
    composed(["tracker.wandb=disabled"])  # nobody asks


@pytest.mark.parametrize("word", ["tracker.run_id=a/b", "tracker.base_url=wandb.example.org", "tracker.resume=perhaps"])
def test_a_key_that_says_nothing_is_one_line(word: str) -> None:
    with pytest.raises(UserError) as caught:
        compose([*ON, word])
    assert str(caught.value).startswith(word.partition("=")[0])
    assert "\n" not in str(caught.value)


def test_a_password_in_an_address_is_not_written_down(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_BASE_URL", "https://me:sesame@wandb.example.org")
    config = settled(compose(ON))
    assert "sesame" not in config.to_yaml()
    assert "sesame" not in " ".join(notes_on(config))


@pytest.mark.parametrize(
    ("variables", "wanted", "mode"),
    [
        ({"WANDB_DISABLED": "true"}, "auto", "disabled"),
        ({"WANDB_MODE": "disabled"}, "auto", "disabled"),
        ({"WANDB_MODE": "dryrun"}, "auto", "offline"),
        ({"WANDB_MODE": "disabled", "WANDB_DISABLED": "1"}, "offline", "offline"),  # the key was given
        ({"WANDB_DISABLED": "false"}, "auto", "offline"),  # no key here
        ({"WANDB_MODE": "nonsense"}, "auto", "offline"),
    ],
)
def test_modes(
    variables: dict[str, str], wanted: str, mode: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    said(monkeypatch, variables)
    assert wandb_server.choose_mode(wanted)[0] == mode


def test_a_run_made_from_another_does_not_take_its_name() -> None:
    parent = compose([*ON, "tracker.run_id=abc", "tracker.name=one", "tracker.project=mine"]).tracker
    child = of_no_run(parent)
    assert (child.run_id, child.name, child.project) == (None, None, "mine")


def test_several_runs_share_no_name(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    said(monkeypatch, SAID)
    words = [*ON, "launch=slurm", "seed=0,1", "data=stdlib", "budget.steps=2"]
    assert launch_many(words, dry_run=True) == 0
    assert "WANDB_NAME, WANDB_RUN_ID name one run" in capsys.readouterr().err
    assert "WANDB_RUN_ID" not in os.environ and os.environ["WANDB_PROJECT"] == "theirs"
    with pytest.raises(UserError, match=r"tracker\.run_id: 'one' names one W&B run, and 2 runs would share it"):
        launch_many([*words, "tracker.run_id=one"], dry_run=True)
