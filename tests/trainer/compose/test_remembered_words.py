"""What `isoflop config` makes of words that say the same in another way."""

from __future__ import annotations

import pytest

from trainer.cli.main import main
from trainer.compose import compose


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "isoflop"


def test_a_plus_is_the_same_key(home):
    assert main(["config", "++site.pue=1.2"]) == 0
    assert main(["config", "site.pue=1.3"]) == 0
    assert compose([]).site.pue == 1.3
    assert main(["config", "site=null"]) == 0
    assert not (home / "remembered.yaml").exists()


def test_a_curve_is_found_from_any_folder(home, tmp_path, monkeypatch):
    rows = "".join(f"2026-01-01T{hour:02d}:00Z,{hour}\n" for hour in range(24))
    (tmp_path / "it's.csv").write_text(f"# source: me\ntime,average_gco2e_per_kwh\n{rows}")
    assert main(["config", 'site.curve="it\'s.csv"']) == 0
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    assert compose([]).site.curve == str(tmp_path / "it's.csv")


def test_an_empty_file_is_nothing(home):
    home.mkdir()
    (home / "remembered.yaml").write_text("")
    assert compose([]).site.name == "unstated"


@pytest.mark.parametrize("text", ["- 2026-99-99\n", "- 1\n", "{a: b}\n"])
def test_a_file_of_something_else_is_one_line(home, capsys, text):
    home.mkdir()
    (home / "remembered.yaml").write_text(text)
    assert main(["config"]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
