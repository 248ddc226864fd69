"""Findings as pictures."""

from __future__ import annotations

from typing import Any

import numpy as np

from trainer.report.plots import BLUE, GREY, ORANGE, canvas, drawn, label_axes
from trainer.scaling.fit.advice import best_by_law, best_by_search, price_rate
from trainer.scaling.fit.approaches import Optima
from trainer.scaling.fit.colours import by_size, legend
from trainer.scaling.fit.colours import colours as colours_of
from trainer.scaling.fit.findings import Findings
from trainer.scaling.fit.law_file import unit_of
from trainer.scaling.fit.trust_pictures import influences, residuals, rolling_errors
from trainer.scaling.forms import FORMS

GREEN = "#3b7d4f"
AXIS_TITLES = {"flop": "training FLOPs", "kwh": "kWh", "gco2e": "g CO2e", "money": "money"}
MOST_REPLICATES = 100  # of a band
BEYOND = 10.0  # how far behind the largest run lines are drawn


def pictures(found: Findings) -> dict[str, tuple[str, bytes, bytes]]:
    """name -> (title, SVG, PNG); only those that the table can fill."""
    made: dict[str, tuple[str, bytes, bytes]] = {}
    for axis, title in AXIS_TITLES.items():
        if np.isfinite(found.table.column(axis)).sum() >= 2:
            label = found.table.currency or title if axis == "money" else title
            made[f"loss-{axis}"] = _picture(f"Loss against {label}", _loss, found, axis, label)
    if found.isoflop.parabolas:
        made["isoflop"] = _picture("IsoFLOP profiles", _profiles, found)
    if found.laws.get("chinchilla") or not (found.envelope.why and found.isoflop.why):
        made["optimum"] = _picture("Compute-optimal size", _optimum, found)
    if found.law is not None:
        made["predicted"] = _picture("Law against runs", _predicted, found)
        made["residuals"] = _picture("What the law misses", residuals, found)
        if found.choice.cuts:
            made["held-out"] = _picture("Errors on larger runs that were held out", rolling_errors, found)
        if len(found.law.replicates) >= 20:
            made["influence"] = _picture("Runs that decide the constants", influences, found)
    return made


def _picture(title: str, draw: Any, found: Findings, *more: Any) -> tuple[str, bytes, bytes]:
    with canvas(6.4, 4.2) as (figure, axes):
        draw(axes, found, title, *more)
        return title, drawn(figure, "svg"), drawn(figure, "png")


def _loss(axes: Any, found: Findings, title: str, axis: str, label: str) -> None:
    """Every run by size, and the law's lowest loss for each amount with its interval."""
    table = found.table
    x, loss, sizes = table.column(axis), table.column("loss"), table.column("parameters")
    known = np.isfinite(x)
    by_size(axes, x[known], loss[known], sizes[known])
    line = np.geomspace(x[known].min(), x[known].max() * BEYOND, 60)
    best = _lowest_losses(found, axis, line)
    if best is not None:
        _band(axes, line, best, "best of any size, by the law")
    axes.set_xscale("log")
    if (loss > 0).all():  # normalised ones may be negative
        axes.set_yscale("log")
        _plain_ticks(axes.yaxis)
    label_axes(axes, title, label, f"held-out loss, {unit_of(table)}")
    legend(axes)


def _lowest_losses(found: Findings, axis: str, amounts: np.ndarray) -> np.ndarray | None:
    """[1 + R, m]: the lowest loss of any size for each amount, by the chosen law; None where it does not tell."""
    law, table = found.law, found.table
    if law is None:
        return None
    if law.model.variables == ("flop",):
        return law.at(amounts) if axis == "flop" else None
    rate = price_rate(table, axis, np.ones((len(law.replicates), len(table.runs))))
    if rate is None or not set(law.model.variables) <= {"parameters", "tokens", "flop"}:
        return None
    if law.form == "chinchilla":
        return np.stack([best_by_law(law, rate, amount)[2] for amount in amounts], axis=1)
    sizes, flop = table.column("parameters"), price_rate(table, "flop", np.empty((0, len(table.runs))))
    if flop is None:
        return None
    some, losses = law.constants()[: 1 + MOST_REPLICATES], []
    for amount in amounts:
        n, d = best_by_search(law.form, some, rate, amount, (sizes.min() / BEYOND, sizes.max() * BEYOND**2), {})
        c = np.exp(flop.log_k[0]) * n ** flop.power[0] * d
        columns = {"parameters": n, "tokens": d, "flop": c}
        at = law.model.loss_at(
            some, [columns[name] for name in law.model.variables]
        )  # [B, B]: each at each one's place
        losses.append(np.diagonal(at))
    return np.stack(losses, axis=1)


