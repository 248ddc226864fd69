"""The price tag before the run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Literal

from trainer.books.asked_rows import copy_note, planned_asking
from trainer.books.branch import COSTS, WORK, trunk_key, with_trunk
from trainer.books.budget import over, planned_steps, spending
from trainer.books.calibration import Pace
from trainer.books.clock import run_seconds, step_seconds
from trainer.books.continued import parents_price
from trainer.books.costs import (
    carbon_kg,
    facility_kwh,
    intensity,
    money,
    planned_facility_kwh,
    stated_intensity,
    water_l,
    with_unmetered,
)
from trainer.books.draw import COMPONENT_KEYS, component_rows, planned_components, planned_energy
from trainer.books.dropout import dropout_line
from trainer.books.fitting import fit
from trainer.books.flops import flops
from trainer.books.formatting import format_amount
from trainer.books.kernels import attention_line, compile_line
from trainer.books.layout import world_size
from trainer.books.linear import fp8_line
from trainer.books.links import bytes_between, bytes_sent
from trainer.books.machine import known_machine
from trainer.books.parameters import parameters
from trainer.books.policy_rows import planned_flops, planned_seconds
from trainer.books.quantity import PriceTag, Quantity, Row, estimated, exact, not_stated
from trainer.books.rollouts import reward_note
from trainer.books.run_length import run_steps, run_tokens
from trainer.books.visible import Document, hidden_per_step
from trainer.books.window import Window, window_of
from trainer.books.wire import wire
from trainer.config import BranchConfig, Config, MachineConfig, StepShape
from trainer.config.host import precision
from trainer.config.labelled import labelled_line
from trainer.config.placement import crossing_line
from trainer.config.tokenizer_file import unused_rows

PF_DAY = 8.64e19  # FLOP: 1e15 FLOP/s for one day (Brown et al. 2020, appendix D)


def plan(config: Config, documents: Sequence[Document] = (), pace: Pace | None = None) -> PriceTag:
    """What `config` will cost: exact counts, estimates with their assumptions, and what is not stated.

    Where a measured budget ends the run, every total is that of the steps it buys. With the documents of a sample, also
    what masks hide of its attention; raises UserError where they are not those of a sample. pace: what gives times to
    work in place of what is known of the machine.
    """
    stated, known = config, known_machine(config)
    config, calibration = known.config, pace or known.pace
    weights, ranks = parameters(config), world_size(config)

    window = window_of(config)
    held = 1.0 if window is None else 1 / window.share

    def step_cost(shape: StepShape) -> dict[str, Quantity]:
        one = step_seconds(config.at_shape(shape), calibration)
        spent = device_energy(config, one, flops(config.at_shape(shape)).per_step, calibration, held)
        return spending(config, one / 3600, one * (ranks / 3600), spent)

    steps = planned_steps(config, step_cost)
    made = config.ending_after(int(steps.value or 1))
    account, likely = flops(made), run_seconds(config, run_steps(made), calibration)
    seconds = over(steps, lambda n: run_seconds(config, n, calibration))
    used = _utilisation(config, exact(account.total) / likely)

    @cache
    def parts(n: int) -> dict[str, Quantity]:
        return planned_components(config, run_seconds(config, n, calibration), used, calibration, held)

    energy = over(steps, lambda n: planned_energy(parts(n)))
    by_component = {name: over(steps, lambda n, name=name: parts(n)[name]) for name in parts(1)}  # type: ignore[misc]
    tokens = over(steps, lambda n: exact(config.curriculum.tokens(n)))
    flop = over(steps, lambda n: exact(flops(config.ending_after(n)).total))
    hardware = over(steps, lambda n: exact(flops(config.ending_after(n)).hardware_total))
    again = account.hardware_total > account.total
    of_n = "N: " + ("active " if weights.idle else "") + "blocks and head, D: tokens"
    six_nd = over(steps, lambda n: estimated(flops(config.ending_after(n)).six_nd, of_n))
    paused = None if window is None else seconds * exact(held - 1, f"open {window.share:.0%} of the time")
    hours = (seconds if paused is None else seconds + paused) * (ranks / 3600)
    fitted = fit(config)
    kept = f", averages {format_amount(fitted.needed.averages, 'bytes')}" if fitted.needed.averages else ""
    memory = estimated(fitted.needed.total, f"states{kept}, buckets and activations at {fitted.needed.moment}")

    rows = [
        Row("model.parameters", "parameters", "", exact(weights.total)),
        *([Row("model.active", "  active, per token", "", exact(weights.active))] if weights.idle else []),
        Row("model.non_embedding", "  without embeddings", "", exact(weights.non_embedding)),
        Row("data.tokens", "training tokens", "tokens", tokens),
        Row("data.steps", "optimizer steps", "steps", steps),
        Row("flop.per_token", "FLOPs per token", "FLOP", exact(account.total / run_tokens(made))),
        Row("flop.total", "model FLOPs", "FLOP", flop * exact(1, "forward + backward, full attention square")),
        *([Row("flop.hardware", "  with what is computed again", "FLOP", hardware)] if again else []),
        Row("flop.six_nd", "  by the rule 6ND", "FLOP", six_nd),
        Row("flop.pf_days", "  in PF-days", "PF-days", flop / PF_DAY),
        *planned_flops(config, lambda at: over(steps, at)),
        *_visible(config, documents, steps),
        Row("machine.devices", "devices (ranks)", "", exact(ranks)),
        Row("memory.rank", "memory per rank", "bytes", memory),
        Row("wire.bytes_per_step", "sent per rank and step", "bytes", _sent(config)),
        *_sent_out(config),
        Row("time.step", "time per step", "s", likely / run_steps(made)),
        *planned_seconds(config, calibration),
        Row("time.wall", "training time", "s", seconds),
        *([] if paused is None else [Row("time.paused", "paused", "s", paused)]),
        Row("machine.device_hours", "device-hours", "h", hours),
        Row("speed.tokens_per_second", "throughput", "tokens/s", exact(run_tokens(made)) / likely),
        Row("mfu", "MFU", "%", used),
        *planned_asking(config, lambda at: over(steps, at), exact(account.total) / likely),
        *with_components(
            cost_rows(config, energy, hours, tokens, "planned", planned_intensity(config, window)),
            component_rows(by_component, "planned"),
        ),
    ]
    if fitted.fits is False:
        rows = [_unpriced(row) for row in rows]
    fits = [] if fitted.available is None else [fitted.text, *fitted.others]
    notes = (*fits, *filter(None, [known.note]), *_notes(config))
    whole = with_trunk(rows, _trunks_plan(stated), "planned") if config.branch.given else tuple(rows)
    title = f"{config.model.name}: the price tag before the run"
    return PriceTag(title, whole, notes, fitted.to_json(), known.to_json())


def _unpriced(row: Row) -> Row:
    """Of a run that does not fit: it takes no time and costs nothing, for it cannot be."""
    groups = ("time.", "speed.", "mfu", "energy.", "carbon.", "water.", "cost.", "machine.device_hours")
    priced = row.key.startswith(groups)
    return replace(row, planned=not_stated("it does not fit machine.memory_bytes")) if priced else row


def planned_intensity(config: Config, window: Window | None) -> Quantity:
    """g CO2e per kWh of the hours in which the run may work, which ones of them being unknown."""
    grams = [] if window is None else window.grams
    if not grams or window is None or window.curve is None:
        return intensity(config.site)
    source = f"{window.curve.text}; mean while launch.window={window.text} is open, least to most"
    return estimated(sum(grams) / len(grams), source, min(grams), max(grams))


def _utilisation(config: Config, rate: Quantity) -> Quantity:
    """The share of all devices' peak that so many FLOPs a second are."""
    dtype = precision(config)
    peak = config.machine.peak_flops.get(dtype)
    if not peak:
        return not_stated(f"machine.peak_flops.{dtype}")
    share = rate / exact(peak * world_size(config))
    return share if share.high is None else replace(share, high=min(share.high, 1.0))


