"""What the parts of an account make of each other: trunks, sites, factors, windows, running commands."""

from __future__ import annotations

import pytest

from trainer.books import plan
from trainer.books.branch import own_values, with_trunk
from trainer.books.plan import cost_rows, trunks_costs
from trainer.books.quantity import PriceTag, exact, measured_quantity, not_stated
from trainer.compose import compose
from trainer.config import Config
from trainer.report import repricing
from trainer.report.repricing import Elsewhere, at_site, on_machine

SITE = {
    **{"name": "hall", "gco2e_per_kwh": 200.0, "intensity_year": 2023, "intensity_source": "a report", "pue": 1.5},
    **{"wue_l_per_kwh": 1.0, "water_l_per_kwh": 2.0, "water_source": "a report"},
}
METER = {"unmetered_factor": 1.74, "unmetered_source": "a paper"}


def test_a_branch_has_its_own_water_and_its_own_hours():
    config = Config.model_validate({"site": SITE, "meter": METER})
    trunk = {
        "energy.device_kwh": measured_quantity(3.0, ""),
        "machine.device_hours": measured_quantity(1.0, ""),
        "data.tokens": exact(1.0),
    }
    grams = exact(100.0)  # of the branch's hours
    rows = cost_rows(config, measured_quantity(4.0, ""), measured_quantity(2.0, ""), not_stated(), "measured", grams)
    whole = with_trunk(rows, trunk | trunks_costs(config, trunk, "measured", grams), "measured")
    own = own_values(PriceTag("", whole).values("measured"))
    assert own["energy"]["device_kwh"] == pytest.approx(1.0)
    assert own["energy"]["whole_kwh"] == pytest.approx(1.74)
    assert own["energy"]["kwh"] == pytest.approx(1.74 * 1.5)
    assert own["carbon"]["kgco2e"] == pytest.approx(1.74 * 1.5 * 0.1)
    assert own["water"]["litres"] == pytest.approx(1.0 + 2 * 1.74 * 1.5)


def test_another_site_keeps_what_is_not_metered(tmp_path):
    config = Config.model_validate({"meter": METER})
    rows = cost_rows(config, measured_quantity(10.0, ""), measured_quantity(2.0, ""), not_stated(), "measured")
    line = {"run": "a/b", "measured": PriceTag("", tuple(rows)).values("measured")}
    found = at_site(line, Config.model_validate({"site": SITE}).site, tmp_path)["measured"]
    assert found["energy"]["kwh"] == pytest.approx(10 * 1.74 * 1.5)
    assert found["carbon"]["kgco2e"] == pytest.approx(10 * 1.74 * 1.5 * 0.2)


def test_another_machine_takes_a_branch_without_its_trunk(tmp_path, monkeypatch):
    seen = PriceTag("", with_trunk(_flop_row(8.0), {"flop.total": exact(6.0)}, "planned"))
    monkeypatch.setattr(repricing, "plan", lambda config: seen)
    (tmp_path / "config.yaml").write_text(Config().to_yaml())
    found = on_machine({"run": "a/b", "steps": 3}, Elsewhere(machine=compose(["machine=h100-sxm"]).machine), tmp_path)
    assert found["measured"]["flop"]["total"] == 2.0


def _flop_row(amount: float):
    from trainer.books.quantity import Row

    return (Row("flop.total", "model FLOPs", "FLOP", exact(amount)),)


def test_what_does_not_fit_drinks_no_water():
    words = ["model=llama-7b", "machine=a100-sxm-40gb", *(f"site.{name}={value!r}" for name, value in SITE.items())]
    tag = plan(compose(words))
    assert tag.fit and tag.fit["fits"] is False
    assert {row.planned.value for row in tag.rows if row.key.startswith(("water.", "carbon.", "energy."))} == {None}


def test_boards_that_wait_for_a_window_draw_their_idle_power():
    words = ["model=gpt2-124m", "machine=a100-sxm-40gb", "meter.host_idle_watts=100"]
    always, half = plan(compose(words)), plan(compose([*words, "launch.window=12-24"]))
    seconds, paused = half["time.wall"].planned.value, half["time.paused"].planned.value
    assert paused == pytest.approx(seconds)
    more = half["energy.gpu_kwh"].planned.value - always["energy.gpu_kwh"].planned.value
    assert more == pytest.approx(0.15 * 400 * paused / 3.6e6)
    assert half["energy.idle_kwh"].planned.value == pytest.approx(100 * (seconds + paused) / 3.6e6)


def test_half_of_what_manufacture_needs_is_said():
    row = plan(compose(["machine=a100-sxm-40gb", "machine.embodied_kgco2e=150"]))["carbon.embodied_kgco2e"].planned
    assert (row.value, row.source) == (None, "machine.lifetime_hours")
