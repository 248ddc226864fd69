"""Colours and marks that tell sizes, budgets and forms apart."""

from __future__ import annotations

from typing import Any

import numpy as np

from trainer.scaling.fit.text import big

# Okabe and Ito's palette: eight colours that also people with colour blindness tell apart; yellow is left out, which
# nobody sees on white.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
MOST_IN_LEGEND = 8


def colours(count: int) -> list[Any]:
    """So many colours, of smallest to largest: distinct ones for a few, a scale for many."""
    if count <= len(COLOURS):
        return list(COLOURS[:count])
    from matplotlib import colormaps

    return [colormaps["turbo"](share) for share in np.linspace(0.95, 0.05, count)]


def by_size(axes: Any, x: np.ndarray, y: np.ndarray, sizes: np.ndarray) -> None:
    """Points by size, smallest first, with at most eight sizes in the legend."""
    kinds = np.unique(sizes)
    shown = set(kinds[np.unique(np.linspace(0, len(kinds) - 1, MOST_IN_LEGEND).round().astype(int))])
    few = len(kinds) <= len(MARKERS)
    for number, (size, colour) in enumerate(zip(kinds, colours(len(kinds)), strict=True)):
        here = sizes == size
        label = big(size) if size in shown else None
        axes.plot(x[here], y[here], MARKERS[number] if few else "o", color=colour, markersize=3.8, label=label)


def legend(axes: Any) -> None:
    if axes.get_legend_handles_labels()[1]:
        axes.legend(frameon=False, fontsize=7.5, handlelength=1.4)
