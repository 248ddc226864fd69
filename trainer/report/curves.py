"""Which curves a run's records can draw."""

from __future__ import annotations

from itertools import cycle
from typing import Any

from trainer.books.costs import JOULES_PER_KWH
from trainer.report.diagnostics import diagnostic_plots
from trainer.report.plots import BLUE, GREY, ORANGE, PALE, Curve, Plot, is_number, pairs, shares, smooth, thin
from trainer.report.policy import loss_unit, policy_plots
from trainer.report.run_data import RunData
from trainer.report.task_curves import task_plots

PHASES = {
    "start": "start",
    "data": "waiting for data",
    "generation": "writing answers",
    "reward": "rewarding them",
    "reference": "reading them by the reference",
    "forward_backward": "forward + backward",
    "optimizer": "optimizer",
    "other": "rest of a step",
    "evaluation": "evaluation",
    "checkpoint": "checkpoint",
    "idle": "idle",
}


def plots(run_data: RunData) -> list[Plot]:
    """Every plot of the page, in reading order."""
    steps = priced_steps(run_data)
    few = thin(steps)
    drawn = [_loss(run_data, steps, "tokens", "tokens")]
    drawn.append(_bits_per_byte(run_data))
    drawn += task_plots(run_data)
    drawn += policy_plots(steps)
    drawn += [_loss(run_data, steps, name, label) for name, label in _COST_AXES]
    for name, title, label in (
        ("tokens_per_second", "Throughput", "tokens/s"),
        ("mfu", "Model FLOPs utilisation", "share of the dense peak"),
        ("memory_peak_bytes", "Memory peak of rank 0", "bytes"),
    ):
        x, y = pairs(few, "minutes", name)
        drawn.append(Plot(title, "minutes of training", label, [Curve("", x, y)] if x else [], from_zero=True))
    drawn += _scheduled(few)
    drawn += diagnostic_plots(run_data)
    drawn.append(Plot("Where the time went", "seconds", "", bars=shares(_phase_seconds(run_data))))
    joules = {name: figure.value for name, figure in run_data.energy.components.items() if figure.value}
    spent = {name: 1000 * value / JOULES_PER_KWH for name, value in joules.items()}
    drawn.append(Plot("Energy by component", "Wh", "", bars=shares(spent)))
    phases = {name: 1000 * value / JOULES_PER_KWH for name, value in run_data.energy.phases.items() if value}
    drawn.append(Plot("Energy by phase", "Wh", "", bars=shares(phases)))
    return [plot for plot in drawn if plot.curves or plot.bars]


OF_AVERAGES = ("#3f8f4f", "#7a4fa0", "#b0892f", "#2f8fa0")
SCHEDULED = {"batch_size": "Batch size", "weight_decay": "Weight decay", "momentum": "Momentum"}


def _scheduled(steps: list[dict[str, Any]]) -> list[Plot]:
    """The rate, and what else changes along the run, where anything does."""
    flat = [record | (record.get("scheduled") or {}) for record in steps]
    titles = {name: title for name, title in SCHEDULED.items() if any(name in record for record in flat)}
    titles = {"lr": "Learning rate", **titles} if titles else {}
    return [
        Plot(title, "tokens", "", [Curve("", *pairs(flat, "tokens", name), stairs=name == "batch_size")])
        for name, title in titles.items()
    ]


_COST_AXES = (("flop", "model FLOPs"), ("wh", "Wh of the devices"), ("gco2e", "g CO2e"))


def _loss(run_data: RunData, steps: list[dict[str, Any]], axis: str, label: str) -> Plot:
    """Training loss and held-out loss against tokens, or against what they cost."""
    x, y = pairs(steps, axis, "loss")
    if not x:
        return Plot("", "", "")
    kept = thin([{"x": a, "y": b, "mean": c} for a, b, c in zip(x, y, smooth(y), strict=True)])
    columns = [[record[name] for record in kept] for name in ("x", "y", "mean")]
    curves = [Curve("each step", columns[0], columns[1], PALE), Curve("mean", columns[0], columns[2], BLUE)]
    at = {record["step"]: record.get(axis) for record in steps}
    held = [item | {"at": at.get(item["step"])} for item in run_data.evaluations]
    held_x, held_y = pairs(held, "at", "loss")
    if held_x:
        curves.append(Curve("held out", held_x, held_y, ORANGE, marker="o"))
    for colour, name in zip(cycle(OF_AVERAGES), run_data.config.optim.averages):
        of_average = [item | {"average": (item.get("averages") or {}).get(name)} for item in held]
        if (points := pairs(of_average, "at", "average"))[0]:
            curves.append(Curve(f"held out, average {name}", *points, colour=colour, marker="."))
    without_context = pairs(held, "at", "unigram_loss")
    if without_context[0]:
        curves.append(Curve("held out, without context", *without_context, colour=GREY, style="--"))
    return Plot(f"Loss against {label}", label, loss_unit(run_data.config), curves)


def _bits_per_byte(run_data: RunData) -> Plot:
    x, y = pairs(run_data.evaluations, "tokens", "bits_per_byte")
    if not x:
        return Plot("", "", "")
    baseline = pairs(run_data.evaluations, "tokens", "unigram_bits_per_byte")
    curves = [
        Curve("model", x, y, ORANGE, marker="o"),
        Curve("the same tokens without context", *baseline, colour=GREY, style="--"),
    ]
    return Plot("Held-out bits per byte", "tokens", "bits per byte", curves)


def priced_steps(run_data: RunData) -> list[dict[str, Any]]:
    """The records of the steps that count, with minutes of training, Wh and g CO2e so far; of a branch with its trunk's
    before them."""
    earlier = run_data.trunk.kept
    minutes, wh = (earlier[-1].get(name) if earlier else 0.0 for name in ("minutes", "wh"))
    own = [_with_energy(record, wh) for record in _with_clock(run_data.steps.kept, minutes or 0.0)]
    return [_with_carbon(record, run_data) for record in [*earlier, *own]]


def _with_clock(records: tuple[dict[str, Any], ...], minutes: float) -> list[dict[str, Any]]:
    """Each record with the minutes of training so far, over the steps that count."""
    clock, timed = 60 * minutes, []
    for record in records:
        clock += sum(value for value in record.get("seconds", {}).values() if is_number(value))
        timed.append(record | {"minutes": clock / 60})
    return timed


def _with_energy(record: dict[str, Any], before: float | None) -> dict[str, Any]:
    """The record with Wh of the devices so far, where they are known. before: Wh before the run's first step."""
    joules = record.get("joules") or {}
    if before is None or not joules or any(not is_number(value) for value in joules.values()):
        return record
    return record | {"wh": before + 1000 * (sum(joules.values()) / JOULES_PER_KWH)}


def _with_carbon(record: dict[str, Any], run_data: RunData) -> dict[str, Any]:
    """The record with g CO2e so far, where the grid is known."""
    wh, site = record.get("wh"), run_data.site
    if wh is None:
        return record
    grams = run_data.gco2e_per_kwh
    carbon = None if grams is None else wh / 1000 * (site.pue or 1.0) * grams
    return record | {"gco2e": carbon}


def _phase_seconds(run_data: RunData) -> dict[str, float]:
    """Seconds by phase, which add up to the time of all attempts."""
    seconds = run_data.steps.phase_seconds
    return {PHASES.get(name, name): seconds[name] for name in (*PHASES, *seconds) if seconds.get(name, 0.0) > 0}
