"""From device energy to facility energy, carbon and money. Each factor is a quantity with its own provenance.

kWh = W h / 1000 x PUE, g CO2e = kWh x intensity (Strubell et al. 2019, section 2; Patterson et al. 2021, section 2.5).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from trainer.books.curve import BUCKET, Curve, curve_of, stamp
from trainer.books.quantity import Quantity, estimated, exact, not_stated, stated
from trainer.config import MeterConfig, SiteConfig

JOULES_PER_KWH = 3.6e6


def with_unmetered(device_kwh: Quantity, meter: MeterConfig) -> Quantity:
    """Energy with that of what no meter reads and no plan counts (hosts, fans, switches, storage), by a stated factor,
    as 1.74 over GPUs alone (Morrison, Smith and Strubell 2026, arXiv 2605.01158); without one as it is."""
    if meter.unmetered_factor is None:
        return device_kwh
    return device_kwh * stated(meter.unmetered_factor, f"{meter.unmetered_factor:g} ({meter.unmetered_source})")


def facility_kwh(device_kwh: Quantity, site: SiteConfig) -> Quantity:
    """Energy with the facility's overhead. Without a PUE that is unknown: a lower bound, labelled so."""
    if site.pue is not None:
        return device_kwh * stated(site.pue, f"PUE {site.pue:g}")
    return _lower_bound(device_kwh, "without the facility's overhead (site.pue is not stated)")


def planned_facility_kwh(device_kwh: Quantity, site: SiteConfig) -> Quantity:
    """The same of a plan, whose devices' energy is no lower bound: without a PUE that of the devices, and said so."""
    if site.pue is not None or device_kwh.value is None:
        return facility_kwh(device_kwh, site)
    why = "without the facility's overhead (site.pue is not stated)"
    return replace(device_kwh, source=f"{device_kwh.source}; {why}")


def intensity(site: SiteConfig) -> Quantity:
    """g CO2e per kWh of the site's grid, who published it, and of which year; of a curve its mean over time, from its
    cleanest hour to its dirtiest, since nobody knows yet when energy is used. Raises UserError as `read_curve`."""
    curve = curve_of(site)
    if curve is not None:
        source = f"{curve.text}; mean of all its hours, least to most"
        return estimated(curve.mean, source, min(curve.grams), max(curve.grams))
    if site.gco2e_per_kwh is None:
        return not_stated("site.gco2e_per_kwh")
    return stated_intensity(site.gco2e_per_kwh, f"{site.intensity_source} {site.intensity_year}")


def stated_intensity(grams: float, source: str) -> Quantity:
    return Quantity(grams, "stated", f"{grams:g} g/kWh, {source}")


def intensity_over(curve: Curve, joules: Mapping[int, float]) -> Quantity:
    """g CO2e per kWh over the hours in which energy was used: joules by bucket of time, see `Curve.weighted`."""
    grams = curve.weighted(joules)
    if grams is None:
        used = [bucket * BUCKET for bucket, amount in joules.items() if amount > 0]
        when = f"from {stamp(min(used))} to {stamp(max(used) + BUCKET)}" if used else "at times that no reading tells"
        return not_stated(f"energy was used {when}; site.curve: {curve.text}")
    return Quantity(grams, "stated", f"{grams:g} g/kWh over the run's own hours, {curve.text}")


def carbon_kg(facility: Quantity, grams_per_kwh: Quantity) -> Quantity:
    """Emissions of the facility's energy in kg CO2e."""
    if grams_per_kwh.value is None:
        return not_stated(grams_per_kwh.source)
    return facility * (grams_per_kwh / exact(1000.0))


def water_l(device_kwh: Quantity, facility: Quantity, site: SiteConfig) -> list[tuple[str, str, Quantity]]:
    """Litres of water, on site (WUE x energy of the devices), off site (x energy of the facility) and together, as key,
    name and quantity; nothing where the site states no use of water (Li et al. 2023, section 2)."""
    if site.wue_l_per_kwh is None and site.water_l_per_kwh is None:
        return []

    def litres(energy: Quantity, rate: float | None, key: str) -> Quantity:
        if rate is None:
            return not_stated(key)
        return energy * Quantity(rate, "stated", f"{rate:g} l/kWh, {site.water_source}")

    on = litres(device_kwh, site.wue_l_per_kwh, "site.wue_l_per_kwh")
    off = litres(facility, site.water_l_per_kwh, "site.water_l_per_kwh")
    rows = [("water.on_site_litres", "  on site", on), ("water.off_site_litres", "  off site", off)]
    return [("water.litres", "water", on + off), *rows]


def _lower_bound(quantity: Quantity, why: str) -> Quantity:
    if quantity.value is None:
        return quantity
    low = quantity.value if quantity.low is None else quantity.low
    source = f"{quantity.source}; {why}" if quantity.source else why
    return Quantity(quantity.value, quantity.provenance, source, low, None)


def money(facility: Quantity, device_hours: Quantity, site: SiteConfig) -> Quantity:
    """Rent of the devices or the energy bill, in `site.currency`."""
    if site.price_per_device_hour is not None:
        source = f"{site.price_per_device_hour:g} {site.currency}/device-hour, {site.price_date}"
        return device_hours * Quantity(site.price_per_device_hour, "stated", source)
    if site.price_per_kwh is not None:
        source = f"{site.price_per_kwh:g} {site.currency}/kWh, {site.price_date}"
        return facility * Quantity(site.price_per_kwh, "stated", source)
    return not_stated("site.price_per_device_hour or site.price_per_kwh")
