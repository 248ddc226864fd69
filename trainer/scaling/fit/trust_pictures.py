"""How far to trust a law, as pictures: what it misses, what it missed of runs it had not seen, which runs decide it."""

from __future__ import annotations

from typing import Any

import numpy as np

from trainer.report.plots import BLUE, ORANGE, Bar, Curve, Plot, Span
from trainer.scaling.fit.colours import COLOURS, MARKERS, by_size
from trainer.scaling.fit.findings import Findings
from trainer.scaling.fit.misfit import misses, newton_steps, tells
from trainer.scaling.fit.parametric import Law
from trainer.scaling.fit.rolling import scale_of
from trainer.scaling.fit.table import Table

MOST_RUNS = 12  # named in the picture of influence
HELD = 0.01  # share of a constant; one whose interval is narrower is held at a bound


def residuals(found: Findings, law: Law) -> Plot:
    """What the chosen law misses of each run, over the scale of the runs, by size."""
    table = found.table
    name, scale = scale_of(table)
    missed = 100 * misses(law, table)
    curves = by_size(scale, missed, table.column("parameters"), [run.name for run in table.runs])
    spans = [Span("y", 0, 0)]
    if found.seed_noise:
        noise = 100 * found.seed_noise[0]
        spans.append(Span("y", -noise, noise, "seed noise"))
    within, outside = _whole_view(missed)
    words = f"What the law misses: {law.form}", _scale_title(name), "measured - predicted, %"
    return Plot(*words, curves, spans=spans, x_log=True, y_range=within, note=outside)


def _whole_view(missed: np.ndarray) -> tuple[tuple[float, float] | None, str]:
    """Where a few runs lie far off: the stretch in which the others lie, and how many are outside of it."""
    usual = 4 * max(float(np.quantile(np.abs(missed), 0.9)), 1e-3)
    over, under = int((missed > usual).sum()), int((missed < -usual).sum())
    if not over + under:
        return None, ""
    said = [f"{count} {where}" for count, where in ((over, "above"), (under, "below")) if count]
    return (-1.15 * usual, 1.15 * usual), f"outside: {', '.join(said)}"


def rolling_errors(found: Findings) -> Plot:
    """Mean error of each form on the held-out larger runs, over the share of the scale that it was fitted to."""
    choice = found.choice
    name, scale = scale_of(choice.table)
    forms = [one.form for one in choice.candidates if one.cuts and one.form in choice.rolled]
    curves = []
    for number, form in enumerate(forms):
        rolled = choice.rolled[form]
        x = [float(scale[cut.kept].max()) for cut in choice.cuts]
        y = [100 * float(np.abs(rolled.error[k, cut.out]).mean()) for k, cut in enumerate(choice.cuts)]
        chosen = form == choice.chosen
        look: Any = {"marker": MARKERS[number % len(MARKERS)], "width": 2.2 if chosen else 1, "size": 4}
        label = f"{form}{' (chosen)' if chosen else ''}"
        curves.append(Curve(label, x, y, COLOURS[number % len(COLOURS)], **look))
    words = f"largest {_scale_title(name)} that was fitted", "mean error beyond it, %"
    return Plot("Errors on larger runs that were held out", *words, curves, x_log=True, y_log=True)


def influences(found: Findings, law: Law) -> Plot:
    """The runs that move a constant most if left out, in widths of its interval."""
    table = found.table
    strength, constant = influence_of(law, table)
    bars = [
        Bar(
            f"{table.runs[k].name[:28]}: {law.model.constants[constant[k]]}",
            float(strength[k]),
            colour=ORANGE if strength[k] > 0.5 else BLUE,
        )
        for k in np.argsort(-strength)[:MOST_RUNS]
    ]
    title, label = "Runs that decide the constants", "shift without the run / width of the interval"
    return Plot(title, label, "", bars=bars, spans=[Span("x", 0.5, 0.5)])


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
