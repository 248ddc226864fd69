"""What `price` derives, what it leaves unsaid, and what it refuses."""

from __future__ import annotations

import pytest
import yaml

from trainer.books import format_price_tag
from trainer.books.price import price, price_json
from trainer.books.price_inputs import INPUTS, OTHER_UNITS
from trainer.cli.main import main
from trainer.config import SPARSE_PEAKS, MachineConfig, SiteConfig
from trainer.utils.errors import UserError


def test_every_way_to_the_same_device_hours():
    ways = [
        {"gpu_hours": 240},
        {"chips": 5, "days": 2},
        {"devices": 5, "hours": 48},
        {"flop": 240 * 3600 * 100e12 * 0.4, "peak_flops": 100e12, "mfu": 0.4},
        {"devices": 5, "tokens": 48 * 3600 * 1000, "tokens_per_second": 1000},
    ]
    for way in ways:
        assert price(**way)["machine.device_hours"].planned.value == pytest.approx(240)


def test_mfu_from_work_done():
    tag = price(gpu_hours=100, flop=0.35 * 100 * 3600 * 312e12, peak_flops="312e12")
    assert tag["mfu"].planned.value == pytest.approx(0.35)


def test_unknown_is_null_and_says_what_is_missing():
    tag = price(gpu_hours=10)
    data = price_json(tag)
    assert data["energy"]["kwh"] is data["carbon"]["kgco2e"] is data["cost"]["amount"] is data["mfu"] is None
    assert "watts" in tag["energy.kwh"].planned.source
    assert "not stated" in format_price_tag(tag)


def test_without_pue_energy_is_a_lower_bound():
    figure = price(kwh=100, gco2e_per_kwh=50)["carbon.kgco2e"].planned
    assert (figure.value, figure.low, figure.high) == (5.0, 5.0, None)
    assert "overhead" in figure.source


def test_json_keys():
    data = price_json(price(gpu_hours=184320, watts=400, pue=1.1, gco2e_per_kwh=385, parameters="7b", tokens="2t"))
    assert data["energy"]["kwh"] == pytest.approx(81100.8)
    assert data["carbon"]["kgco2e"] == pytest.approx(31223.8)
    assert data["flop"]["total"] == pytest.approx(8.4e22)
    assert data["flop"]["pf_days"] == pytest.approx(8.4e22 / 8.64e19)


def test_machine_and_site_fill_in_what_is_not_given():
    machine = MachineConfig(name="card", peak_flops={"bf16": 100e12}, power_watts=300.0)
    site = SiteConfig(name="hall", pue=1.2, gco2e_per_kwh=50.0, intensity_year=2023, intensity_source="grid report")
    tag = price(machine=machine, site=site, gpu_hours=1000)
    assert tag["energy.kwh"].planned.value == pytest.approx(360)
    assert tag["carbon.kgco2e"].planned.value == pytest.approx(18)
    assert "grid report 2023" in tag["carbon.kgco2e"].planned.source
    assert price(machine=machine, site=site, gpu_hours=1000, watts=100)["energy.kwh"].planned.value == pytest.approx(
        120
    )
    metered = price(machine=machine, site=site, facility_kwh=100)  # the site's PUE is not applied twice
    assert metered["energy.kwh"].planned.value == 100


def test_the_units_of_papers():
    """Patterson et al. 2021, table 4, GPT-3: kg per kWh there; MWh, PF-days, suffixes and percent elsewhere."""
    gpt3 = price(chips="10k", days=14.8, watts=330, pue=1.1, kgco2e_per_kwh=0.429)
    assert gpt3["carbon.kgco2e"].planned.value == pytest.approx(552.1e3, rel=0.01)
    assert price(mwh=1287)["energy.device_kwh"].planned.value == 1_287_000
    assert price(pf_days=3640)["flop.total"].planned.value == pytest.approx(3.14e23, rel=0.002)
    assert price(params="175b", tokens="300b")["flop.total"].planned.value == pytest.approx(3.15e23)
    share, percent = (price(flop=1e20, peak_flops=1e14, mfu=mfu) for mfu in (0.4, "40%"))
    assert share["machine.device_hours"] == percent["machine.device_hours"]
    assert (
        price(gpu_hours="2.79m", price_per_gpu_hour=2, currency="USD", price_date="2024-12")[
            "cost.amount"
        ].planned.value
        == 5_580_000
    )


