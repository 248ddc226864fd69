"""Two laws and the runs that they are of, and what one factor leaves over."""

from __future__ import annotations

from typing import Any

import numpy as np

from trainer.report.plots import BLUE, GREY, ORANGE, canvas, drawn, label_axes, prefixes
from trainer.scaling.efficiency.factor import Efficiency
from trainer.scaling.efficiency.stored import StoredFactor


def factor_picture(found: Efficiency | StoredFactor) -> tuple[bytes, bytes]:
    """(SVG, PNG): loss along compute with both laws; beside it the factor that each pair of runs tells."""
    if isinstance(found, StoredFactor):
        with canvas(6.4, 4.2) as (figure, axes):
            _laws_alone(axes, found)
            return drawn(figure, "svg"), drawn(figure, "png")
    with canvas(10.4, 4.2) as (figure, first):
        first.remove()
        left, right = figure.subplots(1, 2)
        _losses(left, found)
        _factors(right, found)
        return drawn(figure, "svg"), drawn(figure, "png")


def _laws_alone(axes: Any, found: StoredFactor) -> None:
    grid, *rows = found.curves
    shown = (grid >= np.log(found.common[0] / 10)) & (grid <= np.log(found.common[1] * 10))
    for label, row, colour in zip(found.labels, rows, (BLUE, ORANGE), strict=True):
        axes.plot(np.exp(grid[shown]), row[shown], color=colour, label=label)
    axes.set(xscale="log", yscale="log")
    axes.axvspan(*found.common, color=GREY, alpha=0.12, label="both cover")
    label_axes(axes, "Lowest loss along compute", "FLOP", "loss")
    axes.legend(frameon=False, fontsize=8)


def _losses(axes: Any, found: Efficiency) -> None:
    """Runs as dots, and the one law through them: a line a size, or one line along compute."""
    sides, table = found.sides, found.sides.table
    flop, loss = table.column("flop"), table.column("loss")
    for label, side, colour, marker in zip(
        sides.labels, (~sides.second, sides.second), (BLUE, ORANGE), "os", strict=True
    ):
        axes.plot(flop[side], loss[side], marker, color=colour, markersize=4, alpha=0.7, label=label)
        for x, y in found.lines(side):
            axes.plot(x, y, "-", color=colour, linewidth=0.9)
    axes.set(xscale="log")
    label_axes(axes, "Runs, and one law with a factor", "FLOP", "loss")
    axes.legend(frameon=False, fontsize=8)


def _factors(axes: Any, found: Efficiency) -> None:
    """Dots: what each run of the second side says of the factor; the line and band: the one factor."""
    flop, factors = found.pointwise
    axes.plot(flop, factors, "s", color=ORANGE, markersize=4, alpha=0.7, label="by each run alone")
    axes.axhline(found.flop.value, color=BLUE, label="one factor, 95% interval")
    if np.isfinite(found.flop.low):
        axes.axhspan(found.flop.low, found.flop.high, color=BLUE, alpha=0.15)
    axes.axhline(1.0, color=GREY, linewidth=0.8, linestyle=":")
    if len(found.ends) == 2:
        axes.plot(
            [at for at, _ in found.ends],
            [figure.value for _, figure in found.ends],
            "--",
            color=GREY,
            label="if it may drift",
        )
    axes.set(xscale="log", yscale="log")
    axes.yaxis.set_minor_formatter(prefixes())
    axes.tick_params(axis="y", which="minor", labelsize=8)
    label_axes(axes, f"Compute of {found.sides.labels[1]} for the same loss", "FLOP", f"times {found.sides.labels[0]}")
    axes.yaxis.set_major_formatter(prefixes())
    axes.legend(frameon=False, fontsize=8)