def _notes(config: Config) -> tuple[str, ...]:
    """What is to be said beside the rows."""
    of_the_step = (attention_line, unused_rows, dropout_line, fp8_line, compile_line, crossing_line)
    lines = (*of_the_step, labelled_line, parents_price, reward_note, copy_note)
    return tuple(said for line in lines if (said := line(config)) is not None)


def _trunks_plan(config: Config) -> dict[str, Quantity]:
    """What of a branch's plan its trunk did, or is to do, by the keys of rows: the plan of the first steps."""
    assert config.branch.step is not None
    tag = plan(config.model_copy(update={"branch": BranchConfig()}).ending_after(config.branch.step))
    return {row.key: row.planned for row in tag.rows if row.key in (*WORK, *COSTS) and row.planned}


def _visible(config: Config, documents: Sequence[Document], steps: Quantity) -> list[Row]:
    """Model FLOPs without what masks hide in samples of these documents."""
    if not documents:
        return []
    hidden, whole = hidden_per_step(config, documents), flops(config).per_step
    per_sample = hidden // config.optim.batch_size
    said = ", ".join("/".join(str(part) for part in one if part) for one in documents)

    def visible(n: int) -> Quantity:
        seen = flops(config.ending_after(n)).total - per_sample * config.curriculum.samples(n)
        return exact(seen, f"documents of {said} tokens")

    return [
        Row("flop.visible", "  without what masks hide", "FLOP", over(steps, visible)),
        Row("flop.hidden_share", "  hidden by masks", "%", exact(hidden / whole, "share of the model FLOPs")),
    ]


