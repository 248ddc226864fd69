"""Pictures in one style, and plots as SVG images that live inside a page."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

BLUE, ORANGE, GREY, PALE, BLACK = "#2563ab", "#c2571a", "#8a8f98", "#c9d4e3", "#000000"


@dataclass(frozen=True)
class Curve:
    """One line of a plot, or points alone."""

    label: str  # in the legend, once for all curves of one label; none where it is empty
    x: Sequence[float]
    y: Sequence[float]
    colour: str = BLUE
    style: str = "-"  # "": points alone
    marker: str = ""
    stairs: bool = False  # a value holds from the point before on
    width: float = 1.5  # of the line, points
    size: float = 3.0  # of a marker, points
    low: Sequence[float] = ()  # with `high` an interval about each y: a band, or whiskers of marked points
    high: Sequence[float] = ()
    called: str = ""  # whose point it is, where one is pointed at; as a rule the label
    names: Sequence[str] = ()  # the same, where each point is another's
    more: Sequence[str] = ()  # what else is said of each point


@dataclass(frozen=True)
class Span:
    """From `low` to `high` of one axis, whatever the other is; a line where they are equal."""

    axis: Literal["x", "y"]
    low: float
    high: float
    label: str = ""
    colour: str = GREY
    style: str = "-"


@dataclass(frozen=True)
class Bar:
    """A horizontal bar; `text` stands at its end."""

    name: str
    value: float
    text: str = ""
    colour: str = BLUE


@dataclass(frozen=True)
class Plot:
    """One pair of axes: curves, or bars from the top down. `paint` draws it, and on pages Bokeh (live_plots.py)."""

    title: str
    x_label: str
    y_label: str
    curves: list[Curve] = field(default_factory=list)
    bars: Sequence[Bar] = ()
    from_zero: bool = False
    spans: Sequence[Span] = ()
    x_log: bool = False
    y_log: bool = False
    y_range: tuple[float, float] | None = None  # all that is drawn, where None
    x_ticks: dict[float, str] = field(default_factory=dict)  # in place of numbers
    note: str = ""  # in a corner


@dataclass(frozen=True)
class Picture:
    """A plot, and its files for papers."""

    plot: Plot
    svg: bytes
    png: bytes


def picture(plot: Plot, width: float = 6.4, height: float = 4.2, more: Any = None) -> Picture:
    """The plot with its files; sizes in inches. more(figure, axes): what a file has beside the plot."""
    with canvas(width, height) as (figure, axes):
        paint(axes, plot)
        if more is not None:
            more(figure, axes)
        return Picture(plot, drawn(figure, "svg"), drawn(figure, "png"))


def panels(plots: Sequence[Plot], width: float, height: float, rows: int = 1) -> tuple[bytes, bytes]:
    """(SVG, PNG) of several plots in one picture, in so many rows; its sizes in inches."""
    with canvas(width, height) as (figure, first):
        first.remove()
        for axes, plot in zip(figure.subplots(rows, len(plots) // rows, squeeze=False).flat, plots, strict=True):
            paint(axes, plot)
        return drawn(figure, "svg"), drawn(figure, "png")


def svg(plot: Plot) -> str:
    """The plot as a `data:` address of an SVG image; equal plots give equal text."""
    with canvas() as (figure, axes):
        paint(axes, plot)
        return address(drawn(figure, "svg"))


def paint(axes: Any, plot: Plot) -> None:
    """The plot on a pair of matplotlib's axes."""
    _paint_bars(axes, plot.bars)
    for span in plot.spans:
        _paint_span(axes, span)
    for curve in plot.curves:
        _paint_curve(axes, curve)
    label_axes(axes, plot.title, plot.x_label, plot.y_label)
    for axis, log in ((axes.xaxis, plot.x_log), (axes.yaxis, plot.y_log)):
        if log:
            _log_scale(axes, axis)
        elif not plot.bars:
            axis.set_major_formatter(prefixes())
    if plot.x_ticks:
        axes.set_xticks(list(plot.x_ticks), list(plot.x_ticks.values()))
    if plot.y_range:
        axes.set_ylim(*plot.y_range)
    if plot.from_zero:
        axes.set_ylim(bottom=0)
    if plot.note:
        axes.text(0.98, 0.97, plot.note, transform=axes.transAxes, ha="right", va="top", fontsize=8)
    named = dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
    if named and len(plot.curves) + len(plot.spans) > 1:
        axes.legend(named.values(), named.keys(), frameon=False, fontsize=8, handlelength=1.4)


def _paint_curve(axes: Any, curve: Curve) -> None:
    steps = "steps-pre" if curve.stairs else "default"
    look: Any = {
        "color": curve.colour,
        "linestyle": curve.style or "none",
        "linewidth": curve.width,
        "drawstyle": steps,
    }
    look |= {"marker": curve.marker or "none", "markersize": curve.size, "label": curve.label or None}
    edge = curve.marker == "^" and not curve.style  # what leaves through the upper edge stands on it
    axes.plot(curve.x, curve.y, clip_on=not edge, in_layout=not edge, **look)
    if not curve.low:
        return
    if curve.marker:
        axes.vlines(curve.x, curve.low, curve.high, colors=curve.colour, linewidth=1)
    else:
        axes.fill_between(curve.x, curve.low, curve.high, color=curve.colour, alpha=0.15, linewidth=0)


