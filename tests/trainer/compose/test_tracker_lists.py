"""Several trackers at once: a list of names, whoever brought them."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import isoflop
from trainer.compose import change, compose
from trainer.config import Config, load
from trainer.descriptions.trackers import TRACKERS, TrackerDescription, trackers_on
from trainer.trackers import check, settled
from trainer.utils.errors import UserError
from trainer.utils.schema import key


def on(*words: str) -> set[str]:
    return {one.name for one in trackers_on(compose(words).tracker)} - {"jsonl", "console"}


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (["tracker=wandb"], {"wandb"}),
        (["tracker=[wandb,tensorboard]"], {"wandb", "tensorboard"}),
        (["tracker=[tensorboard,wandb]"], {"wandb", "tensorboard"}),
        (["tracker=[csv,mlflow,default,csv]", "tracker.project=p"], {"metrics_csv", "mlflow"}),
        (["tracker=csv", "tracker.tensorboard=true"], {"metrics_csv", "tensorboard"}),
        (["tracker=[wandb,csv]", "tracker=mlflow"], {"mlflow"}),
        (["tracker=[]"], set()),
    ],
)
def test_names_switch_trackers_on(words: list[str], wanted: set[str]) -> None:
    assert on(*words) == wanted


def test_a_file_of_yours_takes_nothing_from_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tracker").mkdir()
    (tmp_path / "tracker" / "mine.yaml").write_text("defaults: [default, _self_]\nproject: ours\nevery_steps: 3\n")
    monkeypatch.setenv("ISOFLOP_CONFIG_DIR", str(tmp_path))
    for words in ("tracker=[wandb,csv,mine]", "tracker=[mine,csv,wandb]"):
        tracker = compose([words]).tracker
        assert (tracker.wandb, tracker.metrics_csv, tracker.project) == ("auto", True, "ours")
    assert compose(["tracker=[wandb,mine]"]).tracker.every_steps == 3


@pytest.fixture
def plugin() -> Iterator[None]:
    class Whisper(TrackerDescription):
        name = "whisper"
        help = "of a plugin"
        implementation = "nowhere:nothing"
        off = ("whispers", False)

        class Keys(TrackerDescription.Keys):
            whispers: bool = key(False, "of a plugin", introduced=False)

    TRACKERS.add([Whisper])
    yield
    TRACKERS.remove([Whisper])


def test_a_tracker_of_a_plugin_stands_in_a_list(plugin: None) -> None:
    assert on("tracker=[csv,whisper]") == {"metrics_csv", "whisper"}
    assert on("tracker=whisper") == {"whisper"}
    with pytest.raises(UserError, match=r"^tracker=whsper: no such option \(did you mean 'whisper'\?\); there is csv"):
        compose(["tracker=[csv,whsper]"])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["tracker=wandb,csv"], "tracker=wandb,csv: a list is written in brackets: tracker=[wandb,csv]"),
        (["tracker=[csv,tensorbord]"], "tracker=tensorbord: no such option (did you mean 'tensorboard'?); there is "),
        (["tracker.alerts=[spike,stop]"], "tracker.alerts[1]: 'stop' given, 'spike', 'halt' or 'end' wanted"),
        (["tracker.mlflow_uri=sqllite:///x.db"], "a place of 'sqllite' given (did you mean 'sqlite'?)"),
        (["tracker.mlflow_uri=postgresql://me:pass@host/x"], "a user or password in it would be written down"),
        (["tracker.samples.tokens=9"], "nothing is sampled; add tracker.samples.every_steps=100"),
        (["tracker.samples.every_steps=1", "tracker.samples.every_evaluations=1"], "state one of the two"),
        (["tracker.samples.every_steps=5", "tracker.samples.prompts=['a <mask>']"], "trains no filling of <mask>"),
    ],
)
def test_bad_input(words: list[str], said: str) -> None:
    with pytest.raises(UserError) as error:
        compose(words)
    assert said in str(error.value)


def test_every_command_of_the_page() -> None:
    page = Path(__file__).parents[3] / "docs" / "tracking.md"
    commands = [
        shlex.split(line, comments=True)
        for line in page.read_text().splitlines()
        if line[4:].startswith("isoflop train")
    ]
    assert len(commands) > 10
    for words in commands:
        compose(words[2:])


def test_an_experiment_chooses_several(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "experiment").mkdir()
    text = "# @package _global_\ndefaults:\n  - override /tracker: [csv, wandb, tensorboard]\n"
    (tmp_path / "experiment" / "mine.yaml").write_text(text)
    monkeypatch.setenv("ISOFLOP_CONFIG_DIR", str(tmp_path))
    assert on("experiment=mine") == {"metrics_csv", "wandb", "tensorboard"}


def test_a_library_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("mlflow", "tensorboard"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UserError) as error:
        check(compose(["tracker=[csv,tensorboard,mlflow]"]))
    assert str(error.value).splitlines() == [
        f"tracker.{one}: {one} needs the extra: pip install 'isoflop[{one}]'" for one in ("mlflow", "tensorboard")
    ]
    check(compose(["tracker=csv"]))


def test_it_is_machinery(tmp_path: Path) -> None:
    words = ["tracker=[csv,tensorboard,mlflow]", "tracker.samples.every_steps=3", "tracker.alerts=[end]"]
    config = compose(words)
    assert config.science_hash() == compose([]).science_hash()
    (tmp_path / "config.yaml").write_text(config.to_yaml())
    assert load(tmp_path / "config.yaml") == config
    assert change(compose([]), ["tracker=[csv,wandb]"]).tracker.metrics_csv is True
    plain = config.model_dump(mode="json")
    for name in ("samples", "alerts", "metrics_csv", "tensorboard", "mlflow", "mlflow_uri"):  # as it was before them
        del plain["tracker"][name]
    assert Config.model_validate(plain).tracker == compose([]).tracker


def test_the_store_of_mlflow_is_frozen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    plain = compose(["tracker=mlflow"])
    assert settled(plain) == plain
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://tracking.example:5000")
    config = settled(plain)
    assert config.tracker.mlflow_uri == "http://tracking.example:5000"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:secret@tracking.example")
    assert settled(plain, config).tracker.mlflow_uri == config.tracker.mlflow_uri  # a resume stays where it was
    with pytest.raises(UserError, match=r"^MLFLOW_TRACKING_URI: a user or password") as error:
        settled(plain)
    assert "secret" not in str(error.value)
    assert settled(compose(["tracker=mlflow", "tracker.mlflow_uri=store"])).tracker.mlflow_uri == str(
        tmp_path / "store"
    )
    assert isoflop.compose(["tracker=csv"]).tracker.metrics_csv