def _sent(config: Config) -> Quantity:
    """Bytes that one rank sends in a step."""
    account, total = wire(config), bytes_sent(config)
    if not account.update:
        return exact(total)
    return estimated(total, f"of which the update of {config.optim.name} {account.update:.3g}, on average")


def _sent_out(config: Config) -> list[Row]:
    """Of these, what leaves the host, where there is more than one."""
    if config.launch.nodes == 1:
        return []
    said = "rings over hosts, one for each port of a host"
    return [Row("wire.between_hosts", "  between hosts", "bytes", estimated(bytes_between(config), said))]


def device_energy(
    config: Config, seconds: Quantity, flop: float, calibration: Pace | None, held: float = 1.0
) -> Quantity:
    """Energy in kWh of all components that are planned, over so many seconds in which so many FLOPs are done; held: as
    `planned_components`."""
    used = _utilisation(config, exact(flop) / seconds)
    return planned_energy(planned_components(config, seconds, used, calibration, held))


def cost_rows(
    config: Config,
    energy_kwh: Quantity,
    device_hours: Quantity,
    tokens: Quantity,
    column: str,
    grams_per_kwh: Quantity | None = None,
) -> list[Row]:
    """Energy, carbon, water and money of one column, for training on `tokens`; grams_per_kwh: of the hours in which the
    energy was used, null where these are not known."""
    site, currency = config.site, config.site.currency or ""
    all_of_it = with_unmetered(energy_kwh, config.meter)
    facility = (planned_facility_kwh if column == "planned" else facility_kwh)(all_of_it, site)
    carbon = carbon_kg(facility, intensity(site) if grams_per_kwh is None else grams_per_kwh)
    two = site.market_gco2e_per_kwh is not None
    rows = [
        ("energy.device_kwh", "energy of the devices", "kWh", energy_kwh),
        *(
            [("energy.whole_kwh", "  with what is not metered", "kWh", all_of_it)]
            if all_of_it is not energy_kwh
            else []
        ),
        ("energy.kwh", "energy with PUE", "kWh", facility),
        ("carbon.kgco2e", "carbon, location-based" if two else "carbon", "kg CO2e", carbon),
    ]
    if two:
        market = carbon_kg(facility, stated_intensity(site.market_gco2e_per_kwh or 0.0, "after contracts"))
        rows.append(("carbon.market_kgco2e", "carbon, market-based", "kg CO2e", market))
    rows += [(key, name, "l", litres) for key, name, litres in water_l(energy_kwh, facility, site)]
    rows.append(("cost.amount", "money", currency, money(facility, device_hours, site)))
    machine = config.machine
    if machine.embodied_kgco2e is not None or machine.lifetime_hours is not None:
        embodied = _embodied_kg(machine, device_hours)
        rows.append(("carbon.embodied_kgco2e", "carbon of making the devices", "kg CO2e", embodied))
        rows.append(
            ("carbon.sci_g_per_mtoken", "SCI, per million tokens", "g CO2e", (carbon + embodied) / (tokens / 1e9))
        )
    return [Row(key, name, unit, **{column: quantity}) for key, name, unit, quantity in rows]  # type: ignore[arg-type]


