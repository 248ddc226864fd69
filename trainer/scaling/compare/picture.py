"""Loss of several groups of runs along one axis."""

from __future__ import annotations

from typing import Any

import numpy as np

from trainer.report.plots import canvas, drawn, label_axes, pairs, prefixes, smooth, thin
from trainer.report.run_data import RunData
from trainer.scaling.compare.comparison import AXES, Comparison, axes
from trainer.utils.errors import UserError

MIN_SHARE = 0.05  # of the axis, at the left, whose high losses do not set the scale


def curves(found: Comparison, axis: str) -> tuple[bytes, bytes]:
    """(SVG, PNG): training loss of every run, smoothed, and its held-out losses as points; a colour a group.

    Raises UserError where no run states the axis.
    """
    from matplotlib import colormaps

    colours = colormaps["tab10"].colors  # type: ignore[attr-defined]
    with canvas(7.2, 4.4) as (figure, plot):
        drawn_any, late = False, []
        for number, group in enumerate(found.groups):
            colour = colours[number % len(colours)]
            for run in group.runs:
                x, y = _training(run, axis)
                if x:
                    label = f"{group.label} ({len(group.runs)} run{'s' * (len(group.runs) > 1)})"
                    plot.plot(x, y, "-", color=colour, linewidth=1, alpha=0.8, label=label)
                    plot.plot(*_held_out(run, axis), "o", color=colour, markersize=4)
                    late += y[int(MIN_SHARE * len(y)) :]
                    drawn_any = True
        if not drawn_any:
            raise UserError(f"axis={axis}: no run states it; there is tokens, flop and seconds in every run")
        spread = max(late) - min(late)
        plot.set_ylim(min(late) - 0.05 * spread, max(late) + 0.05 * spread + 1e-9)
        label_axes(plot, f"Loss against {AXES[axis]} (dots: held out)", AXES[axis], "nats per target")
        plot.xaxis.set_major_formatter(prefixes())
        handles = dict(zip(*reversed(plot.get_legend_handles_labels()), strict=True))
        plot.legend(handles.values(), handles.keys(), frameon=False, fontsize=8)
        return drawn(figure, "svg"), drawn(figure, "png")


def _training(run: RunData, axis: str) -> tuple[list[float], list[float]]:
    x, y = pairs(axes(run), axis, "loss")
    kept = thin([{"x": a, "y": b} for a, b in zip(x, smooth(y, 0.05), strict=True)], 400)
    return [record["x"] for record in kept], [record["y"] for record in kept]


def _held_out(run: RunData, axis: str) -> Any:
    at = {record["step"]: record.get(axis) for record in axes(run)}
    return np.array(pairs([item | {"at": at.get(item["step"])} for item in run.steps.evaluations], "at", "loss"))
