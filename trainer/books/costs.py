"""From device energy to facility energy, carbon and money. Each factor is a quantity with its own provenance.

kWh = W h / 1000 x PUE, g CO2e = kWh x intensity (Strubell et al. 2019, section 2; Patterson et al. 2021, section 2.5).
"""

from __future__ import annotations

from dataclasses import replace

from trainer.books.quantity import Quantity, not_stated, stated
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


def carbon_kg(facility: Quantity, gco2e_per_kwh: float | None, source: str) -> Quantity:
    """Emissions of the facility's energy in kg CO2e; `source` says who published the intensity."""
    if gco2e_per_kwh is None:
        return not_stated(source)
    return facility * Quantity(
        gco2e_per_kwh / 1000, "stated", f"{gco2e_per_kwh:g} g/kWh{', ' + source if source else ''}"
    )


def intensity_source(site: SiteConfig) -> str:
    """Who published the site's grid intensity, or what is missing."""
    if site.gco2e_per_kwh is None:
        return "site.gco2e_per_kwh"
    return f"{site.intensity_source} {site.intensity_year}"


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
