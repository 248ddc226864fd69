"""Loss of several groups of runs along one axis."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from trainer.report.plots import BLACK, Curve, Plot, is_number, panels, smooth, thin
from trainer.report.run_data import RunData
from trainer.scaling.compare.comparison import AXES, Comparison, axes, runs_without_axis, stating
from trainer.utils.errors import UserError

MIN_SHARE = 0.05  # of the axis, at the left, whose high losses do not set the scale
HEIGHT = 4.4  # of a panel, inches
Points = list[tuple[float, float]]


@dataclass(frozen=True)
class Traces:
    """What is drawn of one run. Losses that are not finite are nan."""

    training: Points  # smoothed
    held_out: Points


def curves(plots: Sequence[Plot]) -> tuple[bytes, bytes]:
    """(SVG, PNG) of the panels, one below the other."""
    return panels(plots, 7.2, HEIGHT * len(plots), rows=len(plots))


def loss_plots(found: Comparison, axis: str) -> list[Plot]:
    """Training loss of every run, smoothed, and its held-out losses as points; a colour a group.

    A plot for each scale of losses; and one of bits per byte where these are the only common scale. What lies above a
    plot or is not finite is a triangle at its upper edge. Raises UserError where no run states the axis.
    """
    if runs_without_axis(found.groups, axis) == [run for group in found.groups for run in group.runs]:
        raise UserError(f"axis={axis}: no run states it; there is tokens, flop and seconds in every run")
    scales = list(dict.fromkeys(found.loss_scales))
    numbered = [[k for k, one in enumerate(found.loss_scales) if one == scale] for scale in scales]
    plots = [_plot(found, groups, axis, "loss") for groups in numbered]
    if found.metric == "bits_per_byte" and len(plots) > 1:
        plots.append(_plot(found, range(len(found.groups)), axis, "bits_per_byte"))
    return plots


def _plot(found: Comparison, numbers: Sequence[int], axis: str, metric: str) -> Plot:
    """One panel. numbers: of the groups that are drawn in it."""
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    colours = colormaps["tab10"].colors  # type: ignore[attr-defined]
    drawn = [(found.groups[k], to_hex(colours[k % len(colours)]), run) for k in numbers for run in found.groups[k].runs]
    traces = [_traces(run, axis, metric) for _, _, run in drawn]
    bottom, top = _limits(traces)
    lines, edges = [], []
    for (group, colour, run), one in zip(drawn, traces, strict=True):
        label = f"{group.label} ({len(group.runs)} run{'s' * (len(group.runs) > 1)})"
        called = group.label if len(group.runs) == 1 else f"{group.label}, {run.run.name}"
        dots: Any = {"marker": "o", "size": 4, "width": 1, "called": f"{called}, held out"}
        inside = _columns([(x, y) for x, y in one.held_out if y <= top])
        if metric == "loss":
            lines.append(Curve(label, *_columns(one.training), colour, width=1, called=called))
            lines.append(Curve("", *inside, colour, style="", **dots))
        else:
            lines.append(Curve(label, *inside, colour, **dots))
        beyond = [(x, y) for x, y in (*_late(one.training), *one.held_out) if not y <= top]
        if beyond:
            said = [f"it is {y:.4g}" if math.isfinite(y) else "it is not finite" for _, y in beyond]
            at = [x for x, _ in beyond], [top] * len(beyond)
            edges.append(Curve("", *at, colour, "", "^", size=5, called=f"{called}, above", more=said))
    if edges:
        lines += [*edges, Curve("above, or not finite", [], [], BLACK, "", "^", size=5)]
    what, unit = ("Loss", "nats per target") if metric == "loss" else ("Held-out bits per byte", "bits per byte")
    dotted = " (dots: held out)" if metric == "loss" else ""
    return Plot(f"{what} against {AXES[axis]}{dotted}", AXES[axis], unit, lines, y_range=(bottom, top))


def _traces(run: RunData, axis: str, metric: str) -> Traces:
    records = axes(run)
    at = {record["step"]: record[axis] for record in stating(axis, records)}
    held_out = [(at[one["step"]], _number(one.get(metric))) for one in run.evaluations if one["step"] in at]
    if metric != "loss":
        return Traces([], held_out)
    losses = [(record[axis], _number(record.get("loss"))) for record in stating(axis, records)]
    finite = [(x, y) for x, y in losses if math.isfinite(y)]
    smoothed = dict(zip((x for x, _ in finite), smooth([y for _, y in finite], 0.05), strict=True))
    kept = thin([{"x": x, "y": smoothed.get(x, math.nan)} for x, _ in losses], 400)
    drawn_points = {record["x"]: record["y"] for record in kept}
    drawn_points |= {record["x"]: math.nan for record in thin([{"x": x} for x, y in losses if math.isnan(y)], 400)}
    return Traces(sorted(drawn_points.items()), held_out)


def _number(value: Any) -> float:
    """A loss, nan where it is none: the records write null for what is not finite."""
    return float(value) if is_number(value) and math.isfinite(value) else math.nan


def _late(points: Points) -> Points:
    return points[int(MIN_SHARE * len(points)) :]


def _columns(points: Points) -> tuple[list[float], list[float]]:
    return [x for x, _ in points], [y for _, y in points]


def _limits(traces: Sequence[Traces]) -> tuple[float, float]:
    """Lowest and highest loss of the panel: of all that is drawn, but the beginnings, and no more than a tenth above
    the highest of those: what diverged leaves through the upper edge."""
    values = [y for one in traces for _, y in (*_late(one.training), *one.held_out) if math.isfinite(y)]
    if not values:
        return 0.0, 1.0
    beginnings = [y for one in traces for _, y in (one.training or one.held_out)[:1] if math.isfinite(y)]
    low, high = min(values), max(values)
    high = min(high, max([low, *beginnings]) * 1.1)
    spread = max(high - low, 1e-3 * abs(low), 1e-9)
    return low - 0.05 * spread, high + 0.05 * spread
