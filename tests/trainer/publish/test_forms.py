"""Forms of documentation: the names of their fields, what is known, what nobody stated."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from finished_runs import SITE, trained
from run_folders import make_run, write_lines

from trainer.publish import publish, verify
from trainer.utils.errors import UserError


@pytest.fixture(scope="module")
def facts(published: Path) -> dict[str, Any]:
    return json.loads((published / "published.json").read_text())


def field(facts: dict[str, Any], form: str, name: str) -> dict[str, Any]:
    [one] = [one for one in facts["fields"] if (one["form"], one["field"]) == (form, name)]
    return one


def test_spdx_has_its_own_names(facts: dict[str, Any]) -> None:
    """SPDX 3.0.1, AI: EnergyConsumption and EnergyConsumptionDescription; a quantity is a decimal in text."""
    assert facts["ai_energyConsumption"] == {
        "type": "ai_EnergyConsumption",
        "ai_trainingEnergyConsumption": [
            {
                "type": "ai_EnergyConsumptionDescription",
                "ai_energyQuantity": "1.0",
                "ai_energyUnit": "kilowattHour",
            }
        ],
    }
    assert field(facts, "spdx", "ai_inferenceEnergyConsumption")["value"] is None


def test_the_hub_reads_grams(published: Path, facts: dict[str, Any]) -> None:
    front = yaml.safe_load((published / "hub-metadata.yaml").read_text())["co2_eq_emissions"]
    assert front == facts["co2_eq_emissions"]
    assert front["emissions"] == pytest.approx(400.0) and front["training_type"] == "pre-training"
    assert front["geographical_location"] == "here" and "measured" in front["source"]


def test_the_eus_form_is_in_its_units(facts: dict[str, Any]) -> None:
    energy = field(facts, "eu", "Amount of energy used for training")
    assert (energy["value"], energy["unit"]) == (pytest.approx(1e-3), "MWh")
    assert field(facts, "eu", "Amount of computation used for training")["unit"] == "FLOP"
    assert field(facts, "eu", "Training time, wall clock")["unit"] == "days"


def test_sci_is_energy_times_intensity_over_all_runs(facts: dict[str, Any]) -> None:
    """Four runs of 400 g over the FLOPs that all of them did."""
    score = field(facts, "sci", "SCI, provider, R per FLOP")
    flop = sum(run["flop"] for run in facts["runs"])
    assert score["value"] == pytest.approx(1600.0 / (flop * 1e-18)) and score["source"]
    assert "M is not stated" in score["boundary"] and field(facts, "sci", "SCI, consumer")["value"] is None


def test_every_field_names_form_date_and_boundary_and_gaps_are_listed(facts: dict[str, Any]) -> None:
    for one in facts["fields"]:
        assert one["form_title"] and one["form_date"] and one["boundary"] and one["provenance"]
        assert (one["provenance"] == "not stated") == (one["value"] is None), one
    gaps = [f"{one['form']}: {one['field']}" for one in facts["fields"] if one["value"] is None]
    assert facts["not_stated"] == gaps and "eu: License" in gaps
    assert "eu: Benchmarked amount of computation used for inference" in gaps


def test_the_page_says_all_of_it(published: Path, facts: dict[str, Any]) -> None:
    page = (published / "index.html").read_text()
    assert "Ours &amp; theirs" in page and facts["claim"][:12] in page and "<script" not in page
    missing = [name.partition(": ")[2] for name in facts["not_stated"] if name.partition(": ")[2] not in page]
    assert missing == []


def test_the_cost_tells_of_failed_and_tuning_runs_and_of_what_is_not_counted(published: Path) -> None:
    text = (published / "cost.md").read_text()
    assert "4 runs" in text and "1 final" in text and "2 tuning" in text and "4 kWh" in text
    assert "storage" in text and "networks" in text


def test_the_citation_is_a_citation_file(published: Path, facts: dict[str, Any]) -> None:
    """Required keys of the Citation File Format 1.2.0."""
    data = yaml.safe_load((published / "CITATION.cff").read_text())
    assert data["cff-version"] == "1.2.0" and data["title"] == "Ours & theirs" and data["message"]
    assert [one["name"] for one in data["authors"]] == ["A. One", "B_Two"]
    assert facts["claim"] in data["identifiers"][0]["value"]
    assert r"Ours \& theirs" in (published / "citation.bib").read_text()


def test_what_no_meter_read_is_not_stated_and_never_0(tmp_path: Path) -> None:
    make_run(tmp_path / "runs", name="r1")
    publish(tmp_path / "runs", tmp_path / "paper", {})
    facts = json.loads((tmp_path / "paper" / "published.json").read_text())
    assert facts["ai_energyConsumption"] == {"type": "ai_EnergyConsumption"}
    assert "emissions" not in facts["co2_eq_emissions"] and facts["total"]["kwh"]["value"] is None
    assert {"spdx: ai_trainingEnergyConsumption", "hub: emissions", "sci: E, energy consumed"} <= set(
        facts["not_stated"]
    )


def test_manufacture_and_water_of_all_runs(tmp_path: Path) -> None:
    """Two runs of 1 kWh, of which one states them: 0.2 + 3 l/kWh, and a share of 150 kg over 26,280 hours."""
    stated = SITE | {"wue_l_per_kwh": 0.2, "water_l_per_kwh": 3.0, "water_source": "a report"}
    machine = {"name": "x", "embodied_kgco2e": 150.0, "lifetime_hours": 26280.0}
    trained(tmp_path / "runs", 32, 4, 3.0, name="a", site=stated, machine=machine)
    trained(tmp_path / "runs", 32, 4, 3.1, name="b", seed=1)
    publish(tmp_path / "runs", tmp_path / "paper", {})
    facts = json.loads((tmp_path / "paper" / "published.json").read_text())
    hours = next(run["device_hours"] for run in facts["runs"] if run["run"].endswith("/a"))
    assert facts["total"]["water_l"] == {"value": pytest.approx(3.2), "known": 1, "runs": 2, "unit": "l"}
    assert facts["total"]["embodied_kgco2e"]["value"] == pytest.approx(150.0 * hours / 26280.0)
    assert any("at least 3.2 l (1 of 2 runs say it) of water" in sentence for sentence in facts["cost"])
    embodied = field(facts, "sci", "M, embodied emissions")
    assert embodied["low"] == pytest.approx(150e3 * hours / 26280.0) and embodied["high"] is None
    assert "3.2 l" in (tmp_path / "paper" / "tables" / "runs.tex").read_text()


def test_a_root_where_all_failed_is_published_too(tmp_path: Path) -> None:
    run = trained(tmp_path / "runs", 32, 4, 3.0, name="a", steps=3)
    write_lines(run / "events.jsonl", [{"name": "failed", "time": 2e9, "step": 3, "data": {"status": "failed"}}])
    publish(tmp_path / "runs", tmp_path / "paper", {})
    facts = json.loads((tmp_path / "paper" / "published.json").read_text())
    assert [one["status"] for one in facts["runs"]] == ["failed"] and facts["total"]["kwh"]["value"] == 1.0
    assert "1 run (1 failed)" in " ".join(facts["cost"])
    (tmp_path / "paper").rename(tmp_path / "moved")
    assert verify(tmp_path / "moved").manifest.claim == facts["claim"]
    whole = (tmp_path / "moved" / "cost.md").read_bytes()
    (tmp_path / "moved" / "cost.md").write_bytes(whole[:-9])
    with pytest.raises(UserError, match=rf"cost.md: {len(whole) - 9:,} bytes where {len(whole):,} were"):
        verify(tmp_path / "moved")
