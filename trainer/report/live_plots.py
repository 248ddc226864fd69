"""Charts of a page that can be pointed at and zoomed, in the page's own file: Bokeh's script lies in it, compressed.

The pictures stay below: they are what is seen where scripts do not run, by readers of mail, and on paper.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cache
from html import escape
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from trainer.report.plots import Bar, Curve, Picture, Plot, Span, address, svg

LIBRARY = {"bokeh": "bokeh.min.js", "bokeh-api": "bokeh-api.min.js"}  # as the package brings them
OWN = Path(__file__).parent / "static"
DESCRIBED = 8  # lines of a plot, at most, in words


@dataclass(frozen=True)
class Live:
    """What a page needs beside its pictures: HTML for its end, and the hashes of all that may run in it."""

    html: str = ""
    hashes: tuple[str, ...] = ()


def pictures(plots: Sequence[Plot], drawn: Sequence[str] = (), first: int = 0) -> str:
    """The plots side by side, each a picture that `live` can replace.

    drawn: the pictures, as `data:` addresses, where they are not those of `svg`; first: the place of the first of them
    among all plots of the page."""
    each = (
        f'<figure><img alt="{escape(described(plot))}" data-plot="{number}" src="{address}"></figure>'
        for number, (plot, address) in enumerate(zip(plots, drawn or map(svg, plots), strict=True), first)
    )
    return f'<div class="plots">{"".join(each)}</div>' if plots else ""


def figures(some: Sequence[Picture], first: int = 0) -> str:
    """As `pictures`, of plots that are drawn already."""
    return pictures([one.plot for one in some], [address(one.svg) for one in some], first)


def described(plot: Plot) -> str:
    """A plot in words, for those who do not see it: its title, its axes, and from where to where each line goes."""
    if plot.bars:
        said = "; ".join(f"{bar.name} {bar.text or f'{bar.value:.4g}'}" for bar in plot.bars)
        return f"{plot.title}. Bars, {plot.x_label}: {said}."
    axes = f"{plot.y_label or 'value'} against {plot.x_label}{', both logarithmic' * (plot.x_log and plot.y_log)}"
    named = [curve for curve in plot.curves if curve.label] or plot.curves
    known = [(curve.label, y) for curve in named if (y := [value for value in curve.y if math.isfinite(value)])]
    lines = [f"{label} from {y[0]:.4g} to {y[-1]:.4g}".strip() for label, y in known[:DESCRIBED]]
    if len(known) > DESCRIBED:
        lines.append(f"and {len(known) - DESCRIBED} more")
    return f"{plot.title}. {axes}{': ' * bool(lines)}{'; '.join(lines)}."


def live(plots: Sequence[Plot]) -> Live:
    """The scripts and numbers that turn the pictures of the same plots into charts; nothing where there are none, or no
    bokeh."""
    drawn = [_plain(number, plot) for number, plot in enumerate(plots)]
    folder = bokeh_scripts()
    if not drawn or folder is None:
        return Live()
    own = "\n".join((OWN / name).read_text() for name in ("chart.js", "plots.js"))
    numbers = json.dumps(drawn, ensure_ascii=True, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
    parts = [f'<script type="application/json" id="plots">{numbers}</script>']
    hashes = [_hash(own.encode())]
    for name in LIBRARY:
        packed, digest = _packed(name, folder)
        parts.append(f'<script type="text/plain" id="{name}">{packed}</script>')
        hashes.append(digest)
    parts.append(f'<script type="module">{own}</script>')
    return Live("\n".join(parts), tuple(hashes))


def _plain(number: int, plot: Plot) -> dict[str, object]:
    """The plot for plots.js."""
    parts = {name: [_stated(one) for one in getattr(plot, name)] for name in ("curves", "bars", "spans")}
    return {"number": number, **_stated(plot), **parts, "x_ticks": list(plot.x_ticks.items())}


def _stated(one: Plot | Curve | Span | Bar) -> dict[str, object]:
    """The fields that hold something; numbers of seven digits, null for one that is not finite."""
    values = {known.name: getattr(one, known.name) for known in fields(one)}
    return {name: _rounded(value) for name, value in values.items() if value or isinstance(value, int | float)}


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.7g}") if math.isfinite(value) else None
    if isinstance(value, list | tuple):
        return [_rounded(one) for one in value]
    return value


def bokeh_scripts() -> Path | None:
    """The folder of bokeh's scripts, found without importing it, which takes half a second; None without bokeh."""
    spec = find_spec("bokeh")
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(spec.submodule_search_locations[0]) / "server" / "static" / "js"


@cache
def _packed(name: str, folder: Path) -> tuple[str, str]:
    """A script of the library, compressed, as text; and its hash. The same bytes give the same text."""
    content = (folder / LIBRARY[name]).read_bytes().decode().encode()
    return base64.b64encode(gzip.compress(content, 9, mtime=0)).decode(), _hash(content)


def _hash(content: bytes) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(content).digest()).decode()
