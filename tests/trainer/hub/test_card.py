"""The model card of an export, read by huggingface_hub, which knows nothing of this project."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
import yaml

pytest.importorskip("huggingface_hub")
pytest.importorskip("tokenizers")

import huggingface_hub
from tiny import tiny

from trainer.cli.main import main
from trainer.hub import export_run, import_run
from trainer.hub.stated import Stated, is_language

FINISHED = Path(__file__).parents[2] / "golden" / "run_folders" / "golden" / "decoder-finished"  # of 8 steps
DEVICE = {"key": "GPU-0", "component": "gpu", "method": "NVML energy counter", "provenance": "measured"}
LAST = {"tokens": 2048, "loss": 5.009193750015511, "bits_per_byte": 4.062459699166787}


@pytest.fixture
def run(tmp_path):
    """A finished run that took a kilowatt-hour of one GPU, of which nobody says where it stood."""
    folder = tmp_path / "run"
    shutil.copytree(FINISHED, folder)
    common = {"segment": "a", "time": 0}
    first = {"kind": "open", "boot": "b", "rank": 0, "world_size": 1, "attempt": 0, "step": 0, "monotonic": 0.0}
    last = {"kind": "reading", "n": 1, "step": 8, "phase": "train", "monotonic": 10.0, "values": [3.6e6], "last": True}
    lines = [common | first | {"devices": [DEVICE], "values": [0.0]}, common | last]
    (folder / "energy-host.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def state(folder: Path, **groups) -> None:
    config = yaml.safe_load((folder / "config.yaml").read_text())
    for name, keys in groups.items():
        config[name] |= keys
    (folder / "config.yaml").write_text(yaml.safe_dump(config))


def card_of(folder: Path):
    return huggingface_hub.ModelCard.load(folder / "README.md")


def test_what_is_stated_is_read_by_the_hubs_own_library(run, tmp_path):
    grid = {"gco2e_per_kwh": 56.0, "pue": 1.2, "intensity_source": "a report", "intensity_year": 2023}
    state(run, site={"name": "fr-2023"} | grid, machine={"name": "h100-sxm"})
    words = ["license=apache-2.0", "language=en,de", "base_model=owner/one", "datasets=a/b,wikitext"]
    assert main(["export", str(run), f"to={tmp_path / 'out'}", *words]) == 0
    card = card_of(tmp_path / "out")
    assert (card.data.license, card.data.language) == ("apache-2.0", ["en", "de"])
    assert (card.data.base_model, card.data.datasets) == (["owner/one"], ["a/b", "wikitext"])
    assert (card.data.library_name, card.data.pipeline_tag) == ("transformers", "text-generation")
    emissions = card.data.co2_eq_emissions
    assert emissions["emissions"] == pytest.approx(1.2 * 56)  # grams
    assert emissions["source"].startswith("measured") and emissions["training_type"] == "pre-training"
    assert (emissions["geographical_location"], emissions["hardware_used"]) == ("fr-2023", "h100-sxm")
    found = {one.metric_type: one.metric_value for one in card.data.eval_results}
    assert found == {name: LAST[name] for name in ("loss", "bits_per_byte")}
    assert "@software{isoflop" in card.text and "energy of the devices" in card.text
    # What the library makes of it is what the hub would be told.
    assert yaml.safe_load(card.data.to_yaml())["model-index"][0]["results"][0]["dataset"]["split"] == "held_out"


def test_what_is_not_stated_is_left_out(run, tmp_path):
    export_run(run, tmp_path / "out")
    data = yaml.safe_load((tmp_path / "out" / "README.md").read_text().split("---")[1])
    assert data.keys() == {"library_name", "pipeline_tag", "tags", "model-index"}


def test_only_results_of_the_exported_checkpoint_are_its_results(run, tmp_path):
    task = {"task": "choices", "shots": 2, "values": {"accuracy": {"value": 0.75, "standard_error": 0.1}}}
    held_out = {"loss": 1.5, "bits_per_byte": None}
    for step, number in ((8, 2), (4, 2)):
        (run / "evaluation.json").write_text(json.dumps({"step": step, "held_out": held_out, "tasks": [task]}))
        export_run(run, tmp_path / f"out-{step}")
        results = card_of(tmp_path / f"out-{step}").data.eval_results
        found = {(one.dataset_type, one.metric_type): one.metric_value for one in results}
        wanted = {("text", "loss"): 1.5, ("choices", "accuracy"): 0.75}
        during = {("text", name): LAST[name] for name in ("loss", "bits_per_byte")}
        assert found == (wanted if step == 8 else during) and len(results) == number


def test_data_sets_and_languages_that_the_sources_state(run, tmp_path):
    sources = {
        "web": {"path": ["hf://owner/web:en:train@main"], "language": "en"},
        "more": {"path": ["texts/"], "language": "Low German"},
    }
    state(run, data={"name": "mixture", "path": [], "sources": sources})
    export_run(run, tmp_path / "out")
    data = card_of(tmp_path / "out").data
    assert (data.datasets, data.language) == (["owner/web"], ["en"])


def test_an_import_says_from_where_and_costs_nothing(tmp_path):
    came = tmp_path / "models--owner--tiny" / "snapshots" / "0123abcd"
    tiny("gpt2").save_pretrained(came)
    import_run(came, tmp_path / "run")
    export_run(tmp_path / "run", tmp_path / "gone")
    card = card_of(tmp_path / "gone")
    assert card.data.base_model == ["owner/tiny"] and card.data.eval_results is None
    assert not hasattr(card.data, "co2_eq_emissions") and card.data.datasets is None
    assert "not trained since" in card.text and "Price tag" not in card.text


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["licence=mit"], r"licence: no such option \(did you mean 'license'\?\)"),
        (["license=Apache-2"], r"license: 'Apache-2' is none .*\(did you mean 'apache-2.0'\?\)"),
        (["license=mit,isc"], "license: mit, isc given, one wanted"),
        (["license="], "license: nothing given"),
        (["language=english"], "language: 'english' is no language of the hub; a code of ISO 639 wanted"),
        (["language=multilingal"], r"\(did you mean 'multilingual'\?\)"),
        (["base_model=a/b/c"], "base_model: 'a/b/c' is no name on the hub; <owner>/<name> wanted"),
        (["datasets=a b,../c"], r"datasets: 'a b' is no name[^\n]*\n[^\n]*datasets: '\.\./c' is no name"),
    ],
)
def test_what_the_hub_does_not_take_is_refused(words, said, run, tmp_path, capsys):
    assert main(["export", str(run), f"to={tmp_path / 'out'}", *words]) == 2
    assert re.search(said, capsys.readouterr().err)
    assert not (tmp_path / "out").exists()


def test_languages_are_codes():
    taken = ["en", "de", "zh", "yue", "code", "multilingual"]
    assert [one for one in (*taken, "xx", "EN", "e", "germ", "") if is_language(one)] == taken
    assert Stated.of({"language": "[en, de,en]"}).language == ("en", "de")
