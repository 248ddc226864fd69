"""A ledger as if its runs had been elsewhere: at another site, or on another machine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from trainer.books import plan
from trainer.books.branch import own_values
from trainer.books.energy import read_energy
from trainer.books.measured import own_intensity
from trainer.books.plan import cost_rows
from trainer.books.quantity import PriceTag, Quantity, measured_quantity, not_stated
from trainer.config import Config, MachineConfig, MeterConfig, SiteConfig
from trainer.run_folder import RunFolder
from trainer.utils.errors import UserError, left_out

Of = TypeVar("Of", SiteConfig, MachineConfig)


@dataclass(frozen=True)
class Elsewhere:
    """Where a ledger is priced in place of where its runs were; null: as they were. Keys without a site or a machine
    change each run's own."""

    site: SiteConfig | None = None
    machine: MachineConfig | None = None
    site_keys: Mapping[str, Any] = field(default_factory=dict)
    machine_keys: Mapping[str, Any] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """What was said, for a heading."""
        said = [("site", self.site), ("machine", self.machine)]
        whole = [f"{name}={one.name}" for name, one in said if one is not None]
        keys = [("site", self.site_keys), ("machine", self.machine_keys)]
        own = [f"{group}.{name}={value} at its own {group}" for group, some in keys for name, value in some.items()]
        return f"priced with {', '.join([*whole, *own])}" if whole or own else ""

    def site_of(self, own: SiteConfig) -> SiteConfig:
        """Where something that was at its `own` site is priced."""
        return self.site or _changed(own, self.site_keys)

    def machine_of(self, own: MachineConfig) -> MachineConfig:
        return self.machine or _changed(own, self.machine_keys)

    @property
    def on_another(self) -> bool:
        """Whether steps are planned on another machine, in place of what was measured."""
        return self.machine is not None or bool(self.machine_keys)

    def line(self, line: dict[str, Any], root: Path) -> dict[str, Any]:
        """The line of a run, priced there."""
        run = root / str(line.get("run"))
        if self.on_another:
            return on_machine(line, self, run)
        if self.site is None and not self.site_keys:
            return line
        own = None if self.site else own_config(run)
        return at_site(line, self.site_of(own.site if own else SiteConfig()), run)


def _changed(own: Of, keys: Mapping[str, Any]) -> Of:
    """A site or a machine with other values of some keys. Raises UserError where they do not fit together."""
    if not keys:
        return own
    try:
        return type(own).model_validate(own.model_dump() | dict(keys))
    except ValidationError as error:
        raise UserError(f"{own.name}: {error.errors()[0]['msg'].removeprefix('Value error, ')}") from None


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


def on_machine(line: dict[str, Any], there: Elsewhere, run: Path) -> dict[str, Any]:
    """The line with what the same steps are planned to cost on another machine, at another site or at the run's own;
    without figures where the run's configuration is gone, since nobody can know them."""
    steps, planned = line.get("steps") or 0, dict[str, Any]()
    currency = line.get("currency")
    config = own_config(run)
    if config is not None and steps:
        engine = config.engine.model_copy(update={"device": "auto"})
        place = {"machine": there.machine_of(config.machine), "site": there.site_of(config.site), "engine": engine}
        moved = config.model_copy(update=place)
        planned = own_values(plan(moved.ending_after(int(steps))).values("planned"))  # the trunk has a line of its own
        currency = moved.site.currency
    elif not steps:
        planned = {"energy": {"kwh": 0.0}} if line.get("command") is None else {}
    return {**line, "measured": planned, "currency": currency}


def own_config(run: Path) -> Config | None:
    """The configuration of a run whose folder is there and can be read."""
    try:
        return RunFolder(run).load_config() if (run / "config.yaml").is_file() else None
    except UserError as error:
        left_out(str(run), error)
        return None
