"""Published tables, recomputed. To the printed digits, or as noted where a paper rounds its inputs."""

from __future__ import annotations

import pytest

from trainer.books.equivalents import EQUIVALENTS_LB, KG_PER_POUND, equivalents, expected_best, nearest_equivalents
from trainer.books.formatting import format_price_tag
from trainer.books.price import price, price_json

POUND_GRAMS = 0.954 * 453.59237  # g CO2e per kWh, Strubell et al. 2019


def value(key, **given):
    return price(**given)[key].planned.value


def rounds_to(computed: float, printed: float, digit: float = 1.0) -> bool:
    """Whether `printed` is `computed` in its last digit, rounded either way."""
    return abs(computed - printed) <= digit


STRUBELL = [  # name, chips, W, h, kWh, lb, rates $/h, cost
    ("Transformer-base", 8, 1415.78, 12, 27, 26, (0.43, 1.46), (41, 140)),
    ("Transformer-big", 8, 1515.43, 84, 201, 192, (0.43, 1.46), (289, 981)),
    ("ELMo", 3, 517.66, 336, 275, 262, (0.43, 1.46), (433, 1472)),
    ("BERT-base", 64, 12041.51, 79.2, 1507, 1438, (0.74, 2.48), (3751, 12571)),
    ("NAS", 8, 1515.43, 274120, 656347, 626155, (0.43, 1.46), (942973, 3201722)),
]


@pytest.mark.parametrize("row", STRUBELL, ids=lambda row: row[0])
def test_strubell_2019_table_3(row):
    _, chips, watts, hours, kwh, pounds, rates, costs = row
    tag = price(chips=chips, total_watts=watts, hours=hours, pue=1.58, gco2e_per_kwh=POUND_GRAMS)
    assert rounds_to(tag["energy.kwh"].planned.value, kwh)
    assert rounds_to(tag["carbon.kgco2e"].planned.value / KG_PER_POUND, pounds)
    for rate, cost in zip(rates, costs, strict=True):
        billed = value(
            "cost.amount", chips=chips, hours=hours, price_per_gpu_hour=rate, currency="USD", price_date=2019
        )
        assert rounds_to(billed, cost, max(1, 0.01 * cost))  # the rates are implied, to a cent


def test_strubell_2019_gpt2_cost():
    for rate, cost in ((2.40, 12902), (8.00, 43008)):
        assert rounds_to(
            value("cost.amount", chips=32, hours=168, price_per_chip_hour=rate, currency="USD", price_date=2019), cost
        )


def test_strubell_2019_table_1():
    """All eight rows, as printed; the search is about five cars (section 1)."""
    assert list(EQUIVALENTS_LB.values()) == [1984, 11_023, 36_156, 126_000, 39, 78_468, 192, 626_155]
    nas = equivalents(626_155 * KG_PER_POUND)
    assert nas["one car's lifetime, fuel included"] == pytest.approx(4.97, abs=0.01)
    assert nas["training a Transformer (big) with neural architecture search"] == pytest.approx(1)
    assert list(nearest_equivalents(2 * 626_155 * KG_PER_POUND, 1).values()) == pytest.approx([2])


@pytest.mark.parametrize(
    ("kg", "nearest"),
    [
        (
            31_220,
            "0.88 x training an NLP pipeline with tuning and experimentation or 0.55 x one car's lifetime",
        ),  # Llama 2 7B
        (0.02, "0.0011 x training an NLP pipeline (parsing, SRL) or"),
        (900, "1 x one passenger's flight New York - San Francisco and back or"),
    ],
)
def test_the_nearest_are_printed_and_all_are_in_json(kg, nearest):
    tag = price(facility_kwh=kg, gco2e_per_kwh=1000)
    line = format_price_tag(tag).splitlines()[-1]
    assert nearest in line
    assert line.startswith("  * as much carbon as") and line.endswith("(Strubell et al. 2019, table 1)")
    assert price_json(tag)["equivalents"] == {"source": "Strubell et al. 2019, table 1", "times": equivalents(kg)}


def test_a_lower_bound_is_no_equal():
    assert "  * at least as much carbon as" in format_price_tag(price(kwh=10, gco2e_per_kwh=57))
    assert "as much" not in format_price_tag(price(kwh=10))
    assert "as much" not in format_price_tag(
        price(facility_kwh=1e-3, gco2e_per_kwh=57)
    )  # less than a thousandth of any


PATTERSON = [  # name, chips, days, W, PUE, kg/kWh, MWh, t
    ("Evolved Transformer NAS", 200, 6.8, 208, 1.10, 0.431, 7.5, 3.2),
    ("T5-11B", 512, 20, 310, 1.12, 0.545, 85.7, 46.7),
    ("Switch, gross", 1024, 27, 245, 1.10, 0.403, 179, 72.2),
    ("Switch, net", 1024, 27, 245, 1.10, 0.330, 179, 59.1),
    ("GPT-3", 10000, 14.8, 330, 1.10, 0.429, 1287, 552.1),
]


