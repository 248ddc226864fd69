"""The JSON Schema for editors, judged by the package jsonschema, against what we take ourselves."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator
from omegaconf._utils import get_yaml_loader

from trainer.cli.main import main
from trainer.compose import CONF, compose, groups
from trainer.compose.json_schema import json_schema, schemas
from trainer.config import Config
from trainer.utils.errors import UserError

WITHOUT_FILES = {"hooks", "init", "branch"}  # plugins alone bring keys of hooks; init and branch name a run


def read(text: str) -> Any:
    """As Hydra reads a file: 4e11 is a number."""
    return yaml.load(text, get_yaml_loader())


def wrong(group: str | None, plain: Any) -> list[str]:
    return [
        f"{error.json_path}: {error.message}" for error in Draft202012Validator(json_schema(group)).iter_errors(plain)
    ]


@pytest.mark.parametrize("group", [None, *schemas()])
def test_every_file_of_the_package_fits(group: str | None) -> None:
    schema = json_schema(group)
    Draft202012Validator.check_schema(schema)
    judge = Draft202012Validator(schema)
    files = sorted((CONF / group).rglob("*.yaml")) if group else [CONF / "train.yaml"]
    assert files or group in WITHOUT_FILES
    found = {file.name: [error.message for error in judge.iter_errors(read(file.read_text()))] for file in files}
    assert not any(found.values()), found


def test_there_is_one_for_every_group_of_files() -> None:
    assert set(schemas()) == {*groups(), *WITHOUT_FILES}


def test_what_a_run_freezes_fits() -> None:
    assert wrong(None, json.loads(Config().model_dump_json())) == []


# A file of one group, and what we say of it ourselves decides.
FILES = [
    ("budget", "tokens: 50m"),
    ("budget", "tokens: 1.5B"),
    ("budget", "tokens: 5e6"),
    ("budget", "tokens: fifty"),
    ("budget", "tokens: 0"),
    ("budget", "tokens: 1.5"),
    ("budget", "hours: -1"),
    ("budget", "stepps: 3"),
    ("data", "{name: text, path: notes}"),
    ("data", "{name: text, path: [notes, more]}"),
    ("data", "{name: text, path: 3}"),
    ("data", "{name: mixture, sources: {a: {path: x, weight: 2}, b: {path: y, weight: 1.0}}}"),
    ("data", "{name: mixture, sources: {a: {path: x, wieght: 2}}}"),
    ("data", "{stages: [{tokens: 100k, sequence_length: 4}]}"),
    ("data", "{held_out: 0.5}"),
    ("model", "depth: 0"),
    ("model", "depth: two"),
    ("model", "gated: 1"),
    ("model", "activation: swish"),
    ("model", "kv_heads: null"),
    ("model", "depth: null"),
    ("model", '{width: 64, ffn_width: "${.width}"}'),
    ("optim", "lr: 1e-3"),
    ("optim", "lr: fast"),
    ("optim", "schedule: [{shape: warmup, steps: 2}, {shape: constant}, {shape: sqrt, share: 0.2}]"),
    ("optim", "schedule: [{shape: warmup, step: 2}]"),
    ("optim", "schedule: cosin"),
    ("optim", "{schedule: constant, decay: 0.2}"),
    ("optim", "averages: {ema: {half_life: 10m}, last: {latest: 5, every_steps: 100}}"),
    ("optim", "averages: {ema: {halflife: 10m}}"),
    ("optim", "lr_by_role: {embedding: 0.5}"),
    ("optim", "lr_by_role: {embed: 0.5}"),
    ("optim", "batch_warmup: [{size: 2, tokens: 10k}]"),
    ("checkpoint", "at_steps: [10, 20]"),
    ("checkpoint", "at_steps: ten"),
    ("debug", "noise_every: 0"),
    ("model", "dropout: paper"),
    ("model", "dropout: 1"),
    ("launch", "{name: slurm, time: 30}"),
    ("launch", "{environment: {A: b}}"),
    ("launch", "{environment: {A: [b]}}"),
    ("task", "{name: mine, kind: sequence, train: a.jsonl, labels: [true, 2, yes]}"),
    ("task", "{name: mine, kind: guess}"),
    ("engine", "threads: [1]"),
    ("site", "{gco2e_per_kwh: 56, intensity_year: '2023'}"),
]


@pytest.mark.parametrize(("group", "text"), FILES)
def test_a_file_fits_where_we_take_it(group: str, text: str, tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    try:
        compose([f"{group}={file}"])
        taken = True
    except UserError:
        taken = False
    assert (wrong(group, read(text)) == []) == taken


EXPERIMENT = """
defaults:
  - override /model: bert-base
  - override /objective: whole_word
model:
  depth: 2
data: {sequence_length: 128}
seed: 3
"""


@pytest.mark.parametrize(
    ("old", "new", "fits"),
    [
        ("", "", True),
        ("override /model: bert-base", "override /model: one-of-mine", True),
        ("override /model", "override /modle", False),
        ("depth: 2", "dpeth: 2", False),
        ("data:", "dota:", False),
        ("seed: 3", "seed: -3", False),
    ],
)
def test_an_experiment(old: str, new: str, fits: bool) -> None:
    assert (wrong("experiment", read(EXPERIMENT.replace(old, new))) == []) == fits


@pytest.mark.parametrize(
    "text", ["{name: a, tokens: 20m, sizes: 1m, seeds: 1}", "{tokens: [1e6, 2m], sizes: [1m, 3e6]}"]
)
def test_a_ladder(text: str) -> None:
    assert wrong("ladder", read(text)) == []
    assert wrong("ladder", read(re.sub(r"([0-9])m", r"\1q", text))) != []


def test_keys_carry_what_the_help_says() -> None:
    keys = json_schema("budget")["properties"]
    assert keys["tokens"]["description"] == "training tokens, rounded up to whole steps [tokens]"
    depth = json_schema("model")["properties"]["depth"]
    assert depth["default"] == 4 and {"type": "integer", "minimum": 1, "maximum": 10_000} in depth["anyOf"]
    assert any("swish" not in one["enum"] and "silu" in one["enum"] for one in _choices("model", "activation"))
    assert any("llama-mini" in one["enum"] for one in json_schema("model")["$defs"]["defaults"]["items"]["anyOf"][:1])


def _choices(group: str, key: str) -> list[dict[str, Any]]:
    return [one for one in json_schema(group)["properties"][key]["anyOf"] if "enum" in one]


def test_the_command_prints_or_writes_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema", "model"]) == 0
    assert json.loads(capsys.readouterr().out) == json_schema("model")
    assert main(["schema", f"out={tmp_path / 'all.json'}"]) == 0 and capsys.readouterr().out == ""
    assert json.loads((tmp_path / "all.json").read_text()) == json_schema()


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["modle"], "schema: modle: no such group (did you mean 'model'?)"),
        (["model", "data"], "schema: model data: one group at a time"),
        (["out="], "schema: out: the name of a file is missing"),
        (["--json"], "--json: no such option; there is none"),
        (["out=/nowhere/at/all.json"], "/nowhere/at/all.json: No such file or directory"),
    ],
)
def test_what_a_person_got_wrong_is_one_line(words: list[str], line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema", *words]) == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.startswith(f"isoflop: {line}") and said.err.count("\n") == 1


def test_completion_offers_the_groups(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", "--words", "schema", "mod"]) == 0
    assert capsys.readouterr().out.split() == ["model"]