def _profiles(axes: Any, found: Findings, title: str) -> None:
    """Loss over size at each budget, its parabola, and the parabola's minimum."""
    table = found.table
    sizes, loss, flop = (table.column(name) for name in ("parameters", "loss", "flop"))
    colours = colours_of(len(found.isoflop.parabolas))
    for parabola, colour in zip(found.isoflop.parabolas, colours, strict=True):
        nearest = table.budgets[np.argmin(np.abs(np.log(flop / parabola.flop)))]
        here = table.budgets == nearest
        axes.plot(sizes[here], loss[here], "o", color=colour, markersize=3.5, label=f"{parabola.flop:.2g} FLOP")
        line = np.geomspace(*parabola.sizes, 60)
        axes.plot(line, parabola.at(line), "-", color=colour, linewidth=1)
        if parabola.best is not None:
            axes.plot(parabola.best, parabola.at(np.array([parabola.best])), "*", color=ORANGE, markersize=9, zorder=3)
    axes.set_xscale("log")
    label_axes(axes, title + " (star: minimum)", "parameters N", f"held-out loss, {unit_of(table)}")
    legend(axes)


def _optimum(axes: Any, found: Findings, title: str) -> None:
    """Best size over budget by each approach."""
    flop = found.table.column("flop")
    line = np.geomspace(flop.min(), flop.max() * BEYOND, 60)
    named = (("approach 1", found.envelope, BLUE, "."), ("approach 2", found.isoflop, ORANGE, "*"))
    for name, approach, colour, marker in named:
        if approach.why:
            continue
        optima: Optima = approach.optima
        a, _, level, _ = optima.exponents()
        axes.plot(optima.flop, optima.parameters, marker, color=colour, markersize=8 if marker == "*" else 3)
        axes.plot(
            line, np.exp(level + a * np.log(line)), "--", color=colour, label=f"{name}: a = {a:.2f}", linewidth=1.2
        )
    law = found.laws.get("chinchilla")
    if law is not None:
        rate = price_rate(found.table, "flop", np.ones((len(law.replicates), len(flop))))
        assert rate is not None
        best = np.stack([best_by_law(law, rate, amount)[0] for amount in line], axis=1)
        _band(axes, line, best, f"approach 3: a = {law.exponents()[0, 0]:.2f}", GREEN)
    if found.law is not None and found.law.form != "chinchilla":
        chosen = _best_sizes(found, line)
        if np.isfinite(chosen).any():
            axes.plot(line, chosen, "-", color="black", label=f"{found.chosen} (chosen)", linewidth=1.4)
    axes.set_xscale("log")
    axes.set_yscale("log")
    label_axes(axes, title, "training FLOPs C", "parameters N")
    legend(axes)


def _best_sizes(found: Findings, amounts: np.ndarray) -> np.ndarray:
    """[m]: the best size for each number of FLOPs by the chosen form; nan where it does not tell."""
    law, table = found.law, found.table
    assert law is not None
    rate, sizes = price_rate(table, "flop", np.empty((0, len(table.runs)))), table.column("parameters")
    if rate is None or not {"parameters", "tokens"} <= set(law.model.variables) <= {"parameters", "tokens", "flop"}:
        return np.full(len(amounts), np.nan)
    within = sizes.min() / BEYOND, sizes.max() * BEYOND**2
    found_at = [best_by_search(law.form, law.constants()[:1], rate, amount, within, {}) for amount in amounts]
    return np.array([n[0] for n, _ in found_at])


def _predicted(axes: Any, found: Findings, title: str) -> None:
    law, table = found.law, found.table
    assert law is not None
    spec = FORMS[law.form]
    loss = table.column("loss")
    predicted = law.at(*(table.column(name) for name in spec.variables))[0]
    by_size(axes, predicted, loss, table.column("parameters"))
    ends = [min(predicted.min(), loss.min()), max(predicted.max(), loss.max())]
    axes.plot(ends, ends, "-", color=GREY, linewidth=1)
    label_axes(axes, f"{title}: {law.form}", "predicted loss", "held-out loss")
    legend(axes)


def _band(axes: Any, x: np.ndarray, y: np.ndarray, label: str, colour: str = ORANGE) -> None:
    """A line with the middle 95% of its replicates; y: [1 + R, m]."""
    axes.plot(x, y[0], "-", color=colour, label=label, linewidth=1.4)
    if len(y) > 20:
        low, high = np.nanpercentile(y[1:], [2.5, 97.5], axis=0)
        axes.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)


def _plain_ticks(axis: Any) -> None:
    from matplotlib.ticker import FormatStrFormatter, LogLocator

    axis.set_major_locator(LogLocator(subs=[1, 1.5, 2, 3, 4, 5, 7]))
    axis.set_major_formatter(FormatStrFormatter("%g"))
    axis.set_minor_formatter("")
