"""The price tag after the run: a fold over the files of its folder, which any process can make at any time."""

from __future__ import annotations

from pathlib import Path
from statistics import median

from trainer.books.asked_rows import measured_asking
from trainer.books.branch import FILE as BRANCH
from trainer.books.branch import counted_of_trunk, read_branch, trunk_note, trunks_work, with_trunk
from trainer.books.costs import JOULES_PER_KWH, intensity_over
from trainer.books.curve import curve_of
from trainer.books.draw import component_rows
from trainer.books.energy import EnergyAccount, read_energy
from trainer.books.flops import flops
from trainer.books.kernels import attention_backward
from trainer.books.layout import world_size
from trainer.books.plan import PF_DAY, cost_rows, trunks_costs
from trainer.books.policy_rows import measured_seconds
from trainer.books.quantity import PriceTag, Quantity, Row, exact, measured_quantity, not_stated
from trainer.books.records import PADDING_IS_MUCH, STEP_PHASES, Steps, read_ranks, read_steps
from trainer.config import Config, SiteConfig, load


def measured(run: Path, site: SiteConfig | None = None, steps: Steps | None = None) -> PriceTag:
    """What the run in this folder cost so far, priced at its own site or at another one. steps: its own, where they
    were read already.

    A run without a finished step has rows without values.
    """
    config, steps, energy = load(run / "config.yaml"), steps or read_steps(run), read_energy(run)
    if site is not None:
        config = config.model_copy(update={"site": site})
    ranks = read_ranks(run)
    last = steps.kept[-1] if steps.kept else {}
    seconds, hours = training_time(steps, ranks, config)
    flop = last.get("flop")
    account = flops(config.ending_after(last.get("step") or 1), attention_backward(config))

    def row(key: str, name: str, unit: str, quantity: Quantity) -> Row:
        return Row(key, name, unit, measured=quantity)

    tokens, mfu = measured_quantity(last.get("tokens"), _counted(steps)), _median(steps, "mfu")
    said = read_branch(run)
    trunk = trunks_work(said) if said else {}

    def with_trunks(key: str, own: Quantity) -> Quantity:
        return trunk[key] + own if key in trunk else own

    hours = with_trunks("machine.device_hours", hours)
    spent = with_trunks("energy.device_kwh", energy.total() / JOULES_PER_KWH)
    grams = own_intensity(config.site, energy)
    whole, *costs = cost_rows(config, spent, hours, tokens, "measured", grams)
    rows = [
        row("data.tokens", "training tokens", "tokens", tokens),
        row("data.steps", "optimizer steps", "steps", measured_quantity(last.get("step"), "counted")),
        row("flop.total", "model FLOPs", "FLOP", measured_quantity(flop, "exact count x tokens trained on")),
        row("flop.pf_days", "  in PF-days", "PF-days", measured_quantity(flop / PF_DAY if flop else None, "")),
        row("machine.devices", "devices (ranks)", "", exact(_of_last(ranks, config))),
        row("memory.rank", "memory per rank", "bytes", _peak_memory(steps)),
        row("time.wall", "training time", "s", with_trunks("time.wall", seconds)),
        row("time.step", "time per step", "s", _step_seconds(steps)),
        *measured_seconds(config, steps),
        *measured_asking(steps),
        row("machine.device_hours", "device-hours", "h", hours),
        row("speed.tokens_per_second", "throughput", "tokens/s", _median(steps, "tokens_per_second")),
        row("mfu", "MFU", "%", mfu),
        row("hfu", "HFU", "%", mfu * (account.hardware_total / account.total)),
        whole,
        *_component_rows(energy),
        *costs,
    ]
    if grams is not None:
        rows.append(row("carbon.gco2e_per_kwh", "  intensity of the hours", "g/kWh", grams))
    if paused := steps.phase_seconds.get("paused"):
        rows.append(row("time.paused", "paused", "s", measured_quantity(paused, "launch.window")))
    rows += _wasted_rows(steps, energy)
    notes = _notes(energy)
    if said:
        rows = list(with_trunk(rows, trunk | trunks_costs(config, trunk, "measured", grams), "measured"))
        notes = (trunk_note(said), *notes)
    elif config.branch.given and steps.kept:
        rows = list(with_trunk(rows, counted_of_trunk(config), "measured"))
        notes = (f"{BRANCH} is missing or damaged: tokens and FLOPs are the whole run's, all else its own", *notes)
    return PriceTag(f"{config.model.name}: the price tag", tuple(rows), notes)


