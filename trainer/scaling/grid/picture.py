"""The table of a grid as a picture: one pair of axes a task, a dot and its interval an objective."""

from __future__ import annotations

from typing import Any

from trainer.report.plots import BLUE, GREY, ORANGE, PALE, canvas, drawn
from trainer.scaling.grid.results import Results

COLOURS = {"decoder": BLUE, "encoder": ORANGE, "encoder-decoder": "#3b7d4f"}


def dots(results: Results) -> tuple[bytes, bytes]:
    """(SVG, PNG)."""
    tasks, rows = results.grid.tasks, results.rows[::-1]
    with canvas(1.9 + 1.75 * len(tasks), 1.2 + 0.24 * len(rows)) as (figure, first):
        first.remove()
        panels = figure.subplots(1, len(tasks), sharey=True, squeeze=False)[0]
        for axes, (name, task) in zip(panels, tasks.items(), strict=True):
            for place, row in enumerate(rows):
                score = row.scores[name]
                if score is not None:
                    factor = 1 if task.score == "perplexity" else 100
                    _dot(axes, factor * score.mean, factor * (score.half_width or 0), place, row.family, score.best)
            for level in results.baselines.get(name, {}).values():
                axes.axvline(100 * level, color=GREY, linewidth=0.8, linestyle=":")
            unit = "perplexity, less is better" if task.lower_is_better else f"{task.score}, %"
            axes.set_title(name, loc="left", fontsize=10)
            axes.set_xlabel(unit)
            axes.grid(True, color=PALE, linewidth=0.5)
            axes.set_axisbelow(True)
            for side in ("top", "right"):
                axes.spines[side].set_visible(False)
        panels[0].set_yticks(range(len(rows)), [row.objective for row in rows])
        panels[0].set_ylim(-0.6, len(rows) - 0.4)
        figure.legend(handles=_handles(results), loc="outside lower center", ncols=4, frameon=False, fontsize=8)
        return drawn(figure, "svg"), drawn(figure, "png")


def _handles(results: Results) -> list[Any]:
    """What the colours and the lines mean."""
    from matplotlib.lines import Line2D

    families = dict.fromkeys(row.family for row in results.rows)
    dots = [Line2D([], [], color=COLOURS[name], marker="o", linestyle="", label=name) for name in families]
    plain = Line2D([], [], color=GREY, linewidth=0.8, linestyle=":", label="without pre-training")
    return [*dots, plain] if results.baselines else dots


def _dot(axes: Any, x: float, half: float, y: int, family: str, best: bool) -> None:
    colour = COLOURS[family]
    axes.errorbar([x], [y], xerr=[half], fmt="none", ecolor=colour, elinewidth=1, capsize=2)
    axes.plot([x], [y], "D" if best else "o", color=colour, markersize=6 if best else 4.5)