DATED = {"currency": "USD", "price_date": "2023-05"}
WRONG = {
    "PUE below 1": ({"kwh": 1, "pue": 0.5}, "pue: 0.5 is out of range; it must be at least 1"),
    "PUE not a number": ({"kwh": 1, "pue": "nan"}, "pue: nan is not a finite number"),
    "PUE infinite": ({"kwh": 1, "pue": "inf"}, "pue: inf is not a finite number"),
    "PUE text": ({"kwh": 1, "pue": "good"}, "pue: 'good' is not a number"),
    "intensity in kg": ({"kwh": 1, "gco2e_per_kwh": 0.385}, "0.385 kg would be 385"),
    "intensity of nothing on earth": ({"kwh": 1, "gco2e_per_kwh": 385000}, "0 to 2000 grams per kWh"),
    "negative price": ({"gpu_hours": 1, "price_per_gpu_hour": -1, **DATED}, "must be at least 0"),
    "price without currency or date": (
        {"gpu_hours": 1, "price_per_gpu_hour": 2},
        "price_per_device_hour: a price needs currency=USD and price_date=2023-05 beside it",
    ),
    "price without date": ({"gpu_hours": 1, "price_per_gpu_hour": 2, "currency": "USD"}, "needs price_date=2023-05"),
    "price without currency": ({"kwh": 1, "price_per_kwh": 2, "price_date": 2023}, "price_per_kwh: a price needs curr"),
    "no date": ({"kwh": 1, "price_date": "yesterday"}, "price_date: 'yesterday' is no date; write 2026, 2026-11 or"),
    "no currency": ({"kwh": 1, "currency": "12"}, "currency: '12' is no currency; write e.g. USD"),
    "no dtype": ({"kwh": 1, "dtype": "bf15"}, "dtype: 'bf15' is no dtype; there is bf16, fp16, tf32, fp32, fp8 (did"),
    "rent and energy bill": (
        {"gpu_hours": 1, "price_per_gpu_hour": 2, "price_per_kwh": 1, **DATED},
        "rent already pays for its energy",
    ),
    "facility meter and PUE": ({"facility_kwh": 10, "pue": 1.2}, "facility_kwh already contains the overhead"),
    "zero tokens": ({"tokens": 0, "parameters": 10}, "tokens: 0 tokens is out of range"),
    "zero seconds": ({"gpu_hours": 0}, "gpu_hours: 0 h is out of range"),
    "intensity of nothing on earth, in kg": ({"kwh": 1, "kgco2e_per_kwh": 3.0}, "0 to 2000 grams per kWh"),
    "text in another unit": ({"mwh": "many"}, "mwh: 'many' is not a number"),
    "misspelt": ({"gpu_huors": 3}, "did you mean 'gpu_hours'"),
    "twice": ({"gpus": 3, "chips": 3}, "chips: given twice"),
    "sparse peak": ({"gpu_hours": 1, "flop": 1e15, "peak_flops": 1979e12}, "the dense 16-bit peak is half, 9.895e+14"),
    "a unit behind the number": (
        {"watts": "400W", "gpu_hours": 1},
        "'400W' is not a number; write it without its unit",
    ),
    "commas": ({"gpu_hours": "1,000"}, "gpu_hours: '1,000' is not a number; write it without commas"),
    "percent without its sign": ({"flop": 1, "mfu": 40}, "at most 1; 40% is mfu=0.4"),
    "grams called kilograms": ({"kwh": 1, "kgco2e_per_kwh": 385}, "in grams that is gco2e_per_kwh=385"),
    "a facility that gives energy": (
        {"facility_kwh": 5, "kwh": 10},
        "5 kWh of the facility are less than",
    ),
    "contradiction": ({"gpu_hours": 100, "gpus": 8, "hours": 10}, "says 100, but devices=8 x hours=10 says 80"),
    "two draws": ({"gpu_hours": 1, "watts": 1, "total_watts": 2}, "not both"),
    "more than the peak": (
        {"gpu_hours": 1, "flop": 1e18, "peak_flops": 1e14},
        "of the dense peak; one of these numbers is wrong",
    ),
    "half an attention": (
        {"parameters": 1, "tokens": 1, "layers": 2},
        "heads, head_size, sequence_length: the attention term",
    ),
    "nothing": ({}, "nothing to price"),
}


@pytest.mark.parametrize(("given", "message"), WRONG.values(), ids=WRONG)
def test_refused_in_one_line(given, message):
    with pytest.raises(UserError) as caught:
        price(**given)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_all_errors_at_once():
    with pytest.raises(UserError) as caught:
        price(pue=0.5, watts="many", huors=3)
    assert len(str(caught.value).splitlines()) == 3


def test_no_shipped_machine_has_a_sparse_peak(pytestconfig):
    files = list((pytestconfig.rootpath / "conf" / "machine").glob("*.yaml"))
    assert len(files) > 5
    for file in files:
        machine = MachineConfig.model_validate(yaml.safe_load(file.read_text()))
        peaks = dict(machine.peak_flops)
        eight = peaks.pop("fp8", None)
        assert not set(peaks.values()) & set(SPARSE_PEAKS)
        assert eight is None or eight == pytest.approx(2 * peaks["bf16"], rel=0.01)  # dense, as the others
        assert machine.name == file.stem
        assert machine.source or machine.name == "unstated"


def test_shipped_sites_state_a_source_and_no_price(pytestconfig):
    files = list((pytestconfig.rootpath / "conf" / "site").glob("*.yaml"))
    assert len(files) > 5
    for file in files:
        site = SiteConfig.model_validate(yaml.safe_load(file.read_text()))
        assert site.name == file.stem
        assert site.price_per_device_hour is site.price_per_kwh is None
        assert site.gco2e_per_kwh is not None or site.name == "unstated"


def told(capsys, *words):
    """What the verb answers to bad input."""
    assert main(list(words)) == 2
    return capsys.readouterr().err


def test_words_of_the_verb(capsys):
    assert "gpu_hours: given twice, 10 and 20" in told(capsys, "price", "gpu_hours=10", "gpu_hours=20")
    assert "machine_hours: price knows no such input" in told(capsys, "price", "machine_hours=3", "kwh=1")
    assert "=3: write name=number" in told(capsys, "price", "=3")
    words = ("price", "machine=v100-sxm2-32gb", "flop=1e21", "dtype=bf16")
    assert "dtype: machine=v100-sxm2-32gb states no peak in bf16; there is fp16" in told(capsys, *words)
    assert "name one, or give peak_flops" in told(capsys, "price", "flop=1e21", "dtype=bf16")
    assert main(["price", "--help"]) == 0
    shown = capsys.readouterr().out
    assert all(f"  {name} " in shown for name in (*INPUTS, *OTHER_UNITS))
