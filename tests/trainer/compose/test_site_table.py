"""Sites that are rows of a table: they are options like files, and the values are those of their source."""

from __future__ import annotations

import csv

import pytest
import yaml

from trainer.cli.main import main
from trainer.compose import CONF, compose, groups
from trainer.compose.site_table import TABLE, regions


def test_every_row_is_a_site():
    rows = regions()
    assert len(rows) > 200
    files = {file.stem for file in (CONF / "site").glob("*.yaml")}
    assert not files & rows.keys()
    assert files | rows.keys() == {*groups()["site"]}
    for name, (keys, _) in rows.items():
        assert keys["name"] == name and name.endswith(f"-{keys['intensity_year']}")
        assert 0 <= keys["gco2e_per_kwh"] <= 2000 and keys["intensity_source"]


@pytest.mark.parametrize(
    ("name", "grams"),
    # Ember's figures of 2023 for Norway and Austria; Google's of its regions, Montreal being the least of all.
    [("no-2023", 30.1), ("gcp-europe-west1-2023", 122.0), ("gcp-northamerica-northeast1-2023", 2.0)],
)
def test_rows_are_options_like_files(name, grams):
    site = compose([f"site={name}"]).site
    assert (site.name, site.gco2e_per_kwh, site.intensity_year, site.pue) == (name, grams, 2023, None)


def test_a_file_may_choose_one(tmp_path, monkeypatch):
    (tmp_path / "experiment").mkdir()
    file = tmp_path / "experiment" / "north.yaml"
    file.write_text("# @package _global_\ndefaults:\n  - override /site: no-2023\nsite: {pue: 1.1}\n")
    monkeypatch.setenv("ISOFLOP_CONFIG_DIR", str(tmp_path))
    assert compose(["experiment=north"]).site.gco2e_per_kwh == 30.1


def test_the_line_of_a_row_is_its_line():
    lines = TABLE.read_text().splitlines()
    for name, (_, line) in regions().items():
        assert next(csv.reader([lines[line - 1]]))[0] == name


def test_presets_of_one_source_agree_with_the_rule_of_their_names():
    for file in (CONF / "site").glob("??-2023.yaml"):
        keys = yaml.safe_load(file.read_text())
        assert (keys["name"], keys["intensity_year"]) == (file.stem, 2023)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("no-2024", "no-2023"),
        ("norway", "no-2023"),
        ("gcp-europe-west99-2023", "gcp-europe-west9-2023"),
        ("fra-2023", "fr-2023"),
        ("germny-2023", "de-2023"),
        ("de-2024", "de-2023"),
        ("united-states", "us-2023"),
    ],
)
def test_the_nearest_is_named(capsys, name, meant):
    assert main(["plan", f"site={name}"]) == 2
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1 and repr(meant) in error
