"""The price of any work, also of work that somebody else did: from what is stated to FLOPs, energy, carbon and money.

Whatever can be derived from the inputs is derived; what two inputs say twice must agree; what nobody said stays
"not stated".
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from trainer.books.figures import Figure, PriceTag, Row, exact, not_stated
from trainer.books.plan import PF_DAY
from trainer.config import SPARSE_PEAKS, MachineConfig, SiteConfig
from trainer.config.machinery import a_currency, a_date, a_dtype
from trainer.errors import UserError, nearest


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
    "gco2e_per_kwh": Input("g/kWh", "grid intensity, location-based", 2.0, 2000.0, True),
    "market_gco2e_per_kwh": Input("g/kWh", "intensity after contracts, market-based", 0.0, 2000.0, True),
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
PRICES = ("price_per_device_hour", "price_per_kwh")
TEXTS: dict[str, Callable[[Any], str]] = {"currency": a_currency, "price_date": a_date, "dtype": a_dtype}
_ATTENTION = ("layers", "heads", "head_size", "sequence_length")


def price(*, machine: MachineConfig | None = None, site: SiteConfig | None = None, **given: float | str) -> PriceTag:
    """Price tag of work described by the numbers in `given` (see `INPUTS`), with defaults from a machine and a site.

    Raises `UserError` with one line for every number that is unknown, out of range or contradicts another.
    """
    values, texts = _read(given)
    if values is None:
        raise UserError("nothing to price; give for example gpu_hours=184320 watts=400 pue=1.1 gco2e_per_kwh=385")
    machine, site = machine or MachineConfig(), site or SiteConfig()
    stated = {name: Figure(value, "stated", f"{name}={value:g}") for name, value in values.items()}
    _defaults(stated, machine, site, texts.get("dtype", "bf16"))
    _refuse_double_counting(values, texts, site)

    unit, date = (texts.get(name) or getattr(site, name) or "" for name in ("currency", "price_date"))
    for name in values.keys() & set(PRICES):
        stated[name] = Figure(values[name], "stated", f"{name}={values[name]:g} ({unit}, {date})")

    def of(name: str) -> Figure:
        return stated.get(name) or not_stated(name)

    flop_per_token = _flop_per_token(of)
    flop = _agree("flop", "flop, or parameters and tokens", of("flop"), flop_per_token * of("tokens"))
    peak = of("peak_flops")
    # Device-hours and wall time, each from whatever says something about it.
    from_rate = of("tokens") / of("tokens_per_second") / 3600
    wall = _agree("hours", "days, hours, or device_hours and devices", of("hours"), of("days") * 24, from_rate)
    from_flop = flop / (peak * of("mfu")) / 3600
    work = "gpu_hours, or gpus and days, or flop, peak_flops and mfu"
    device_hours = _agree("device_hours", work, of("device_hours"), of("devices") * wall, from_flop)
    if wall.value is None:
        wall = device_hours / of("devices")
    rate = of("tokens_per_second") if "tokens_per_second" in values else of("tokens") / (wall * 3600)

    drawn = (of("kwh"), of("total_watts") * wall / 1000, of("watts") * device_hours / 1000)
    device_kwh = _agree("kwh", "kwh, or watts and gpu_hours", *drawn)
    facility = of("facility_kwh") if "facility_kwh" in stated else device_kwh
    if facility.value is not None and "facility_kwh" not in stated:
        if "pue" in stated:
            facility = device_kwh * of("pue")
        else:
            why = f"{device_kwh.source}; without the facility's overhead (pue is not stated)"
            facility = Figure(device_kwh.value, device_kwh.provenance, why, device_kwh.value, None)

    amount = device_hours * of("price_per_device_hour")
    if amount.value is None and "price_per_kwh" in stated:
        amount = facility * of("price_per_kwh")
    utilisation = _utilisation(of, flop, device_hours, flop_per_token, peak)

    rows = [
        Row("flop.total", "FLOPs", "FLOP", flop),
        Row("flop.pf_days", "  in PF-days", "PF-days", flop / exact(PF_DAY)),
        Row("time.hours", "wall time", "h", wall),
        Row("machine.device_hours", "device-hours", "h", device_hours),
        Row("speed.tokens_per_second", "throughput", "tokens/s", rate),
        Row("mfu", "MFU", "%", utilisation),
        Row("energy.device_kwh", "energy of the devices", "kWh", device_kwh),
        Row("energy.kwh", "energy with PUE", "kWh", facility),
        Row("carbon.kgco2e", "carbon", "kg CO2e", facility * of("gco2e_per_kwh") / 1000),
        Row("carbon.market_kgco2e", "carbon, market-based", "kg CO2e", facility * of("market_gco2e_per_kwh") / 1000),
        Row("cost.amount", "money", unit, amount),
    ]
    return PriceTag("price", tuple(rows))


def price_json(tag: PriceTag) -> dict[str, object]:
    """The bare numbers of a price, nested: energy.kwh, carbon.kgco2e, cost.amount, flop.total, flop.pf_days, mfu."""
    whole = tag.to_json()
    shown = {name: whole[name] for name in ("rows", "equivalents")}
    return {**tag.values("planned"), "currency": tag["cost.amount"].unit or None, **shown}


# --- reading -------------------------------------------------------------------------------------------------------


def _read(given: Mapping[str, float | str]) -> tuple[dict[str, float] | None, dict[str, str]]:
    """Numbers and texts by canonical name. All errors at once."""
    numbers: dict[str, float] = {}
    texts: dict[str, str] = {}
    wrong = []
    for name, value in given.items():
        canonical, factor = _canonical(name)
        if canonical in TEXTS:
            try:
                texts[canonical] = TEXTS[canonical](value)
            except ValueError as error:
                wrong.append(f"{name}: {error}")
        elif canonical not in INPUTS:
            wrong.append(f"{name}: price knows no such input{nearest(name, [*INPUTS, *TEXTS, *ALIASES, *OTHER_UNITS])}")
        elif canonical in numbers:
            wrong.append(f"{name}: given twice, also under another name")
        else:
            try:
                numbers[canonical] = _number(canonical, value) if factor == 1 else _scaled(canonical, value, factor)
            except UserError as error:
                wrong.append(f"{name}: {error}")
    if wrong:
        raise UserError("\n".join(wrong))
    return numbers or None, texts


def _canonical(name: str) -> tuple[str, float]:
    """The name of `INPUTS` that a person means, and the factor to its unit."""
    for word in ("gpu", "chip", "accelerator"):
        name = "devices" if name == f"{word}s" else name.replace(f"{word}_hour", "device_hour")
    return OTHER_UNITS.get(name, (name, 1.0))


def _number(name: str, value: float | str) -> float:
    rule = INPUTS[name]
    text = str(value).strip().lower().replace("_", "")
    factor = 1.0
    if name in COUNTS and text and text[-1] in "kmbt":
        factor, text = {"k": 1e3, "m": 1e6, "b": 1e9, "t": 1e12}[text[-1]], text[:-1]
    elif name == "mfu" and text.endswith("%"):
        factor, text = 0.01, text[:-1]
    try:
        number = float(text) * factor
    except ValueError:
        raise UserError(f"{value!r} is not a number") from None
    unit = f" {rule.unit}" if rule.unit else ""
    if not math.isfinite(number):
        raise UserError(f"{value} is not a finite number")
    if name == "gco2e_per_kwh" and not rule.low <= number <= rule.high:
        hint = f"; {value} kg/kWh would be {number * 1000:g}" if 0 < number < rule.low else ""
        raise UserError(f"{value} g/kWh is no grid's intensity (2 to 2000 grams per kWh){hint}")
    above = number >= rule.low if rule.zero else number > rule.low
    if not above or number > rule.high:
        least = "at least" if rule.zero else "more than"
        most = f" and at most {rule.high:g}" if math.isfinite(rule.high) else ""
        raise UserError(f"{value}{unit} is out of range; it must be {least} {rule.low:g}{most}")
    if name == "peak_flops" and number in SPARSE_PEAKS:
        raise UserError(
            f"{number:g} FLOP/s is the sparse (or FP8) peak of {SPARSE_PEAKS[number]}; "
            f"the dense 16-bit peak is half, {number / 2:g}"
        )
    return number


def _scaled(name: str, value: float | str, factor: float) -> float:
    """A number that was given in another unit than `INPUTS` has."""
    try:
        return _number(name, float(str(value).replace("_", "")) * factor)
    except ValueError as error:
        raise error if isinstance(error, UserError) else UserError(f"{value!r} is not a number") from None


def _defaults(stated: dict[str, Figure], machine: MachineConfig, site: SiteConfig, dtype: str) -> None:
    """What the machine and the site state, where the caller did not."""

    def default(name: str, value: float | None, source: str) -> None:
        if value is not None and name not in stated:
            stated[name] = Figure(value, "stated", f"{value:g} {INPUTS[name].unit} ({source})".replace("  ", " "))

    default("peak_flops", machine.peak_flops.get(dtype), f"dense {dtype} peak of {machine.name}")
    if not stated.keys() & {"watts", "total_watts", "kwh", "facility_kwh"}:
        default("watts", machine.power_watts, f"board power of {machine.name}")
    if "facility_kwh" not in stated:
        default("pue", site.pue, site.name)
    default("gco2e_per_kwh", site.gco2e_per_kwh, f"{site.intensity_source} {site.intensity_year}")
    if not stated.keys() & set(PRICES):
        default("price_per_device_hour", site.price_per_device_hour, f"{site.currency}, {site.price_date}")
        default("price_per_kwh", site.price_per_kwh, f"{site.currency}, {site.price_date}")


def _refuse_double_counting(values: Mapping[str, float], texts: Mapping[str, str], site: SiteConfig) -> None:
    wrong = []
    if "facility_kwh" in values and "pue" in values:
        wrong.append("pue: facility_kwh already contains the overhead; give pue with kwh, or facility_kwh alone")
    if values.keys() >= set(PRICES):
        wrong.append("price_per_kwh: a device's rent already pays for its energy; give one of the two prices")
    if "watts" in values and "total_watts" in values:
        wrong.append("total_watts: give the draw of one device (watts) or of all together (total_watts), not both")
    missing = [name for name in ("currency", "price_date") if not (texts.get(name) or getattr(site, name))]
    if missing and (priced := values.keys() & set(PRICES)):
        examples = {"currency": "currency=USD", "price_date": "price_date=2023-05"}
        wrong.append(f"{min(priced)}: a price needs {' and '.join(examples[name] for name in missing)} beside it")
    if some := values.keys() & set(_ATTENTION):
        missing = [name for name in _ATTENTION if name not in some]
        if missing:
            wrong.append(f"{', '.join(missing)}: the attention term 12 L H Q T needs all of {', '.join(_ATTENTION)}")
    if wrong:
        raise UserError("\n".join(wrong))


# --- deriving ------------------------------------------------------------------------------------------------------


def _flop_per_token(of: Callable[[str], Figure]) -> Figure:
    """6 N, or 6 N + 12 L H Q T where the attention is described (Chowdhery et al. 2022, appendix B)."""
    factor = of("flop_per_parameter_token")
    weights = of("parameters") * (factor if factor.value is not None else exact(6.0, "6"))
    term = of("layers") * of("heads") * of("head_size") * of("sequence_length") * 12
    if weights.value is None or term.value is None:
        return weights
    return Figure(weights.value + term.value, "stated", "6 N + 12 L H Q T")


def _utilisation(
    of: Callable[[str], Figure], flop: Figure, device_hours: Figure, flop_per_token: Figure, peak: Figure
) -> Figure:
    """MFU as stated, from the whole work, or from the throughput. Raises where it comes out above 1."""
    if of("mfu").value is not None:
        return of("mfu")
    result = of("tokens_per_second") * flop_per_token / (of("devices") * peak)
    if result.value is None:
        result = flop / (device_hours * 3600 * peak)
    if result.value is not None and result.value > 1:
        raise UserError(
            f"mfu: {result.source} would be {result.value:.0%} of the dense peak; one of these numbers is wrong"
        )
    return result


def _agree(name: str, needs: str, *candidates: Figure) -> Figure:
    """The first candidate that is known. Two that differ by more than 1% contradict each other."""
    known = [figure for figure in candidates if figure.value is not None]
    for other in known[1:]:
        first, second = known[0].value, other.value
        assert first is not None and second is not None
        if abs(first - second) > 0.01 * max(first, second):
            raise UserError(
                f"{name}: {known[0].source} says {first:g}, but {other.source} says {second:g}; leave out one of them"
            )
    return known[0] if known else not_stated(f"needs {needs}")
