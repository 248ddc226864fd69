"""Two laws and the runs that they are of, and what one factor leaves over."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from trainer.report.plots import BLUE, GREY, ORANGE, Curve, Plot, Span, panels
from trainer.scaling.efficiency.factor import Efficiency
from trainer.scaling.efficiency.stored import StoredFactor


def factor_picture(plots: Sequence[Plot]) -> tuple[bytes, bytes]:
    """(SVG, PNG) of the plots, side by side."""
    return panels(plots, 6.4 if len(plots) == 1 else 10.4, 4.2)


def factor_plots(found: Efficiency | StoredFactor) -> list[Plot]:
    """Loss along compute with both laws; and, where there are runs, the factor that each pair of them tells."""
    return [_laws_alone(found)] if isinstance(found, StoredFactor) else [_losses(found), _factors(found)]


def _laws_alone(found: StoredFactor) -> Plot:
    grid, *rows = found.curves
    shown = (grid >= np.log(found.common[0] / 10)) & (grid <= np.log(found.common[1] * 10))
    x = np.exp(grid[shown]).tolist()
    curves = [
        Curve(label, x, row[shown].tolist(), colour)
        for label, row, colour in zip(found.labels, rows, (BLUE, ORANGE), strict=True)
    ]
    both = Span("x", *found.common, "both cover")
    return Plot("Lowest loss along compute", "FLOP", "loss", curves, spans=[both], x_log=True, y_log=True)


def _losses(found: Efficiency) -> Plot:
    """Runs as dots, and the one law through them: a line a size, or one line along compute."""
    sides, table = found.sides, found.sides.table
    flop, loss, curves = table.column("flop"), table.column("loss"), []
    looks = zip(sides.labels, (~sides.second, sides.second), (BLUE, ORANGE), "os", strict=True)
    for label, side, colour, marker in looks:
        here = np.flatnonzero(side)
        here = here[np.argsort(flop[here], kind="stable")]
        names = [f"{label}, {table.runs[run].name}" for run in here]
        dots: Any = {"marker": marker, "size": 4, "names": names}
        curves.append(Curve(label, flop[here].tolist(), loss[here].tolist(), colour, "", **dots))
        for x, y in found.lines(side):
            line = Curve(
                "", np.asarray(x).tolist(), np.asarray(y).tolist(), colour, width=0.9, called=f"law of {label}"
            )
            curves.append(line)
    return Plot("Runs, and one law with a factor", "FLOP", "loss", curves, x_log=True)


def _factors(found: Efficiency) -> Plot:
    """Dots: what each run of the second side says of the factor; the line and band: the one factor."""
    flop, factors = found.pointwise
    order = np.argsort(flop, kind="stable")
    table = found.sides.table
    names = [table.runs[run].name for run in np.flatnonzero(found.sides.second)[order]]
    dots: Any = {"style": "", "marker": "s", "size": 4, "names": names}
    curves = [Curve("by each run alone", flop[order].tolist(), factors[order].tolist(), ORANGE, **dots)]
    one = found.flop
    spans = [Span("y", one.value, one.value, "one factor, 95% interval", BLUE), Span("y", 1.0, 1.0, style=":")]
    if np.isfinite(one.low):
        spans.insert(0, Span("y", one.low, one.high, colour=BLUE))
    if len(found.ends) == 2:
        x, y = [at for at, _ in found.ends], [figure.value for _, figure in found.ends]
        curves.append(Curve("if it may drift", x, y, GREY, "--"))
    first, second = found.sides.labels
    words = f"Compute of {second} for the same loss", "FLOP", f"times {first}"
    return Plot(*words, curves, spans=spans, x_log=True, y_log=True)
