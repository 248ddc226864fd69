"""`isoflop config`: machinery that holds where nothing else is said, and never science."""

from __future__ import annotations

from pathlib import Path

import pytest

from trainer.cli.main import main
from trainer.compose import change, compose, explained
from trainer.utils.errors import UserError


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "isoflop"


def remembered(*words: str) -> None:
    assert main(["config", *words]) == 0


def test_it_holds_for_every_new_run_and_is_frozen_there(home):
    remembered("site=no-2023", "machine=h100-sxm", "site.pue=1.2")
    config = compose([])
    assert (config.site.name, config.site.pue, config.machine.name) == ("no-2023", 1.2, "h100-sxm")
    assert "name: no-2023" in config.to_yaml()
    remembered("site=null", "machine=null")
    assert compose([]).site.name == "unstated"
    assert not [*home.iterdir()]
    assert change(config, ["launch.processes=2"]).site.name == "no-2023"  # as it was frozen


def test_the_science_stays_what_it_is():
    before = compose([]).science_hash()
    remembered("site=no-2023", "machine=h100-sxm", "launch.processes=2", "engine.zero_stage=1")
    assert compose([]).science_hash() == before


def test_what_a_command_says_counts_more():
    remembered("site=no-2023", "site.pue=1.2")
    assert compose(["site.pue=1.5"]).site.pue == 1.5
    assert compose(["site.pue=1.5"]).site.name == "no-2023"
    other = compose(["site=fr-2023"]).site
    assert (other.name, other.pue) == ("fr-2023", None)  # the hall of another place


def test_what_files_of_the_run_say_counts_more(home):
    remembered("site=no-2023", "launch.processes=2", "machine=h100-sxm")
    (home / "experiment").mkdir()
    text = "# @package _global_\ndefaults:\n  - override /site: fr-2023\nlaunch: {processes: 3}\n"
    (home / "experiment" / "mine.yaml").write_text(text)
    config = compose(["experiment=mine"])
    assert (config.site.name, config.launch.processes, config.machine.name) == ("fr-2023", 3, "h100-sxm")


def test_info_says_who_said_it(home):
    remembered("site=no-2023", "site.pue=1.2")
    rows = {key: (value, who) for key, value, who in explained([])}
    assert rows["site.pue"] == (1.2, f"user ({home / 'remembered.yaml'})")
    assert rows["site.gco2e_per_kwh"][0] == 30.1
    assert "regions.csv:" in rows["site.gco2e_per_kwh"][1]


def test_a_price_takes_it(capsys):
    remembered("site=no-2023")
    capsys.readouterr()
    assert main(["price", "gpu_hours=10", "watts=1000", "pue=1"]) == 0
    assert "301 g CO2e" in capsys.readouterr().out


def test_a_new_word_replaces_the_old_one(capsys):
    remembered("site=no-2023", "site.pue=1.2")
    remembered("site.pue=1.3")
    remembered("site=fr-2023")
    capsys.readouterr()
    remembered()
    assert capsys.readouterr().out.splitlines()[:-1] == ["site=fr-2023"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["seed=1"], "seed: is science"),
        (["model=gpt2-124m"], "model: is science"),
        (["optim.lr=1e-3"], "optim.lr: is science"),
        (["engine.precision=bf16"], "engine.precision: is numerics"),
        (["engine.deepspeed.bf16.enabled=true"], "engine.deepspeed.bf16.enabled: is numerics"),
        (["run.id=one"], "run.id: is of one run"),
        (["site=atlantis-2023"], "no such option"),
        (["site.pue=0.5"], "site.pue: 0.5 given"),
        (["launch.processes=1,2"], "this is many runs"),
        (["machine=null"], "machine: is not remembered"),
        (["site.pua=1.2"], "did you mean 'site.pue'"),
    ],
)
def test_what_is_not_remembered(home, capsys, words, said):
    assert main(["config", *words]) == 2
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1 and said in error
    assert not home.exists()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("- seed=3\n", "seed: is science"),
        ("- site=gone-1999\n", "no such option"),
        ("site: fr-2023\n", "a list of words"),
        ("- [\n", "no YAML"),
    ],
)
def test_a_file_that_cannot_be(home, text, said):
    home.mkdir()
    (home / "remembered.yaml").write_text(text)
    with pytest.raises(UserError, match=said) as caught:
        compose([])
    assert "remembered.yaml" in str(caught.value)


def test_an_option_may_be_a_file_of_the_user(home):
    (home / "site").mkdir(parents=True)
    (home / "site" / "hall.yaml").write_text("name: hall\npue: 1.3\n")
    remembered("site=hall")
    assert compose([]).site.pue == 1.3
    (Path.cwd() / "other.yaml").write_text("name: other\n")
    assert main(["config", "site=other.yaml"]) == 2
