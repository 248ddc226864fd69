"""From device energy to facility energy, carbon and money. Each factor is a figure with its own provenance.

kWh = W h / 1000 x PUE, g CO2e = kWh x intensity (Strubell et al. 2019, section 2; Patterson et al. 2021, section 2.5).
"""

from __future__ import annotations

from trainer.books.figures import Figure, not_stated, stated
from trainer.config import SiteConfig

JOULES_PER_KWH = 3.6e6
KG_PER_POUND = 0.45359237


def facility_kwh(device_kwh: Figure, site: SiteConfig) -> Figure:
    """Energy with the facility's overhead."""
    return device_kwh * stated(site.pue, f"site.pue of {site.name}")


def carbon_kg(device_kwh: Figure, site: SiteConfig) -> Figure:
    """Emissions by the grid's average intensity, in kg CO2e.

    Without a PUE the facility's overhead is unknown and the result is a lower bound, labelled so.
    """
    if site.gco2e_per_kwh is None:
        return not_stated("site.gco2e_per_kwh")
    source = (
        f"{site.gco2e_per_kwh:g} g/kWh, {site.intensity_source} {site.intensity_year}"
    )
    intensity = Figure(site.gco2e_per_kwh / 1000, "stated", source)
    if site.pue is not None:
        return facility_kwh(device_kwh, site) * intensity
    result = device_kwh * intensity
    if result.value is None:
        return result
    low = result.value if result.low is None else result.low
    return Figure(
        result.value,
        result.provenance,
        f"{result.source}; without facility overhead (site.pue not stated)",
        low,
        None,
    )


def money(device_kwh: Figure, device_hours: Figure, site: SiteConfig) -> Figure:
    """Rent or energy bill, in `site.currency`."""
    if site.price_per_device_hour is not None:
        source = f"{site.price_per_device_hour:g} {site.currency}/device-hour, {site.price_date}"
        return device_hours * Figure(site.price_per_device_hour, "stated", source)
    if site.price_per_kwh is not None:
        source = f"{site.price_per_kwh:g} {site.currency}/kWh, {site.price_date}"
        energy = facility_kwh(device_kwh, site)
        return energy * Figure(site.price_per_kwh, "stated", source)
    return not_stated("site.price_per_device_hour or site.price_per_kwh")
