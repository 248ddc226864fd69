"""A ledger as if its runs had been elsewhere: at another site, or on another machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from trainer.books import plan
from trainer.books.branch import own_values
from trainer.books.energy import read_energy
from trainer.books.measured import own_intensity
from trainer.books.plan import cost_rows
from trainer.books.quantity import PriceTag, Quantity, measured_quantity, not_stated
from trainer.config import Config, MachineConfig, MeterConfig, SiteConfig
from trainer.run_folder import RunFolder
from trainer.utils.errors import UserError, left_out

COSTS = ("energy", "carbon", "water", "cost")


def at_site(line: dict[str, Any], site: SiteConfig, run: Path) -> dict[str, Any]:
    """The line of a run or of another command with what its energy and its device-hours cost at this site.

    run: the folder of the run, whose readings say when the energy was used, if it is still there.
    """
    old: dict[str, Any] = line.get("measured") or {}
    energy = _figure(old, "energy", "device_kwh")
    config = Config().model_copy(update={"site": site, "meter": _as_metered(old)})
    intensity = own_intensity(site, read_energy(run)) if site.curve is not None else None
    rows = cost_rows(config, energy, _figure(old, "machine", "device_hours"), not_stated(), "measured", intensity)
    fresh = PriceTag("", tuple(rows)).values("measured")
    kept = {
        group: {name: value for name, value in (old.get(group) or {}).items() if _stays(group, name)} for group in COSTS
    }
    figures = {**old, **{group: {**kept[group], **fresh.get(group, {})} for group in COSTS}}
    if (wasted := kept["energy"].get("wasted_kwh")) is not None and site.pue is not None:
        figures["energy"]["wasted_kwh"] = wasted
    return {**line, "measured": figures, "currency": site.currency}


def _as_metered(figures: dict[str, Any]) -> MeterConfig:
    """A meter with the run's factor for what is not metered, which another site does not change."""
    whole, devices = (_figure(figures, "energy", name).value for name in ("whole_kwh", "device_kwh"))
    factor = whole / devices if whole and devices else None
    return MeterConfig().model_copy(update={"unmetered_factor": factor, "unmetered_source": "as of the run"})


def _stays(group: str, name: str) -> bool:
    """Whether a figure does not depend on the site."""
    return name.startswith("embodied") if group == "carbon" else group == "energy" and name != "kwh"


def _figure(figures: dict[str, Any], group: str, name: str) -> Quantity:
    return measured_quantity((figures.get(group) or {}).get(name), f"{group}.{name}")


def on_machine(line: dict[str, Any], machine: MachineConfig, site: SiteConfig | None, run: Path) -> dict[str, Any]:
    """The line with what the same steps are planned to cost on this machine, at this site or at the run's own; without
    figures where the run's configuration is gone, since nobody can know them."""
    steps, planned = line.get("steps") or 0, dict[str, Any]()
    currency = line.get("currency")
    try:
        config = RunFolder(run).load_config() if (run / "config.yaml").is_file() else None
    except UserError as error:
        left_out(str(run), error)
        config = None
    if config is not None and steps:
        site = site or config.site
        engine = config.engine.model_copy(update={"device": "auto"})
        there = config.model_copy(update={"machine": machine, "site": site, "engine": engine})
        planned = own_values(plan(there.ending_after(int(steps))).values("planned"))  # the trunk has a line of its own
        currency = site.currency
    elif not steps:
        planned = {"energy": {"kwh": 0.0}} if line.get("command") is None else {}
    return {**line, "measured": planned, "currency": currency}
