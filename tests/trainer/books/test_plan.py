"""The plan as a whole: quick, honest about what is not stated, and right about what fits."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap

import pytest
import yaml
from parameter_cases import config as small_config

from trainer.books import (
    PriceTag,
    Quantity,
    format_plans,
    format_price_tag,
    format_quantity,
    measured,
    plan,
    plan_row,
    plans_json,
)
from trainer.books.clock import step_seconds
from trainer.books.fitting import PARTS, fit
from trainer.books.memory import memory
from trainer.books.run_length import run_steps
from trainer.books.wire import wire
from trainer.compose import compose
from trainer.config import Config
from trainer.utils.errors import UserError


@pytest.fixture
def preset(pytestconfig):
    def read(group: str, name: str) -> dict:
        return yaml.safe_load((pytestconfig.rootpath / "conf" / group / f"{name}.yaml").read_text())

    return read


def large(preset, **engine) -> Config:
    return Config.model_validate(
        {
            "model": preset("model", "gpt3-6.7b"),
            "data": {"sequence_length": 2048},
            "optim": {"batch_size": 64},
            "launch": {"processes": 8},
            "machine": preset("machine", "a100-sxm-80gb"),
            "engine": engine,
        }
    )


def test_no_torch_and_no_time_for_the_largest_model(tmp_path, preset):
    """In a process of its own: the plan of GPT-3 175B on 1,024 GPUs imports no torch, hydra or numpy."""
    settings = {
        "model": preset("model", "gpt3-175b"),
        "data": {"sequence_length": 2048},
        "optim": {"batch_size": 1536},
        "budget": {"tokens": 300_000_000_000},
        "launch": {"processes": 1024},
        "engine": {"zero_stage": 3, "micro_batch": 1, "activation_checkpointing": True},
        "machine": preset("machine", "a100-sxm-80gb"),
    }
    code = textwrap.dedent("""
        import json, sys
        from trainer.config import Config
        from trainer.books import plan
        tag = plan(Config.model_validate(json.loads(sys.argv[1])))
        heavy = [name for name in ("torch", "hydra", "numpy", "matplotlib") if name in sys.modules]
        print(json.dumps([heavy, tag.to_json()["planned"]]))
    """)
    command = [sys.executable, "-c", code, json.dumps(settings)]
    heavy, planned = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert heavy == []
    assert planned["model"]["parameters"] == pytest.approx(174.6e9, rel=0.001)
    assert planned["flop"]["six_nd"] == pytest.approx(3.14e23, rel=0.005)  # table D.1 of Brown et al. 2020


def test_unknown_stays_null(monkeypatch, tmp_path):
    monkeypatch.setenv("ISOFLOP_CACHE", str(tmp_path))
    data = plan(Config()).to_json()["planned"]
    for group, leaf in (("time", "wall"), ("energy", "kwh"), ("carbon", "kgco2e"), ("cost", "amount")):
        assert data[group][leaf] is None
    assert data["mfu"] is None
    text = format_price_tag(plan(Config()))
    assert "machine.peak_flops." in text and "site.gco2e_per_kwh" in text


def test_bf16_on_a_card_without_bf16_is_not_stated(preset):
    made = Config.model_validate({"machine": preset("machine", "v100-sxm2-32gb")})
    assert plan(made)["time.wall"].planned.value is None


def test_json_round_trip(preset):
    tag = plan(large(preset))
    assert PriceTag.from_json(json.loads(json.dumps(tag.to_json()))) == tag


def test_missing_link_makes_time_a_lower_bound(preset):
    made = large(preset)
    alone = made.model_copy(update={"machine": made.machine.model_copy(update={"link_bandwidth": None})})
    assert step_seconds(made).high is not None
    bound = step_seconds(alone)
    assert bound.high is None and "link_bandwidth" in bound.source


def test_it_says_what_fits(preset):
    """6.7B on 8 x 80 GB: not whole on every device, but divided."""
    whole = large(preset, zero_stage=0)
    found = fit(whole)
    assert found.fits is False and found.proposal
    assert "does not fit" in found.text and "engine.zero_stage=" in found.text
    fixed = whole.model_copy(update={"engine": whole.engine.model_copy(update=found.proposal)})
    assert fit(fixed).fits
    assert memory(fixed) == found.proposed
    # Cheapest: no other setting that fits without offload is quicker.
    assert not found.proposal.get("offload_optimizer")


@pytest.mark.parametrize("model", ["gpt3-2.7b", "gpt3-6.7b"])
def test_the_proposal_is_words_that_fit(model, preset):
    """Given back to the command line, also where only an offload fits, they fit."""
    words = [f"model={model}", "machine=a100-sxm-40gb", "launch.processes=2", "optim.batch_size=64"]
    found = plan(compose(words)).to_json()["fit"]
    assert found["fits"] is False and found["needed_bytes"] > found["available_bytes"]
    assert found["largest_part"] in PARTS
    after = plan(compose([*words, *found["proposal"]["overrides"]])).to_json()["fit"]
    assert after["fits"] is True and after["proposal"] is None
    assert after["needed_bytes"] == found["proposal"]["bytes"]
    assert plan(Config.model_validate({"machine": {"name": "mine"}})).to_json()["fit"]["fits"] is None


def test_nothing_fits_and_nothing_stated(preset):
    made = large(preset)
    tiny = made.model_copy(update={"machine": made.machine.model_copy(update={"memory_bytes": 10**9})})
    assert fit(tiny).fits is False and fit(tiny).proposal is None and "larger devices" in fit(tiny).text
    assert fit(Config()).fits is None


def test_memory_falls_with_stage_and_micro_batch(preset):
    sizes = [memory(large(preset, zero_stage=stage, micro_batch=1)).total for stage in (0, 1, 3)]
    assert sizes == sorted(sizes, reverse=True)
    rows = [memory(large(preset, zero_stage=3, micro_batch=m)).total for m in (8, 4, 2, 1)]
    assert rows == sorted(rows, reverse=True)
    plain, recomputed = (
        memory(large(preset, zero_stage=3, micro_batch=8, activation_checkpointing=on)).activations
        for on in (False, True)
    )
    assert recomputed < plain


def test_bytes_on_the_wire():
    """Rajbhandari et al. 2020, section 7: stages 0 to 2 move 2 psi, stage 3 moves 3 psi, without accumulation; but what
    DeepSpeed reads again soon enough it does not gather again."""
    psi = None
    volumes = []
    for stage in range(4):
        made = small_config({}, engine={"zero_stage": stage}, launch={"processes": 4}, optim={"batch_size": 4})
        psi = 4 * plan(made)["model.parameters"].planned.value * 3 / 4
        volumes.append(wire(made).total / psi)
    assert volumes == pytest.approx([2, 2, 2, 2])
    soon = {"stage3_max_reuse_distance": 0, "stage3_param_persistence_threshold": 0}
    raw = {"deepspeed": {"zero_optimization": soon}, "zero_stage": 3}
    apart = small_config({"tied": False}, engine=raw, launch={"processes": 4}, optim={"batch_size": 4})
    psi = 4 * plan(apart)["model.parameters"].planned.value * 3 / 4
    assert wire(apart).total == pytest.approx(3 * psi)
    alone = small_config({}, engine={"zero_stage": 2})
    assert wire(alone).total == 0


def test_site_prices(preset):
    site = {"name": "hall", "pue": 1.5, "price_per_device_hour": 2.0, "currency": "USD", "price_date": "2023-05"}
    fitting = large(preset, zero_stage=3, micro_batch=1)
    made = Config.model_validate({**fitting.model_dump(), "site": site})
    tag = plan(made)
    assert tag["cost.amount"].planned.value == pytest.approx(2 * tag["machine.device_hours"].planned.value)
    assert tag["cost.amount"].unit == "USD"
    assert tag["energy.kwh"].planned.value == pytest.approx(1.5 * tag["energy.device_kwh"].planned.value)


def test_measured_needs_a_run(tmp_path):
    with pytest.raises(UserError, match="there is no such file"):
        measured(tmp_path)


def test_several_runs_in_one_table(preset, monkeypatch, tmp_path):
    monkeypatch.setenv("ISOFLOP_CACHE", str(tmp_path))  # without a calibration
    made = large(preset)
    half = made.model_copy(update={"budget": made.budget.model_copy(update={"steps": run_steps(made) // 2})})
    plans = [plan_row("whole", made), plan_row("half", half)]
    lines = format_plans(plans).splitlines()
    assert [line.split()[0] for line in lines[:4]] == ["run", "whole", "half", "total"]
    assert [line.split(":")[0] for line in lines[4:] if ": does not fit" in line] == ["  * whole", "  * half"]
    total = plans_json(plans)["total"]
    assert total["flop.total"]["value"] == 1.5 * plans[0].tag["flop.total"].planned.value
    assert total["carbon.kgco2e"] == {"value": None, "known": 0, "runs": 2}
    assert "carbon" not in lines[0]
    assert "numerics" not in lines[0]
    unstated = [*plans, plan_row("unstated", Config.model_validate({"engine": {"precision": "fp32"}}))]
    assert plans[0].tag["energy.device_kwh"].planned.value is None, "what does not fit has no price"
    assert [row["numerics"] for row in plans_json(unstated)["runs"]] == ["bf16", "bf16", "fp32"]
    assert [line.split()[1] for line in format_plans(unstated).splitlines()[:4]] == ["numerics", "bf16", "bf16", "fp32"]


def test_a_lower_bound_is_told_by_its_low_end() -> None:
    assert format_quantity(Quantity(2.0, "estimated", "watts", 1.0, None), "kWh") == "at least 1 kWh"
    assert format_quantity(Quantity(8.0, "exact") / Quantity(2.0, "estimated", "", 0.0, 4.0), "s") == "at least 2 s"
    assert (Quantity(8.0, "exact") / Quantity(0.0, "exact")).value is None
