"""The saved view of W&B: built offline; what keeps it from being saved is one line."""

from __future__ import annotations

import sys

import pytest

from trainer.cli.main import main
from trainer.config import Config
from trainer.report.workspace import build_workspace
from trainer.utils.errors import UserError


def run_below(root, experiment):
    folder = root / experiment / "a"
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(Config.model_validate({"run": {"experiment": experiment}}).to_yaml())


def refusal(words, capsys):
    assert main(words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_it_shows_one_experiment_against_size_and_cost():
    pytest.importorskip("wandb_workspaces")
    section = (
        build_workspace("us", "isoflop", "cpu")._to_model().spec.section.model_dump(by_alias=True)
    )  # as it is sent
    runs, curves = section["panelBankConfig"]["sections"]
    points = [panel["config"] for panel in runs["panels"]]
    assert [one["xAxis"] for one in points] == [
        "config:parameters.value",
        "summary:flop",
        "summary:kwh",
        "summary:gco2e",
    ]
    assert {one["yAxis"] for one in points} == {"summary:val/loss.last"}
    assert {panel["config"]["xAxis"] for panel in curves["panels"]} == {"tokens", "flop", "kwh", "gco2e"}
    (only,) = section["runSets"][0]["filters"]["filters"]
    assert (only["key"]["name"], only["value"]) == ("group", "cpu")


def test_bad_input_is_one_line(tmp_path, capsys, monkeypatch):
    pytest.importorskip("wandb_workspaces")
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")  # nothing listens
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    assert "no run" in refusal(["workspace", str(tmp_path)], capsys)
    run_below(tmp_path, "one")
    assert "does not answer" in refusal(["workspace", str(tmp_path)], capsys)
    run_below(tmp_path, "two")
    assert "one, two; a workspace shows" in refusal(["workspace", str(tmp_path)], capsys)
    assert "name one folder" in refusal(["workspace"], capsys)


def test_a_missing_library_is_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb_workspaces", None)
    with pytest.raises(UserError, match=r"pip install 'isoflop\[workspaces\]'"):
        build_workspace("us", "isoflop", "cpu")
