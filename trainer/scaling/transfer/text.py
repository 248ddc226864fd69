"""A transfer report as text."""

from __future__ import annotations

import math

from trainer.books.formatting import format_amount
from trainer.scaling.transfer.optimum import Optimum
from trainer.scaling.transfer.report import Drift, Lost, Series, Transfer

MOST_PLACES = 16  # in the text; all are in transfer.json
MOST_NAMES = 4  # of runs that are left out
EDGES = {"lowest": "at the lowest value tried", "highest": "at the highest value tried", "only": "one value tried"}


def format_transfer(found: Transfer) -> str:
    points = found.points
    lines = [f"{points.setting}: {len(points.points)} runs; N is {points.counts}"]
    for series in found.series:
        lines += ["", *_series(series)]
    if points.left_out:
        named = ", ".join(f"{name} ({why})" for name, why in points.left_out[:MOST_NAMES])
        more = f" and {len(points.left_out) - MOST_NAMES} more" if len(points.left_out) > MOST_NAMES else ""
        lines += ["", f"left out  {named}{more}"]
    return "\n".join(lines)


def _series(series: Series) -> list[str]:
    count, runs = len(series.optima), sum(one.profile.runs for one in series.optima)
    lines = [f"{series.name}: {count} sizes, {runs} runs; a grid step is a factor of {2**series.step:.3g}"]
    lines += _table(series)
    lines += [_drift_line(one, series.step) for one in series.drifts]
    if math.isfinite(series.moved):
        lines.append(f"  moved      {series.moved:.2f} grid steps between the lowest and the highest best value")
    lines += [f"  taken over {line}" for line in _lost_lines(series)]
    return [*lines, *(f"  note       {note}" for note in series.notes)]


def _table(series: Series) -> list[str]:
    pairs = list(zip(series.optima, series.lost, strict=True))
    left = max(0, len(pairs) - MOST_PLACES)
    shown = pairs if not left else [*pairs[: MOST_PLACES // 2], *pairs[-(MOST_PLACES // 2) :]]
    known = [axis for axis in ("width", "depth") if all(_stated(one, axis) for one, _ in pairs)]
    rows = [["N", "tokens", *known, "tried", "best", "95% interval", "lost by the cheapest's", ""]]
    for one, lost in shown:
        profile = one.profile
        rows.append(
            [
                format_amount(profile.parameters, ""),
                format_amount(profile.tokens, "") if _stated(one, "tokens") else "-",
                *(f"{getattr(profile, axis):g}" for axis in known),
                f"{len(profile.values)}: {_short(profile.values[0])} to {_short(profile.values[-1])}",
                _short(one.value),
                "-" if one.interval is None else f"{_short(one.interval[0])} to {_short(one.interval[1])}",
                "not tried" if lost.value is None else f"{lost.value:.4f}",
                EDGES.get(profile.edge, ""),
            ]
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "  " + "  ".join(cell.rjust(width) for cell, width in zip(row[:-1], widths[:-1], strict=True)) + f"  {row[-1]}"
        for row in rows
    ]
    if left:
        lines.insert(1 + MOST_PLACES // 2, f"  ... {left} more, in transfer.json")
    return [line.rstrip() for line in lines]


def _stated(one: Optimum, axis: str) -> bool:
    return math.isfinite(getattr(one.profile, axis))


def _short(value: float) -> str:
    return f"{value:.3g}" if value < 1000 else f"{value:,.0f}"


def _drift_line(one: Drift, step: float) -> str:
    beside = [axis for axis in one.along if axis != one.axis]
    held = f" ({' and '.join(beside)} held)" if beside else ""
    steps = None if one.interval is None else (one.interval[0] / step, one.interval[1] / step)
    return (
        f"  drift      along {one.axis}{held}: {one.exponent / step:+.2f} grid steps{_bounds(steps)} a doubling, "
        f"best ~ {one.axis}^{one.exponent:.3f}{_bounds(one.interval)}, {one.places} sizes"
    )


def _bounds(interval: tuple[float, float] | None) -> str:
    return "" if interval is None else f" ({interval[0]:+.2f} to {interval[1]:+.2f})"


def _lost_lines(series: Series) -> list[str]:
    """What the best value of the cheapest size costs at the most expensive one, and where it costs most."""
    last, lost = series.optima[-1], series.lost[-1]
    begin = f"{_short(series.optima[0].value)}, the cheapest size's best,"
    if lost.value is None:
        lines = [f"{begin} was not tried at the most expensive size"]
    else:
        lowest = f"{last.profile.losses.min():.4f}"
        lines = [f"{begin} loses {_amount(lost)} at the most expensive size, whose lowest loss is {lowest}"]
    known = [(one.value, at) for one, at in zip(series.lost, series.optima, strict=True) if one.value is not None]
    most, at = max(known, key=lambda pair: pair[0])
    if at is not last and len(known) > 2:
        tokens = f" and {format_amount(at.profile.tokens, '')} tokens" if _stated(at, "tokens") else ""
        where = f"{format_amount(at.profile.parameters, '')} parameters{tokens}"
        untried = len(series.optima) - len(known)
        beside = f"; not tried at {untried} of {len(series.optima)} sizes" if untried else ""
        lines.append(f"it loses most, {most:.4f}, at {where}{beside}")
    return lines


def _amount(lost: Lost) -> str:
    bounds = "" if lost.interval is None else f" ({lost.interval[0]:.4f} to {lost.interval[1]:.4f})"
    return f"{lost.value:.4f}{bounds}"