def _paint_span(axes: Any, span: Span) -> None:
    line, area = (axes.axvline, axes.axvspan) if span.axis == "x" else (axes.axhline, axes.axhspan)
    if span.low == span.high:
        line(span.low, color=span.colour, linewidth=1, linestyle=span.style, label=span.label or None)
    else:
        area(span.low, span.high, color=span.colour, alpha=0.15, linewidth=0, label=span.label or None)


def _paint_bars(axes: Any, bars: Sequence[Bar]) -> None:
    if not bars:
        return
    upwards = bars[::-1]
    drawn = axes.barh(
        range(len(bars)), [bar.value for bar in upwards], color=[bar.colour for bar in upwards], height=0.6
    )
    axes.set_yticks(range(len(bars)), [bar.name for bar in upwards], fontsize=8)
    axes.bar_label(drawn, labels=[f" {bar.text}" for bar in upwards], fontsize=8)
    axes.margins(x=0.25 if any(bar.text for bar in bars) else 0.05)


def _log_scale(axes: Any, axis: Any) -> None:
    """Powers of ten; within two of them numbers that people count in."""
    from matplotlib.ticker import FormatStrFormatter, LogLocator

    of_x = axis is axes.xaxis
    (axes.set_xscale if of_x else axes.set_yscale)("log")
    low, high = axes.get_xlim() if of_x else axes.get_ylim()
    if high < 100 * low and high < 1e5:
        subs = [1, 2, 5] if high > 10 * low else [1, 1.5, 2, 2.5, 3, 3.5, 4, 5, 6, 7, 8]
        axis.set_major_locator(LogLocator(subs=subs))
        axis.set_major_formatter(FormatStrFormatter("%g"))
        axis.set_minor_formatter("")


@contextmanager
def canvas(width: float = 5.2, height: float = 3.1) -> Iterator[tuple[Any, Any]]:
    """A matplotlib figure with one pair of axes, in the style of every picture here; sizes in inches."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    settings: Any = {"svg.hashsalt": "isoflop", "svg.fonttype": "none", "font.size": 9}
    with matplotlib.rc_context(settings):
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasAgg(figure)
        yield figure, figure.add_subplot()


def label_axes(axes: Any, title: str, x_label: str, y_label: str) -> None:
    axes.set_title(title, loc="left", fontsize=10)
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.grid(True, color="#e3e6ea", linewidth=0.6)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def prefixes() -> Any:
    """Tick labels such as 5M and 20k; below a thousand plain numbers, as 500m of a minute would be read as meters."""
    from matplotlib.ticker import EngFormatter, FuncFormatter

    large = EngFormatter(sep="")
    return FuncFormatter(lambda value, _: large(value) if abs(value) >= 1000 else f"{value:.6g}")


def drawn(figure: Any, kind: Literal["svg", "png"]) -> bytes:
    """The figure as a file; equal figures give equal SVGs."""
    out = io.BytesIO()
    if kind == "svg":
        figure.savefig(out, format="svg", metadata={"Date": None, "Creator": "isoflop"})
    else:
        figure.savefig(out, format="png", dpi=150, metadata={"Software": "isoflop"})
    return out.getvalue()


def address(image: bytes) -> str:
    """An SVG as a `data:` address that lives inside a page."""
    return "data:image/svg+xml;base64," + base64.b64encode(image).decode()


def shares(amounts: dict[str, float]) -> list[Bar]:
    """A bar for each part of a whole."""
    total = sum(amounts.values()) or 1.0
    said = {name: f"{value:.3g}" if value < 1000 else f"{value:,.0f}" for name, value in amounts.items()}
    return [Bar(name, value, f"{said[name]} ({100 * value / total:.0f} %)") for name, value in amounts.items()]


def pairs(records: Sequence[dict[str, Any]], x: str, y: str) -> tuple[list[float], list[float]]:
    """The two columns of those records that have both."""
    both = [(item[x], item[y]) for item in records if is_number(item.get(x)) and is_number(item.get(y))]
    return [float(a) for a, _ in both], [float(b) for _, b in both]


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def smooth(values: Sequence[float], share: float = 0.02) -> list[float]:
    """Exponential mean over about `share` of the curve, corrected for its start."""
    weight = max(0.0, 1 - 1 / max(1.0, share * len(values)))
    mean, mass, out = 0.0, 0.0, []
    for value in values:
        mean, mass = weight * mean + (1 - weight) * value, weight * mass + (1 - weight)
        out.append(mean / mass)
    return out


def thin(records: Sequence[dict[str, Any]], most: int = 1500) -> list[dict[str, Any]]:
    """At most about `most` records, evenly spaced, the last one always: a page stays small however long the run."""
    stride = max(1, -(-len(records) // most))
    kept = list(records[::stride])
    return kept if not records or kept[-1] is records[-1] else [*kept, records[-1]]