def _wasted_rows(steps: Steps, energy: EnergyAccount) -> list[Row]:
    """Time and energy of steps that were trained again."""
    if not steps.replayed:
        return []
    wasted = sum(sum(record.get("seconds", {}).values()) for record in steps.replayed)
    source = f"{len(steps.replayed)} steps trained again after a restart"
    rows = [Row("time.wasted", "time wasted", "s", measured=measured_quantity(wasted, source))]
    if energy.segments:
        kwh = Quantity(energy.wasted / JOULES_PER_KWH, energy.total().provenance, source)
        rows.append(Row("energy.wasted_kwh", "energy wasted", "kWh", measured=kwh))
    return rows


def own_intensity(site: SiteConfig, energy: EnergyAccount) -> Quantity | None:
    """g CO2e per kWh over the hours in which this energy was used, where the site has a curve. Raises UserError as
    `read_curve`."""
    curve = curve_of(site)
    return None if curve is None or not energy.segments else intensity_over(curve, energy.timeline)


def _counted(steps: Steps) -> str:
    """How tokens were counted: with the padding, which costs as much as text."""
    share = steps.padding
    return "counted" if share <= PADDING_IS_MUCH else f"counted; {share:.0%} of them are padding"


def training_time(steps: Steps, ranks: dict[int, int], config: Config) -> tuple[Quantity, Quantity]:
    """Seconds of training without pauses (`launch.window`) and device-hours with them, since devices are held then,
    over all attempts; `ranks` as in `read_ranks`."""
    if not steps.attempt_seconds:
        return not_stated("no step yet"), not_stated("no step yet")
    taken = steps.attempt_seconds
    device_seconds = sum(seconds * ranks.get(attempt, _of_last(ranks, config)) for attempt, seconds in taken.items())
    source = "clock, all attempts"
    trained = sum(taken.values()) - steps.phase_seconds.get("paused", 0.0)
    return measured_quantity(trained, source), measured_quantity(device_seconds / 3600, source)


def _of_last(ranks: dict[int, int], config: Config) -> int:
    return ranks[max(ranks)] if ranks else world_size(config)


def _component_rows(energy: EnergyAccount) -> list[Row]:
    """A row a component, and how much of the time they cover."""
    rows = component_rows({name: one / JOULES_PER_KWH for name, one in energy.components.items()}, "measured")
    covered = [Row("energy.coverage", "  covered by the meter", "%", measured=energy.covered())]
    return rows + (covered if energy.components else [])


def _notes(energy: EnergyAccount) -> tuple[str, ...]:
    notes = list(energy.notes)
    if energy.shared_devices:
        notes.append(f"{energy.shared_devices} device(s) were read by several processes at once and counted once")
    notes += [f"gap: {gap}" for gap in dict.fromkeys(energy.gaps)][:10]
    return tuple(notes)


def _median(steps: Steps, name: str) -> Quantity:
    values = [record[name] for record in steps.kept if record.get(name) is not None]
    if not values:
        return not_stated("machine.peak_flops" if name == "mfu" and steps.kept else "no step yet")
    return measured_quantity(median(values), "median over steps")


def _step_seconds(steps: Steps) -> Quantity:
    values = [sum(record.get("seconds", {}).get(name, 0.0) for name in STEP_PHASES) for record in steps.kept]
    return measured_quantity(median(values), "median over steps") if values else not_stated("no step yet")


def _peak_memory(steps: Steps) -> Quantity:
    values = [record["memory_peak_bytes"] for record in steps.kept if record.get("memory_peak_bytes")]
    return (
        measured_quantity(max(values), "rank 0: allocator's peak on a GPU, process on a CPU")
        if values
        else not_stated("no step yet")
    )
