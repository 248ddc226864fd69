"""What changes along a run, as a picture: `isoflop plan --curves`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from trainer.config import Config
from trainer.report.plots import BLUE, GREY, ORANGE, canvas, drawn, label_axes, prefixes
from trainer.report.schedules import COLUMNS, PieceRow, value_at

Axis = Literal["steps", "tokens"]
HEIGHT, WIDTH = 1.75, 7.2  # of a panel, inches
POINTS = 400  # of a curve, beside the ends of its pieces
NARROW = 0.09  # share of the axis below which a piece has no room for its name


def picture(config: Config, rows: Sequence[PieceRow], steps: int, axis: Axis, kind: Literal["svg", "png"]) -> bytes:
    """A panel for each thing that changes along a run of `steps`, with its pieces marked; as a file of this kind."""
    things = list(dict.fromkeys(row.of for row in rows))
    with canvas(WIDTH, 0.7 + HEIGHT * len(things)) as (figure, first):
        first.remove()
        panels = figure.subplots(len(things), sharex=True, squeeze=False)[:, 0]
        for panel, thing in zip(panels, things, strict=True):
            _draw(panel, config, [row for row in rows if row.of == thing], steps, axis)
        panels[-1].set_xlabel("optimizer steps" if axis == "steps" else "training tokens")
        panels[-1].xaxis.set_major_formatter(prefixes())
        return drawn(figure, kind)


def _draw(panel: Any, config: Config, rows: Sequence[PieceRow], steps: int, axis: Axis) -> None:
    name, curriculum = rows[0].of, config.curriculum
    stairs = name in ("batch_size", "sequence_length")
    at = _sampled_steps(rows, config, steps)
    values = [value_at(config, name, step, steps) for step in at]
    # A size holds from the first token of its steps on; the others are there with the last token of a step.
    made = at if stairs else [step + 1 for step in at]
    x = [float(count if axis == "steps" else curriculum.tokens(count)) for count in made]
    end = float(steps if axis == "steps" else curriculum.tokens(steps))
    if stairs:
        x, values = [*x, end], [*values, values[-1]]
    panel.plot(x, values, color=BLUE, linewidth=1.6, drawstyle="steps-post" if stairs else "default")
    label_axes(panel, COLUMNS[name][0], "", "")
    panel.set_xlim(0, end)
    panel.margins(y=0.12)
    low, high = min(values), max(values)
    panel.set_ylim(bottom=min(0.0, low) if low < 0.7 * high else low - 0.3 * (high - low or 0.1 * high))
    panel.set_ylim(top=high + 0.22 * (high - panel.get_ylim()[0]))
    for row in rows:
        begin, stop = (row.first_step, row.last_step) if axis == "steps" else (row.first_token, row.last_token)
        if begin:
            panel.axvline(begin, color=ORANGE, linewidth=0.8, linestyle=(0, (4, 3)))
        if stop - begin >= NARROW * end:
            middle = (begin + stop) / 2
            said = f"{row.first_value:g}" if stairs and row.shape == "constant" else row.shape
            panel.text(
                middle,
                0.97,
                said,
                transform=panel.get_xaxis_transform(),
                ha="center",
                va="top",
                fontsize=8,
                color=GREY,
            )


def _sampled_steps(rows: Sequence[PieceRow], config: Config, steps: int) -> list[int]:
    """Steps, evenly spaced, with the first and the last of every piece and of every shape."""
    stride = max(1, steps // POINTS)
    ends = {step for row in rows for step in (row.first_step, row.last_step - 1)}
    ends |= {one.first for one in config.curriculum.stretches if one.first < steps}
    return sorted({*range(0, steps, stride), *ends, steps - 1})
