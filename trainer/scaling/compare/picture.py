"""Loss of several groups of runs along one axis."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from trainer.report.plots import Curve, Plot, canvas, drawn, is_number, label_axes, prefixes, smooth, thin
from trainer.report.run_data import RunData
from trainer.scaling.compare.comparison import AXES, Comparison, axes, runs_without_axis, stating
from trainer.scaling.compare.groups import Group
from trainer.utils.errors import UserError

MIN_SHARE = 0.05  # of the axis, at the left, whose high losses do not set the scale
HEIGHT = 4.4  # of a panel, inches
Points = list[tuple[float, float]]


@dataclass(frozen=True)
class Traces:
    """What is drawn of one run. Losses that are not finite are nan."""

    training: Points  # smoothed
    held_out: Points


def curves(found: Comparison, axis: str) -> tuple[bytes, bytes]:
    """(SVG, PNG): training loss of every run, smoothed, and its held-out losses as points; a colour a group.

    A panel for each scale of losses; and one of bits per byte where these are the only common scale. What lies above a
    panel or is not finite is a triangle at its upper edge. Raises UserError where no run states the axis.
    """
    panels = [
        (
            [one if number == scale else None for one, number in zip(found.groups, found.loss_scales, strict=True)],
            "loss",
        )
        for scale in dict.fromkeys(found.loss_scales)
    ]
    if found.metric == "bits_per_byte" and len(panels) > 1:
        panels.append((list(found.groups), "bits_per_byte"))
    if runs_without_axis(found.groups, axis) == [run for group in found.groups for run in group.runs]:
        raise UserError(f"axis={axis}: no run states it; there is tokens, flop and seconds in every run")
    with canvas(7.2, HEIGHT * len(panels)) as (figure, first):
        first.remove()
        for plot, (groups, metric) in zip(figure.subplots(len(panels), squeeze=False)[:, 0], panels, strict=True):
            _draw(plot, groups, axis, metric)
        return drawn(figure, "svg"), drawn(figure, "png")


def _draw(plot: Any, groups: Sequence[Group | None], axis: str, metric: str) -> None:
    """One panel. groups: those of the comparison, None for one of another panel."""
    from matplotlib import colormaps

    colours = colormaps["tab10"].colors  # type: ignore[attr-defined]
    traces = [
        (number, _traces(run, axis, metric)) for number, group in enumerate(groups) if group for run in group.runs
    ]
    bottom, top = _limits([one for _, one in traces])
    above = False
    for number, one in traces:
        colour, group = colours[number % len(colours)], groups[number]
        assert group is not None
        label = f"{group.label} ({len(group.runs)} run{'s' * (len(group.runs) > 1)})"
        inside = [(x, y) for x, y in one.held_out if y <= top]
        style = {"color": colour, "linewidth": 1, "markersize": 4}
        if metric == "loss":
            plot.plot(*_columns(one.training), "-", alpha=0.8, label=label, **style)
            plot.plot(*_columns(inside), "o", **style)
        else:
            plot.plot(*_columns(inside), "o-", label=label, **style)
        beyond = [x for x, y in (*_late(one.training), *one.held_out) if not y <= top]
        plot.plot(beyond, [top] * len(beyond), "^", color=colour, markersize=5, clip_on=False, in_layout=False)
        above |= bool(beyond)
    plot.set_ylim(bottom, top)
    what, unit = ("Loss", "nats per target") if metric == "loss" else ("Held-out bits per byte", "bits per byte")
    dots = " (dots: held out)" if metric == "loss" else ""
    label_axes(plot, f"{what} against {AXES[axis]}{dots}", AXES[axis], unit)
    plot.xaxis.set_major_formatter(prefixes())
    if above:
        plot.plot([], [], "^", color="black", markersize=5, label="above, or not finite")
    handles = dict(zip(*reversed(plot.get_legend_handles_labels()), strict=True))
    plot.legend(handles.values(), handles.keys(), frameon=False, fontsize=8)


def live_plot(found: Comparison, axis: str) -> Plot | None:
    """The same curves for a page that can be pointed at; None where they have several scales, and so several panels."""
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    if len(set(found.loss_scales)) > 1:
        return None
    colours = colormaps["tab10"].colors  # type: ignore[attr-defined]
    lines = []
    for number, group in enumerate(found.groups):
        colour = to_hex(colours[number % len(colours)])
        for run in group.runs:
            traces = _traces(run, axis, "loss")
            x, y = _columns(traces.training)
            lines.append(Curve(group.label, x, y, colour))
            if traces.held_out:
                points = _columns(traces.held_out)
                lines.append(Curve(f"{group.label}, held out", *points, colour=colour, marker="o"))
    return Plot(f"Loss against {AXES[axis]} (dots: held out)", AXES[axis], "nats per target", lines)


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
