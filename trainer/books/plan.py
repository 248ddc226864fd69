"""The price tag before the run."""

from __future__ import annotations

from trainer.books.costs import carbon_kg, facility_kwh, intensity_source, money
from trainer.books.figures import Figure, PriceTag, Row, estimated, exact, not_stated
from trainer.books.flops import flops
from trainer.books.layout import world_size
from trainer.books.memory import memory
from trainer.books.parameters import parameters
from trainer.config import Config

PF_DAY = 8.64e19  # FLOP: 1e15 FLOP/s for one day (Brown et al. 2020, appendix D)
UTILISATION = (
    0.2,
    0.4,
    0.55,
)  # low, middle, high share of the dense peak that published runs reach


def plan(config: Config) -> PriceTag:
    """What `config` will cost: exact counts, estimates with their assumptions, and what nobody stated."""
    account, weights, ranks = flops(config), parameters(config), world_size(config)
    tokens = config.tokens_per_step * config.steps
    seconds = run_seconds(config)
    hours = seconds * exact(ranks / 3600)
    energy = device_energy(config, seconds)
    rate = exact(tokens, "") / seconds
    used = memory(config)
    peak = config.machine.peak_flops.get(config.engine.precision)
    mfu = (
        exact(account.total) / seconds / exact(peak * ranks)
        if peak
        else not_stated(f"machine.peak_flops.{config.engine.precision}")
    )

    rows = [
        Row("model.parameters", "parameters", "", exact(weights.total)),
        Row(
            "model.non_embedding",
            "  without embeddings",
            "",
            exact(weights.non_embedding),
        ),
        Row("data.tokens", "training tokens", "tokens", exact(tokens)),
        Row("data.steps", "optimizer steps", "steps", exact(config.steps)),
        Row("flop.per_token", "FLOPs per token", "FLOP", exact(account.per_token)),
        Row(
            "flop.total",
            "model FLOPs",
            "FLOP",
            exact(account.total, "forward + backward, full attention square"),
        ),
        Row(
            "flop.six_nd",
            "  by the rule 6ND",
            "FLOP",
            estimated(account.six_nd, "N: blocks and head, D: tokens"),
        ),
        Row("flop.pf_days", "  in PF-days", "PF-days", exact(account.total / PF_DAY)),
        Row("machine.devices", "devices (ranks)", "", exact(ranks)),
        Row(
            "memory.rank",
            "memory per rank",
            "bytes",
            estimated(used.total, "states by ZeRO stage + activations"),
        ),
        Row("time.wall", "training time", "s", seconds),
        Row("machine.device_hours", "device-hours", "h", hours),
        Row("speed.tokens_per_second", "throughput", "tokens/s", rate),
        Row("mfu", "MFU", "%", mfu),
        *cost_rows(config, energy, hours, "planned"),
    ]
    return PriceTag(f"{config.model.name}: the price tag before the run", tuple(rows))


def run_seconds(config: Config) -> Figure:
    """Training time, where the machine states a peak."""
    precision = config.engine.precision
    peak = config.machine.peak_flops.get(precision)
    if not peak:
        return not_stated(f"machine.peak_flops.{precision}")
    ideal = flops(config).total / (peak * world_size(config))
    low, middle, high = UTILISATION
    source = f"{low:.0%} to {high:.0%} of {config.machine.name}'s dense {precision} peak"
    return estimated(ideal / middle, source, ideal / high, ideal / low)


def device_energy(config: Config, seconds: Figure) -> Figure:
    """Energy of the devices alone in kWh, at their board power."""
    watts = config.machine.power_watts
    if watts is None:
        return not_stated("machine.power_watts")
    power = Figure(watts * world_size(config), "stated", f"{watts:g} W board power x devices")
    return seconds * power / exact(3.6e6)


def cost_rows(config: Config, energy_kwh: Figure, device_hours: Figure, column: str) -> list[Row]:
    """Energy, carbon and money of one column."""
    site, currency = config.site, config.site.currency or ""
    facility = facility_kwh(energy_kwh, site)
    carbon = carbon_kg(facility, site.gco2e_per_kwh, intensity_source(site))
    rows = [
        ("energy.device_kwh", "energy of the devices", "kWh", energy_kwh),
        ("energy.kwh", "energy with PUE", "kWh", facility),
        ("carbon.kgco2e", "carbon", "kg CO2e", carbon),
        ("cost.amount", "money", currency, money(facility, device_hours, site)),
    ]
    if site.market_gco2e_per_kwh is not None:
        market = carbon_kg(facility, site.market_gco2e_per_kwh, intensity_source(site))
        rows.append(("carbon.market_kgco2e", "carbon, market-based", "kg CO2e", market))
    machine = config.machine
    if machine.embodied_kgco2e is not None and machine.lifetime_hours is not None:
        source = f"{machine.embodied_kgco2e:g} kg CO2e a device over {machine.lifetime_hours:g} h"
        embodied = device_hours * Figure(machine.embodied_kgco2e / machine.lifetime_hours, "stated", source)
        rows.append(("carbon.embodied_kgco2e", "carbon of making the devices", "kg CO2e", embodied))
        tokens = exact(config.tokens_per_step * config.steps / 1e6)
        rows.append(
            ("carbon.sci_g_per_mtoken", "SCI, per million tokens", "g CO2e", (carbon + embodied) / tokens * 1000)
        )
    return [Row(key, name, unit, **{column: figure}) for key, name, unit, figure in rows]  # type: ignore[arg-type]


def reprice(planned: PriceTag, config: Config) -> PriceTag:
    """The same plan at the site of `config`: what was counted and estimated stays, what it costs there is new."""
    known = {row.key: row.planned for row in planned.rows}
    energy, hours = known.get("energy.device_kwh"), known.get("machine.device_hours")
    if energy is None or hours is None:
        return planned
    fresh = {row.key: row for row in cost_rows(config, energy, hours, "planned")}
    priced = ("energy.", "carbon.", "cost.")
    rows = [fresh.pop(row.key, row) for row in planned.rows if row.key in fresh or not row.key.startswith(priced)]
    return PriceTag(planned.title, (*rows, *fresh.values()), planned.notes)
