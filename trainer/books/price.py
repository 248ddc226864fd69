"""The price of any work, also of work done elsewhere: from what is stated to FLOPs, energy, carbon and money.

Whatever can be derived from the inputs is derived; what two inputs say twice must agree; what is not given stays
"not stated".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from trainer.books.costs import intensity
from trainer.books.plan import PF_DAY
from trainer.books.price_inputs import INPUTS, read_inputs
from trainer.books.quantity import PriceTag, Quantity, Row, exact, not_stated
from trainer.config import MachineConfig, SiteConfig
from trainer.utils.errors import UserError

PRICES = ("price_per_device_hour", "price_per_kwh")
_ATTENTION = ("layers", "heads", "head_size", "sequence_length")


def price(*, machine: MachineConfig | None = None, site: SiteConfig | None = None, **given: float | str) -> PriceTag:
    """Price tag of the work that `given` describes (see `trainer.books.price_inputs`), with defaults from a machine and
    a site.

    Raises `UserError` with one line for every number that is unknown, out of range or contradicts another.
    """
    values, texts = read_inputs(given)
    if not values:
        raise UserError("nothing to price; give for example gpu_hours=184320 watts=400 pue=1.1 gco2e_per_kwh=385")
    machine, site = machine or MachineConfig(), site or SiteConfig()
    stated = {name: Quantity(value, "stated", f"{name}={value:g}") for name, value in values.items()}
    _defaults(stated, machine, site, texts.get("dtype", "bf16"))
    if "dtype" in texts and "peak_flops" not in stated:
        there = f"there is {', '.join(machine.peak_flops)}" if machine.peak_flops else "name one, or give peak_flops"
        raise UserError(f"dtype: machine={machine.name} states no peak in {texts['dtype']}; {there}")
    _refuse_double_counting(values, texts, site)

    unit, date = (texts.get(name) or getattr(site, name) or "" for name in ("currency", "price_date"))
    for name in values.keys() & set(PRICES):
        stated[name] = Quantity(values[name], "stated", f"{name}={values[name]:g} ({unit}, {date})")

    def of(name: str) -> Quantity:
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
    facility = _facility(of, device_kwh)
    amount = device_hours * of("price_per_device_hour")
    if amount.value is None and "price_per_kwh" in stated:
        amount = facility * of("price_per_kwh")
    carbon = facility * of("gco2e_per_kwh") / 1000
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
        Row("carbon.kgco2e", "carbon", "kg CO2e", carbon),
        Row("carbon.market_kgco2e", "carbon, market-based", "kg CO2e", facility * of("market_gco2e_per_kwh") / 1000),
        *_embodied(of, device_hours, carbon, of("tokens")),
        *_water(of, device_kwh, facility),
        Row("cost.amount", "money", unit, amount),
    ]
    return PriceTag("price", tuple(rows))


def _embodied(of: Callable[[str], Quantity], hours: Quantity, carbon: Quantity, tokens: Quantity) -> list[Row]:
    """The share of manufacture, where one of its two numbers is given, and the software carbon intensity."""
    if of("embodied_kgco2e").value is None and of("lifetime_hours").value is None:
        return []
    embodied = hours * of("embodied_kgco2e") / of("lifetime_hours")
    rows = [Row("carbon.embodied_kgco2e", "carbon of making the devices", "kg CO2e", embodied)]
    if tokens.value is not None:
        sci = (carbon + embodied) / (tokens / 1e9)
        rows.append(Row("carbon.sci_g_per_mtoken", "SCI, per million tokens", "g CO2e", sci))
    return rows


def _water(of: Callable[[str], Quantity], device_kwh: Quantity, facility: Quantity) -> list[Row]:
    """Litres on site, off site and together, where a use of water is given."""
    rates = of("wue_l_per_kwh"), of("water_l_per_kwh")
    if all(rate.value is None for rate in rates):
        return []
    on, off = device_kwh * rates[0], facility * rates[1]
    return [
        Row("water.litres", "water", "l", on + off),
        Row("water.on_site_litres", "  on site", "l", on),
        Row("water.off_site_litres", "  off site", "l", off),
    ]


def price_json(tag: PriceTag) -> dict[str, object]:
    """The bare numbers of a price, nested: energy.kwh, carbon.kgco2e, cost.amount, flop.total, flop.pf_days, mfu."""
    whole = tag.to_json()
    shown = {name: whole[name] for name in ("rows", "equivalents")}
    return {**tag.values("planned"), "currency": tag["cost.amount"].unit or None, **shown}


def _defaults(stated: dict[str, Quantity], machine: MachineConfig, site: SiteConfig, dtype: str) -> None:
    """What the machine and the site state, where the caller did not."""

    def default(name: str, value: float | None, source: str) -> None:
        if value is not None and name not in stated:
            stated[name] = Quantity(value, "stated", f"{value:g} {INPUTS[name].unit} ({source})".replace("  ", " "))

    default("peak_flops", machine.peak_flops.get(dtype), f"dense {dtype} peak of {machine.name}")
    if not stated.keys() & {"watts", "total_watts", "kwh", "facility_kwh"}:
        default("watts", machine.power_watts, f"board power of {machine.name}")
    if "facility_kwh" not in stated:
        default("pue", site.pue, site.name)
    if site.curve is not None and "gco2e_per_kwh" not in stated:
        stated["gco2e_per_kwh"] = intensity(site)
    default("gco2e_per_kwh", site.gco2e_per_kwh, f"{site.intensity_source} {site.intensity_year}")
    default("wue_l_per_kwh", site.wue_l_per_kwh, str(site.water_source))
    default("water_l_per_kwh", site.water_l_per_kwh, str(site.water_source))
    default("embodied_kgco2e", machine.embodied_kgco2e, machine.name)
    default("lifetime_hours", machine.lifetime_hours, machine.name)
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


def _flop_per_token(of: Callable[[str], Quantity]) -> Quantity:
    """6 N, or 6 N + 12 L H Q T where the attention is described (Chowdhery et al. 2022, appendix B)."""
    factor = of("flop_per_parameter_token")
    weights = of("parameters") * (factor if factor.value is not None else exact(6.0, "6"))
    term = of("layers") * of("heads") * of("head_size") * of("sequence_length") * 12
    if weights.value is None or term.value is None:
        return weights
    return Quantity(weights.value + term.value, "stated", "6 N + 12 L H Q T")


def _facility(of: Callable[[str], Quantity], device_kwh: Quantity) -> Quantity:
    """Energy of the facility: as stated, else that of the devices with its overhead. Raises UserError where the
    facility's is the smaller one."""
    stated = of("facility_kwh")
    if stated.value is not None:
        if device_kwh.value is not None and stated.value < device_kwh.value:
            raise UserError(
                f"facility_kwh: {stated.value:g} kWh of the facility are less than its devices' {device_kwh.value:g} "
                f"kWh by {device_kwh.source}"
            )
        return stated
    if device_kwh.value is None:
        return device_kwh
    if of("pue").value is not None:
        return device_kwh * of("pue")
    why = f"{device_kwh.source}; without the facility's overhead (pue is not stated)"
    return Quantity(device_kwh.value, device_kwh.provenance, why, device_kwh.value, None)


def _utilisation(
    of: Callable[[str], Quantity], flop: Quantity, device_hours: Quantity, flop_per_token: Quantity, peak: Quantity
) -> Quantity:
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


def _agree(name: str, needs: str, *candidates: Quantity) -> Quantity:
    """The first candidate that is known. Two that differ by more than 1% contradict each other."""
    known = [quantity for quantity in candidates if quantity.value is not None]
    for other in known[1:]:
        first, second = known[0].value, other.value
        assert first is not None and second is not None
        if abs(first - second) > 0.01 * max(first, second):
            raise UserError(
                f"{name}: {known[0].source} says {first:g}, but {other.source} says {second:g}; leave out one of them"
            )
    return known[0] if known else not_stated(f"needs {needs}")
