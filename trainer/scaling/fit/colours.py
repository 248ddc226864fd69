"""Colours and marks that tell sizes, budgets and forms apart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from trainer.report.plots import Curve
from trainer.scaling.fit.text import big

# Okabe and Ito's palette: eight colours that also people with colour blindness tell apart; yellow is left out, which
# nobody sees on white.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
MOST_IN_LEGEND = 8


def colours(count: int) -> list[str]:
    """So many colours, of smallest to largest: distinct ones for a few, a scale for many."""
    if count <= len(COLOURS):
        return list(COLOURS[:count])
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    return [to_hex(colormaps["turbo"](share)) for share in np.linspace(0.95, 0.05, count)]


def by_size(x: np.ndarray, y: np.ndarray, sizes: np.ndarray, names: Sequence[str]) -> list[Curve]:
    """Points by size, smallest first, with at most eight sizes in the legend. All are [n], names those of the runs."""
    kinds = np.unique(sizes)
    shown = set(kinds[np.unique(np.linspace(0, len(kinds) - 1, MOST_IN_LEGEND).round().astype(int))])
    few = len(kinds) <= len(MARKERS)
    curves = []
    for number, (size, colour) in enumerate(zip(kinds, colours(len(kinds)), strict=True)):
        here = np.flatnonzero(sizes == size)
        here = here[np.argsort(x[here], kind="stable")]
        said = [f"{names[place]} ({big(size)})" for place in here.tolist()]
        look: Any = {
            "colour": colour,
            "style": "",
            "marker": MARKERS[number] if few else "o",
            "size": 3.8,
            "names": said,
        }
        label = big(size) if size in shown else ""
        curves.append(Curve(label, x[here].tolist(), y[here].tolist(), **look))
    return curves
