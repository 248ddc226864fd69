"""How far to trust a law, as pictures: what it misses, what it missed of runs it had not seen, which runs decide it."""

from __future__ import annotations

from typing import Any

import numpy as np

from trainer.report.plots import BLUE, GREY, ORANGE, label_axes
from trainer.scaling.fit.colours import COLOURS, MARKERS, by_size, legend
from trainer.scaling.fit.findings import Findings
from trainer.scaling.fit.misfit import misses, newton_steps, tells
from trainer.scaling.fit.parametric import Law
from trainer.scaling.fit.rolling import scale_of
from trainer.scaling.fit.table import Table

MOST_RUNS = 12  # named in the picture of influence
HELD = 0.01  # share of a constant; one whose interval is narrower is held at a bound


def residuals(axes: Any, found: Findings, title: str) -> None:
    """What the chosen law misses of each run, over the scale of the runs, by size."""
    law, table = found.law, found.table
    assert law is not None
    name, scale = scale_of(table)
    missed = 100 * misses(law, table)
    by_size(axes, scale, missed, table.column("parameters"))
    axes.axhline(0, color=GREY, linewidth=1)
    if found.seed_noise:
        noise = 100 * found.seed_noise[0]
        axes.axhspan(-noise, noise, color=GREY, alpha=0.15, linewidth=0, label="seed noise")
    axes.set_xscale("log")
    _whole_view(axes, missed)
    label_axes(axes, f"{title}: {law.form}", _scale_title(name), "measured - predicted, %")
    legend(axes)


def _whole_view(axes: Any, missed: np.ndarray) -> None:
    """Where a few runs lie far off, the picture is of the others, and the few stand at its edge as triangles."""
    usual = 4 * max(float(np.quantile(np.abs(missed), 0.9)), 1e-3)
    far = np.abs(missed) > usual
    if not far.any():
        return
    axes.set_ylim(-1.15 * usual, 1.15 * usual)
    over, under = int((missed > usual).sum()), int((missed < -usual).sum())
    said = [f"{count} {where}" for count, where in ((over, "above"), (under, "below")) if count]
    axes.text(0.98, 0.97, f"outside: {', '.join(said)}", transform=axes.transAxes, ha="right", va="top", fontsize=7.5)


def rolling_errors(axes: Any, found: Findings, title: str) -> None:
    """Mean error of each form on the held-out larger runs, over the share of the scale that it was fitted to."""
    choice = found.choice
    name, scale = scale_of(choice.table)
    forms = [one.form for one in choice.candidates if one.cuts and one.form in choice.rolled]
    for number, form in enumerate(forms):
        rolled = choice.rolled[form]
        x = [float(scale[cut.kept].max()) for cut in choice.cuts]
        y = [100 * float(np.abs(rolled.error[k, cut.out]).mean()) for k, cut in enumerate(choice.cuts)]
        chosen = form == choice.chosen
        axes.plot(
            x,
            y,
            MARKERS[number % len(MARKERS)] + "-",
            color=COLOURS[number % len(COLOURS)],
            label=f"{form}{' (chosen)' if chosen else ''}",
            linewidth=2.2 if chosen else 1,
            markersize=4,
        )
    axes.set_xscale("log")
    axes.set_yscale("log")
    _percent_ticks(axes)
    label_axes(axes, title, f"largest {_scale_title(name)} that was fitted", "mean error beyond it, %")
    legend(axes)


def influences(axes: Any, found: Findings, title: str) -> None:
    """The runs that move a constant most if left out, in widths of its interval."""
    law, table = found.law, found.table
    assert law is not None
    strength, constant = influence_of(law, table)
    order = np.argsort(-strength)[:MOST_RUNS][::-1]
    names = [f"{table.runs[k].name[:28]}: {law.model.constants[constant[k]]}" for k in order]
    colours = [ORANGE if strength[k] > 0.5 else BLUE for k in order]
    axes.barh(range(len(order)), strength[order], color=colours)
    axes.set_yticks(range(len(order)), names, fontsize=7)
    axes.axvline(0.5, color=GREY, linewidth=1)
    label_axes(axes, title, "shift without the run / width of the interval", "")


def influence_of(law: Law, table: Table) -> tuple[np.ndarray, np.ndarray]:
    """By how much one Newton step moves an exponent or the floor if a run is left out, in widths of its 95% interval,
    and which constant that is: [n] each. A constant that is held at a bound has no interval to speak of."""
    model, constants = law.model, law.constants()
    stepped = np.clip(law.theta + np.clip(newton_steps(law, table), -1, 1), model.low, model.high)
    low, high = np.nanpercentile(constants[1:], [2.5, 97.5], axis=0)
    told = np.array([tells(name) for name in model.constants]) & (high - low > HELD * np.abs(constants[0]))
    widths = np.where(told, high - low, np.inf)
    shifts = np.nan_to_num(np.abs(model.values(stepped) - constants[0]) / widths)
    return shifts.max(axis=1), shifts.argmax(axis=1)


def _scale_title(name: str) -> str:
    return "training FLOPs" if name == "flop" else name


def _percent_ticks(axes: Any) -> None:
    from matplotlib.ticker import FormatStrFormatter, LogLocator

    axes.yaxis.set_major_locator(LogLocator(subs=[1, 2, 5]))
    axes.yaxis.set_major_formatter(FormatStrFormatter("%g"))
    axes.yaxis.set_minor_formatter("")
