"""What `isoflop price` understands: its names, their units and bounds, and how a person may write them."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from trainer.books.plan import PF_DAY
from trainer.config import SPARSE_PEAKS
from trainer.config.pricing import MOST_GRAMS, a_currency, a_date, a_dtype, a_gram, no_intensity
from trainer.utils.errors import UserError, nearest


class Input(NamedTuple):
    """One number that `price` understands."""

    unit: str
    help: str
    low: float = 0.0
    high: float = math.inf
    zero: bool = False  # whether the low end itself is allowed


INPUTS: dict[str, Input] = {
    "devices": Input("", "devices at work; also gpus=, chips="),
    "days": Input("d", "wall time"),
    "hours": Input("h", "wall time"),
    "device_hours": Input("h", "devices x wall time; also gpu_hours=, chip_hours="),
    "watts": Input("W", "average draw of one device"),
    "total_watts": Input("W", "average draw of everything together"),
    "kwh": Input("kWh", "energy of the devices, without the facility's overhead"),
    "facility_kwh": Input("kWh", "energy at the facility's meter; a PUE is then already in it"),
    "pue": Input("", "facility over IT energy", 1.0, 10.0, True),
    "gco2e_per_kwh": Input("g/kWh", "grid intensity, location-based", 0.0, MOST_GRAMS, True),
    "market_gco2e_per_kwh": Input("g/kWh", "intensity after contracts, market-based", 0.0, 2000.0, True),
    "wue_l_per_kwh": Input("l/kWh", "water on site (WUE), a kWh of the devices", 0.0, 100.0, True),
    "water_l_per_kwh": Input("l/kWh", "water off site, a kWh of the facility", 0.0, 1000.0, True),
    "embodied_kgco2e": Input("kg CO2e", "emissions of making one device"),
    "lifetime_hours": Input("h", "hours over which they are spread"),
    "price_per_device_hour": Input("currency/h", "rent of one device; also price_per_gpu_hour=", zero=True),
    "price_per_kwh": Input("currency/kWh", "price of energy", zero=True),
    "flop": Input("FLOP", "operations of the whole work"),
    "parameters": Input("", "N of the rule FLOP = 6 N D"),
    "tokens": Input("tokens", "D of the rule FLOP = 6 N D"),
    "flop_per_parameter_token": Input("", "6 if every token passes all N; 3 for T5's halves"),
    "layers": Input("", "L of PaLM's attention term 12 L H Q T"),
    "heads": Input("", "H of PaLM's attention term"),
    "head_size": Input("", "Q of PaLM's attention term"),
    "sequence_length": Input("tokens", "T of PaLM's attention term"),
    "tokens_per_second": Input("tokens/s", "throughput of all devices together"),
    "peak_flops": Input("FLOP/s", "dense peak of one device"),
    "mfu": Input("", "model FLOPs over the peak, a share from 0 to 1", 0.0, 1.0),
}
ALIASES = ("gpus", "chips", "accelerators", "gpu_hours", "chip_hours", "price_per_gpu_hour", "price_per_chip_hour")
COUNTS = ("devices", "device_hours", "parameters", "tokens", "tokens_per_second")  # also as 70b, 1.5t
# The same amounts in the units of papers.
OTHER_UNITS = {
    "params": ("parameters", 1.0),
    "pf_days": ("flop", PF_DAY),
    "mwh": ("kwh", 1000.0),
    "facility_mwh": ("facility_kwh", 1000.0),
    "kgco2e_per_kwh": ("gco2e_per_kwh", 1000.0),
}
TEXTS: dict[str, Callable[[Any], str]] = {
    **{"currency": a_currency, "price_date": a_date, "dtype": a_dtype},
    "intensity_unit": a_gram,
}
_KNOWN = (*INPUTS, *TEXTS, *ALIASES, *OTHER_UNITS)


def describe_inputs() -> str:
    """Every name with its unit, a line each."""
    lines = [f"  {name:<26}{rule.help}{f' [{rule.unit}]' if rule.unit else ''}" for name, rule in INPUTS.items()]
    lines += [
        f"  {name:<26}{of}{f' in units of {factor:g}' if factor != 1 else ''}"
        for name, (of, factor) in OTHER_UNITS.items()
    ]
    return "\n".join([*lines, f"  {', '.join(TEXTS)}: words, e.g. USD, 2023-05, bf16"]) + "\n"


def read_inputs(given: Mapping[str, float | str]) -> tuple[dict[str, float], dict[str, str]]:
    """Numbers in the units of `INPUTS`, and texts, by canonical name. Raises UserError with all errors at once."""
    numbers: dict[str, float] = {}
    texts: dict[str, str] = {}
    wrong = []
    for name, value in given.items():
        canonical, factor = _canonical(name)
        try:
            if canonical in TEXTS:
                texts[canonical] = TEXTS[canonical](value)
            elif canonical not in INPUTS:
                raise UserError(f"price knows no such input{nearest(name, _KNOWN)}")
            elif canonical in numbers:
                raise UserError("given twice, also under another name")
            else:
                numbers[canonical] = _number(canonical, value, factor, grams_meant="intensity_unit" in given)
        except ValueError as error:
            wrong.append(f"{name}: {error}")
    if wrong:
        raise UserError("\n".join(wrong))
    return numbers, texts


def _canonical(name: str) -> tuple[str, float]:
    """The name of `INPUTS` that a person means, and the factor to its unit."""
    for word in ("gpu", "chip", "accelerator"):
        name = "devices" if name == f"{word}s" else name.replace(f"{word}_hour", "device_hour")
    return OTHER_UNITS.get(name, (name, 1.0))


def _number(name: str, value: float | str, scale: float, *, grams_meant: bool = False) -> float:
    """A number in the unit of `INPUTS`, given as `value` in one that is `scale` of it."""
    rule, text = INPUTS[name], str(value).strip().lower().replace("_", "")
    factor = scale
    if name in COUNTS and text and text[-1] in "kmbt":
        factor, text = scale * {"k": 1e3, "m": 1e6, "b": 1e9, "t": 1e12}[text[-1]], text[:-1]
    elif name == "mfu" and text.endswith("%"):
        factor, text = 0.01, text[:-1]
    try:
        number = float(text) * factor
    except ValueError:
        raise UserError(f"{value!r} is not a number{_bare(text, rule, scale)}") from None
    if not math.isfinite(number):
        raise UserError(f"{value} is not a finite number")
    if name == "gco2e_per_kwh":
        _refuse_intensity(number, grams_meant=grams_meant, given_in_kilograms=scale > 1)
    if name == "peak_flops" and number in SPARSE_PEAKS:
        raise UserError(
            f"{number:g} FLOP/s is the sparse (or FP8) peak of {SPARSE_PEAKS[number]}; "
            f"the dense 16-bit peak is half, {number / 2:g}"
        )
    if number > rule.high or number < rule.low or (number == rule.low and not rule.zero):
        unit = f" {rule.unit}" if rule.unit and scale == 1 else ""
        least = "at least" if rule.zero else "more than"
        most = f" and at most {rule.high:g}" if math.isfinite(rule.high) else ""
        hint = f"; {number:g}% is mfu={number / 100:g}" if name == "mfu" and 1 < number <= 100 else ""
        raise UserError(f"{value}{unit} is out of range; it must be {least} {rule.low:g}{most}{hint}")
    return number


def _refuse_intensity(grams: float, *, grams_meant: bool, given_in_kilograms: bool) -> None:
    """Grams and kilograms are easily taken for each other, and hardly a grid is that clean and none that dirty."""
    wrong = no_intensity(grams, "intensity_unit=g", meant=grams_meant or given_in_kilograms)
    if wrong and given_in_kilograms and 1 <= grams / 1000 <= MOST_GRAMS:
        wrong += f"; in grams that is gco2e_per_kwh={grams / 1000:g}"
    if wrong:
        raise UserError(wrong)


def _bare(text: str, rule: Input, scale: float) -> str:
    """A hint for an amount with its unit, or with commas between thousands."""
    if not re.match(r"[-+.]?\d", text):
        return ""
    if re.fullmatch(r"[-+]?\d+,(\d{1,2}|\d{4,})", text):  # three digits could be thousands
        return f"; decimals are written with a point: {text.replace(',', '.')}"
    if "," in text:
        return "; write it without commas"
    return f"; write it without its unit, in {rule.unit}" if rule.unit and scale == 1 else ""
