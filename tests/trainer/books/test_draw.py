"""Planned energy by component: a board's limit bounds it from above, and what runs printed lies inside."""

from __future__ import annotations

import pytest

from trainer.books import plan
from trainer.books.draw import draw
from trainer.compose import compose
from trainer.config import Config
from trainer.utils.errors import UserError

# Watts that a run drew and its board's limit, with a share of the peak that such runs reach: Llama 2 34B, StarCoder and
# OLMo 2, as their papers print them.
DRAWN = {"llama-2-34b": (350, 400, 0.45), "starcoder": (280, 400, 0.35), "olmo-2": (600, 700, 0.38)}
BOARD = {"name": "board", "peak_flops": {"bf16": 1e14, "fp32": 1e13}, "memory_bandwidth": 1e12, "power_watts": 500.0}


@pytest.mark.parametrize("name", DRAWN)
def test_what_runs_drew_lies_between_the_least_and_the_limit(name):
    watts, limit, used = DRAWN[name]
    likely, least = draw(used)
    assert least <= watts / limit <= 1
    assert watts / limit == pytest.approx(likely, abs=0.15)


def test_draw_grows_with_utilisation_and_keeps_its_ends():
    shares = [draw(used / 100)[0] for used in range(101)]
    assert shares == sorted(shares) and shares[0] == 0.15 and shares[-1] == 0.85


def rows(**groups):
    return {row.key: row for row in plan(Config.model_validate({"machine": BOARD, **groups})).rows}


def test_board_power_is_an_upper_bound_and_is_named_so():
    found = rows()
    gpu, seconds = found["energy.gpu_kwh"].planned, found["time.wall"].planned
    assert gpu.provenance == "estimated" and "at most 500 W board power" in gpu.source
    assert gpu.low < gpu.value < gpu.high == pytest.approx(seconds.bounds[1] * 500 / 3.6e6)
    for key in ("energy.device_kwh", "energy.kwh"):  # no lower bound, with and without a PUE
        assert found[key].planned.high is not None and found[key].planned.low < found[key].planned.value


def test_components_of_the_plan_are_those_of_the_meter_and_add_up():
    found = rows(meter={"memory_watts": 30.0, "host_idle_watts": 100.0})
    parts = [found[f"energy.{name}_kwh"].planned for name in ("gpu", "cpu", "dram", "idle")]
    assert found["energy.device_kwh"].planned.value == pytest.approx(sum(part.value for part in parts))
    assert [part.provenance for part in parts] == ["estimated"] * 4
    assert "marginal" in parts[1].source
    assert "energy.dram_kwh" not in rows()  # not stated


def test_a_factor_for_what_is_not_metered_is_stated_with_its_source():
    plain = rows()["energy.kwh"].planned
    found = rows(meter={"unmetered_factor": 1.74, "unmetered_source": "Morrison et al. 2026"})
    assert found["energy.kwh"].planned.value == pytest.approx(1.74 * plain.value)
    assert "1.74 (Morrison et al. 2026)" in found["energy.whole_kwh"].planned.source
    with pytest.raises(ValueError, match=r"needs meter\.unmetered_source"):
        Config.model_validate({"meter": {"unmetered_factor": 1.74}})
    with pytest.raises(ValueError, match="unmetered_factor"):
        Config.model_validate({"meter": {"unmetered_factor": 0.9, "unmetered_source": "x"}})


def test_a_gpus_datasheet_is_not_used_on_processors():
    with pytest.raises(UserError, match=r"engine.device: cpu given, and machine=h100-sxm is a GPU"):
        compose(["machine=h100-sxm", "engine.device=cpu"])
