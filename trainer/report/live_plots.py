"""Curves of a page that can be pointed at and zoomed, in the page's own file: Bokeh's script lies in it, compressed.

The pictures stay below: they are what is seen where scripts do not run, by readers of mail, and on paper.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from html import escape
from importlib.util import find_spec
from pathlib import Path

from trainer.report.plots import Plot, svg

LIBRARY = {"bokeh": "bokeh.min.js", "bokeh-api": "bokeh-api.min.js"}  # as the package brings them
OWN = Path(__file__).parent / "static"


@dataclass(frozen=True)
class Live:
    """What a page needs beside its pictures: HTML for its end, and the hashes of all that may run in it."""

    html: str = ""
    hashes: tuple[str, ...] = ()


def pictures(plots: Sequence[Plot], drawn: Sequence[str] = ()) -> str:
    """The plots side by side, each a picture that `live` can replace; bars are pictures alone. drawn: the pictures, as
    `data:` addresses, where they are not those of `svg`."""
    each = (
        f'<figure><img alt="{escape(plot.title)}" data-plot="{number}" src="{address}"></figure>'
        for number, (plot, address) in enumerate(zip(plots, drawn or map(svg, plots), strict=True))
    )
    return f'<div class="plots">{"".join(each)}</div>'


def live(plots: Sequence[Plot]) -> Live:
    """The scripts and numbers that turn the pictures of the same plots into curves; nothing where there are no curves,
    or no bokeh."""
    drawn = [_plain(number, plot) for number, plot in enumerate(plots) if plot.curves and not plot.bars]
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
    curves = [
        {
            "label": curve.label,
            "x": [_number(value) for value in curve.x],
            "y": [_number(value) for value in curve.y],
            "colour": curve.colour,
            "style": curve.style,
            "marker": bool(curve.marker),
            "stairs": curve.stairs,
        }
        for curve in plot.curves
    ]
    labels = {"title": plot.title, "x_label": plot.x_label, "y_label": plot.y_label}
    return {"number": number, **labels, "from_zero": plot.from_zero, "curves": curves}


def _number(value: float) -> float | None:
    return float(f"{value:.7g}") if math.isfinite(value) else None


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
