"""Machines and sites that cannot be: refused in one clear line. What comes in through `price` is in test_price.py."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from trainer.config import MachineConfig, MeterConfig, SiteConfig

GRID = {"intensity_year": 2023, "intensity_source": "a grid report"}
DATED = {"currency": "USD", "price_date": "2026-11"}

SITES = {
    "PUE below 1": ({"pue": 0.5}, "greater than or equal to 1"),
    "PUE not a number": ({"pue": float("nan")}, "finite number"),
    "PUE infinite": ({"pue": float("inf")}, "finite number|less than or equal"),
    "PUE text": ({"pue": "good"}, "valid number"),
    "intensity in kg": ({"gco2e_per_kwh": 0.056, **GRID}, "0.056 kg would be 56"),
    "intensity of nothing on earth": ({"gco2e_per_kwh": 56000.0, **GRID}, "0 to 2000 grams per kWh"),
    "intensity without source": ({"gco2e_per_kwh": 56.0, "intensity_year": 2023}, "site.intensity_source"),
    "intensity without year": ({"gco2e_per_kwh": 56.0, "intensity_source": "x"}, "site.intensity_year"),
    "negative price": ({"price_per_device_hour": -1.0, **DATED}, "greater than or equal to 0"),
    "price without currency": ({"price_per_kwh": 0.2, "price_date": "2026"}, "site.currency"),
    "price without date": ({"price_per_kwh": 0.2, "currency": "EUR"}, "site.price_date"),
    "no date": ({"price_per_kwh": 0.2, "currency": "EUR", "price_date": "May"}, "'May' is no date; write 2026"),
    "no currency": ({"price_per_kwh": 0.2, "currency": "0.2", "price_date": "2026"}, "'0.2' is no currency"),
    "rent and energy bill": (
        {"price_per_kwh": 0.2, "price_per_device_hour": 2.0, **DATED},
        "already pays for its energy",
    ),
}


@pytest.mark.parametrize(("given", "message"), SITES.values(), ids=SITES)
def test_sites_that_cannot_be(given, message):
    with pytest.raises(ValidationError, match=message) as caught:
        SiteConfig(**given)
    assert caught.value.error_count() == 1


@pytest.mark.parametrize("date", [2026, "2026", "2026-11", "2026-11-24"])
def test_a_year_alone_is_a_date(date):
    assert SiteConfig(price_per_kwh=0.2, currency="EUR", price_date=date).price_date == str(date)


MACHINES = {
    "sparse peak": ({"peak_flops": {"bf16": 1979e12}}, "sparse .or FP8. peak of H100 and H200; dense is 9.895e"),
    "A100 with sparsity": ({"peak_flops": {"fp16": 624e12}}, "peak of A100; dense is 3.12e"),
    "unknown dtype": ({"peak_flops": {"bf15": 1e12}}, "did you mean 'bf16'"),
    "peak of zero": ({"peak_flops": {"bf16": 0.0}}, "not a positive number"),
    "infinite peak": ({"peak_flops": {"bf16": float("inf")}}, "finite number"),
    "no power": ({"power_watts": 0.0}, "greater than 0"),
    "power not a number": ({"power_watts": float("nan")}, "finite number|greater than 0"),
}


@pytest.mark.parametrize(("given", "message"), MACHINES.values(), ids=MACHINES)
def test_machines_that_cannot_be(given, message):
    with pytest.raises(ValidationError, match=message):
        MachineConfig(**given)


def test_fp8_peak_is_its_own_dtype():
    assert MachineConfig(peak_flops={"fp8": 1979e12, "bf16": 989e12}).peak_flops["bf16"] == 989e12


def test_meter_with_its_interval_upside_down():
    with pytest.raises(ValidationError, match="more than thread_watts_high"):
        MeterConfig(thread_watts_low=5.0, thread_watts_high=2.0)
    with pytest.raises(ValidationError, match="less than or equal to 60"):  # RAPL wraps
        MeterConfig(every_seconds=600.0)


def test_unknown_country_names_the_nearest():
    from trainer.compose import compose
    from trainer.utils.errors import UserError

    with pytest.raises(UserError, match=r"site=fra-2023: no such option \(did you mean 'fr-2023'\?\)"):
        compose(["site=fra-2023"])
