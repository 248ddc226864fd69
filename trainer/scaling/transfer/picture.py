"""A transfer report as a picture: losses over the setting for every size, and where the best stood."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from trainer.books.formatting import format_amount
from trainer.report.plots import canvas, drawn, label_axes, prefixes
from trainer.scaling.transfer.optimum import Optimum
from trainer.scaling.transfer.report import Series, Transfer

HEIGHT = 3.8  # of a row, inches
MOST_NAMED = 10  # sizes with a line each in the legend; more share a bar of colours
HIGHEST = 0.05  # share of the lowest loss above which curves leave the panel


def picture(found: Transfer) -> tuple[bytes, bytes]:
    """(SVG, PNG): a row a series. Left the losses above each size's lowest, with its best value (of many sizes over the
    ratio to it); right the best value by parameters, with intervals."""
    with canvas(10, HEIGHT * len(found.series)) as (figure, first):
        first.remove()
        for row, series in zip(figure.subplots(len(found.series), 2, squeeze=False), found.series, strict=True):
            colours = _colours(series)
            _losses(row[0], series, colours, found.points.setting)
            _best(row[1], series, colours, found.points.setting)
            if len(series.optima) > MOST_NAMED:
                _bar(figure, row[1], series)
        return drawn(figure, "svg"), drawn(figure, "png")


def _scale(series: Series) -> tuple[str, Any]:
    """What many sizes are coloured by, and the scale of it."""
    from matplotlib.colors import LogNorm

    axis = "tokens" if all(np.isfinite(one.profile.tokens) for one in series.optima) else "parameters"
    values = [getattr(one.profile, axis) for one in series.optima]
    return axis, LogNorm(min(values), max(values) * 1.1)


def _colours(series: Series) -> list[Any]:
    """From dark to light: by the order of a few sizes, so that neighbours can be told apart; of many by tokens."""
    from matplotlib import colormaps

    count = len(series.optima)
    if count <= MOST_NAMED:
        return [colormaps["viridis"](share) for share in np.linspace(0.0, 0.9, count)]
    axis, scale = _scale(series)
    return [colormaps["viridis"](0.95 * float(scale(getattr(one.profile, axis)))) for one in series.optima]


def _bar(figure: Any, axes: Any, series: Series) -> None:
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import ListedColormap

    axis, scale = _scale(series)
    shades = ListedColormap(colormaps["viridis"](np.linspace(0, 0.95, 256)))
    bar = figure.colorbar(ScalarMappable(scale, shades), ax=axes)
    bar.set_label(axis)
    bar.ax.yaxis.set_major_formatter(prefixes())


def _losses(axes: Any, series: Series, colours: Sequence[Any], setting: str) -> None:
    many, top = len(series.optima) > MOST_NAMED, 0.0
    for one, colour in zip(series.optima, colours, strict=True):
        profile = one.profile
        above = np.where(np.isfinite(profile.losses), profile.losses, np.nan) - profile.losses.min()
        limit = HIGHEST * abs(float(profile.losses.min()))
        x = profile.values / one.value if many else profile.values
        axes.plot(x, above, "o-", color=colour, markersize=3, linewidth=1, label=_name(one))
        top = max(top, float(above[above <= limit].max()), float(above[profile.near].max()))
        if not many:
            style = {"markersize": 11, "markeredgecolor": "white", "zorder": 3, "clip_on": False}
            axes.plot([one.value], [0], "*", color=colour, **style)
    axes.set_xscale("log")
    axes.set_ylim(0, max(top * 1.05, 1e-6))
    x_label = f"{setting} / the size's best" if many else setting
    label_axes(axes, f"{series.name}: loss above each size's lowest", x_label, "loss")
    if not many:
        axes.legend(frameon=False, fontsize=7)


def _best(axes: Any, series: Series, colours: Sequence[Any], setting: str) -> None:
    for one, colour in zip(series.optima, colours, strict=True):
        edge = bool(one.profile.edge)
        errors = None
        if one.interval is not None:
            errors = [[one.value - one.interval[0]], [one.interval[1] - one.value]]
        style = {"color": colour, "markerfacecolor": "white" if edge else colour, "markersize": 6, "capsize": 3}
        axes.errorbar([one.profile.parameters], [one.value], yerr=errors, fmt="^" if edge else "o", **style)
    axes.set_xscale("log")
    axes.set_yscale("log", base=2 if setting == "optim.batch_size" else 10)
    values = [one.value for one in series.optima]
    lower = min([one.interval[0] for one in series.optima if one.interval is not None], default=np.inf)
    low = min(2**-series.step * min(values), max(values) / 4, max(lower, min(values) / 4) / 1.1)
    upper = max([one.interval[1] for one in series.optima if one.interval is not None], default=0.0)
    high = max(2**series.step * max(values), min(values) * 4, 1.1 * min(upper, 4 * max(values)))
    axes.set_ylim(low, high)
    label_axes(axes, "best, with 95% interval; open: end of what was tried", "parameters", setting)
    axes.xaxis.set_major_formatter(prefixes())
    axes.xaxis.set_minor_formatter("")


def _name(one: Optimum) -> str:
    profile = one.profile
    parts = [format_amount(profile.parameters, "")]
    if np.isfinite(profile.width) and np.isfinite(profile.depth):
        parts.append(f"width {profile.width:g}, depth {profile.depth:g}")
    if np.isfinite(profile.tokens):
        parts.append(f"{format_amount(profile.tokens, '')} tokens")
    return ", ".join(parts)