@pytest.mark.parametrize("row", PATTERSON, ids=lambda row: row[0])
def test_patterson_2021_table_4(row):
    _, chips, days, watts, pue, kg, mwh, tonnes = row
    tag = price(chips=chips, days=days, watts=watts, pue=pue, gco2e_per_kwh=1000 * kg)
    assert tag["energy.kwh"].planned.value / 1000 == pytest.approx(mwh, rel=0.01)
    assert tag["carbon.kgco2e"].planned.value / 1000 == pytest.approx(tonnes, rel=0.01)


def test_patterson_2021_net_is_market_based():
    tag = price(chips=1024, days=27, watts=245, pue=1.1, gco2e_per_kwh=403, market_gco2e_per_kwh=330)
    assert tag["carbon.kgco2e"].planned.value / 1000 == pytest.approx(72.2, rel=0.01)
    assert tag["carbon.market_kgco2e"].planned.value / 1000 == pytest.approx(59.1, rel=0.01)


LLAMA = [
    ("OPT-175B", 809472, 356, 137),
    ("BLOOM-175B", 1082880, 475, 183),
    ("7B", 82432, 36, 14),
    ("65B", 1022362, 449, 173),
]


@pytest.mark.parametrize("row", LLAMA, ids=lambda row: row[0])
def test_llama_2023_table_15(row):
    _, hours, mwh, tonnes = row
    tag = price(gpu_hours=hours, watts=400, pue=1.1, gco2e_per_kwh=385)
    assert rounds_to(tag["energy.kwh"].planned.value / 1000, mwh, 1.5 if "BLOOM" in row[0] else 1)
    assert rounds_to(tag["carbon.kgco2e"].planned.value / 1000, tonnes)


@pytest.mark.parametrize(("hours", "tonnes"), [(184320, 31.22), (1720320, 291.42)], ids=["7B", "70B"])
def test_llama_2_card(hours, tonnes):
    kilograms = value("carbon.kgco2e", gpu_hours=hours, watts=400, pue=1.1, gco2e_per_kwh=385)
    assert rounds_to(kilograms / 1000, tonnes, 0.01)


def test_llama_3_1_card_ratio():
    """8B: 1.46M H100-hours and 420 t; 70B: 7.0M and 2,040 t. The intensity is not printed, the ratio is."""
    small, large = (value("carbon.kgco2e", gpu_hours=h, watts=700, gco2e_per_kwh=380) for h in (1.46e6, 7.0e6))
    assert large / small == pytest.approx(2040 / 420, rel=0.02)


def test_bloom_2022():
    final = value("carbon.kgco2e", facility_kwh=433196, gco2e_per_kwh=57) / 1000
    assert final == pytest.approx(24.69, abs=0.01)
    assert final + 14.6 + 11.2 == pytest.approx(50.5, abs=0.05)


GPT3 = [  # name, N, D, factor, FLOP
    ("T5-small", "60m", "1t", 3, 1.80e20),
    ("T5-11B", "11b", "1t", 3, 3.30e22),
    ("BERT-base", "109m", "250b", 6, 1.64e20),
    ("RoBERTa-base", "125m", "2t", 6, 1.50e21),
    ("GPT-3 125M", "125m", "300b", 6, 2.25e20),
    ("GPT-3 760M", "760m", "300b", 6, 1.37e21),
    ("GPT-3 1.3B", "1320m", "300b", 6, 2.38e21),
    ("GPT-3 13B", "12850m", "300b", 6, 2.31e22),
    ("GPT-3 175B", "174600m", "300b", 6, 3.14e23),
]


@pytest.mark.parametrize("row", GPT3, ids=lambda row: row[0])
def test_gpt3_table_d1(row):
    _, parameters, tokens, factor, flop = row
    computed = value("flop.total", parameters=parameters, tokens=tokens, flop_per_parameter_token=factor)
    assert computed == pytest.approx(flop, rel=0.005)


def test_gpt3_pf_days():
    assert value("flop.pf_days", parameters="174600m", tokens="300b") == pytest.approx(3640, abs=5)


CHINCHILLA = [
    ("400m", "8.0b", 1.92e19),
    ("1b", "20.2b", 1.21e20),
    ("175b", "3.7t", 3.85e24),
    ("520b", "11.0t", 3.43e25),
    ("1t", "21.2t", 1.27e26),
]


@pytest.mark.parametrize(("parameters", "tokens", "flop"), CHINCHILLA)
def test_chinchilla_table_3(parameters, tokens, flop):
    assert value("flop.total", parameters=parameters, tokens=tokens) == pytest.approx(flop, rel=0.01)


def test_palm_mfu():
    palm = {"tokens_per_second": 238.3e3, "parameters": 540.35e9, "chips": 6144, "peak_flops": 275e12}
    assert value("mfu", **palm) == pytest.approx(0.457, abs=0.0005)
    attention = {"layers": 118, "heads": 48, "head_size": 256, "sequence_length": 2048}
    assert value("mfu", **palm, **attention) == pytest.approx(0.462, abs=0.0005)


@pytest.mark.parametrize(
    ("method", "expected"), [("biased", (3, 3.8, 4.2, 4.434, 4.584)), ("unbiased", (3, 4, 4.5, 4.8, 5))]
)
def test_dodge_2019(method, expected):
    computed = [expected_best([2, 5, 1, 4, 3], n, method) for n in range(1, 6)]
    assert computed == pytest.approx(expected, abs=0.0005)