def _embodied_kg(machine: MachineConfig, device_hours: Quantity) -> Quantity:
    """The share of manufacture; not stated where one of its two numbers is missing."""
    made, lifetime = machine.embodied_kgco2e, machine.lifetime_hours
    if made is None or lifetime is None:
        return not_stated(f"machine.{'embodied_kgco2e' if made is None else 'lifetime_hours'}")
    return device_hours * Quantity(made / lifetime, "stated", f"{made:g} kg CO2e a device over {lifetime:g} h")


def with_components(costs: Sequence[Row], components: Sequence[Row]) -> tuple[Row, ...]:
    """The rows of costs, with those of the components behind the energy that they add up to."""
    return (*costs[:1], *components, *costs[1:])


def trunks_costs(
    config: Config,
    trunk: Mapping[str, Quantity],
    column: Literal["planned", "measured"],
    grams_per_kwh: Quantity | None = None,
) -> dict[str, Quantity]:
    """What a trunk's energy and device-hours cost, by the keys of rows; trunk: its work by such keys. grams_per_kwh: as
    of the whole run, so that what is left of it is the branch's own."""
    energy, hours, tokens = (trunk[key] for key in ("energy.device_kwh", "machine.device_hours", "data.tokens"))
    rows = cost_rows(config, energy, hours, tokens, column, grams_per_kwh)
    return {row.key: quantity for row in rows if row.key in COSTS and (quantity := getattr(row, column))}


def reprice(planned: PriceTag, config: Config) -> PriceTag:
    """The same plan at the site of `config`: what was counted and estimated stays, what it costs there is new."""
    known = {row.key: row.planned for row in planned.rows}
    energy, hours = known.get("energy.device_kwh"), known.get("machine.device_hours")
    if energy is None or hours is None:
        return planned
    tokens = known.get("data.tokens") or not_stated("training tokens")
    trunk = {key: known.get(trunk_key(key)) or not_stated("the trunk") for key in WORK}
    components = [row for row in planned.rows if row.key in COMPONENT_KEYS]
    priced = [row.key.startswith(("energy.", "carbon.", "water.", "cost.")) for row in planned.rows]
    rows = [row for row, old in zip(planned.rows, priced, strict=True) if not old]
    at = priced.index(True)
    grams = planned_intensity(config, window_of(config))
    fresh: Sequence[Row] = cost_rows(config, energy, hours, tokens, "planned", grams)
    if trunk_key("data.tokens") in known:
        fresh = with_trunk(fresh, trunk | trunks_costs(config, trunk, "planned", grams), "planned")
    fresh = with_components(fresh, components)
    return replace(planned, rows=(*rows[:at], *fresh, *rows[at:]))
