"""Pictures in one style, and plots as SVG images that live inside a page."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

BLUE, ORANGE, GREY, PALE = "#2563ab", "#c2571a", "#8a8f98", "#c9d4e3"


@dataclass(frozen=True)
class Curve:
    """One line of a plot."""

    label: str
    x: Sequence[float]
    y: Sequence[float]
    colour: str = BLUE
    style: str = "-"
    marker: str = ""
    stairs: bool = False  # a value holds from the point before on


@dataclass(frozen=True)
class Plot:
    """One pair of axes: curves, or horizontal bars by name."""

    title: str
    x_label: str
    y_label: str
    curves: list[Curve] = field(default_factory=list)
    bars: dict[str, float] = field(default_factory=dict)
    from_zero: bool = False


def svg(plot: Plot) -> str:
    """The plot as a `data:` address of an SVG image; equal plots give equal text."""
    with canvas() as (figure, axes):
        if plot.bars:
            _draw_bars(axes, plot.bars)
        for curve in plot.curves:
            style: Any = {"color": curve.colour, "marker": curve.marker, "markersize": 3, "label": curve.label}
            axes.plot(curve.x, curve.y, curve.style, drawstyle="steps-pre" if curve.stairs else "default", **style)
        label_axes(axes, plot.title, plot.x_label, plot.y_label)
        if plot.bars:
            axes.grid(False, axis="y")
        else:
            axes.xaxis.set_major_formatter(prefixes())
            axes.yaxis.set_major_formatter(prefixes())
        if plot.from_zero:
            axes.set_ylim(bottom=0)
        if len(plot.curves) > 1:
            axes.legend(frameon=False, fontsize=8)
        return address(drawn(figure, "svg"))


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


def _draw_bars(axes: Any, bars: dict[str, float]) -> None:
    total = sum(bars.values()) or 1.0
    names, values = list(bars)[::-1], list(bars.values())[::-1]
    drawn = axes.barh(names, values, color=BLUE, height=0.6)
    axes.bar_label(drawn, labels=[f" {value:.3g} ({100 * value / total:.0f} %)" for value in values], fontsize=8)
    axes.margins(x=0.25)


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
