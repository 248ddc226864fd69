"""A comparison as text."""

from __future__ import annotations

from trainer.books.formatting import format_amount
from trainer.scaling.compare.comparison import Comparison
from trainer.scaling.statistics import mean_interval

WIDEST = 24  # characters of a cell
UNITS = {"tokens": "", "flop": "FLOP", "kwh": "kWh", "gco2e": "g CO2e", "seconds": "s"}
METRICS = {"loss": "held-out loss, nats", "bits_per_byte": "held-out bits per byte"}


def table_of(found: Comparison) -> list[list[str]]:
    """Rows of cells: settings that differ, then scores, then what was spent; a column a group."""
    rows = [["", *(group.label for group in found.groups), ""]]
    rows += [[line.key, *line.values, line.kind] for line in found.differences]
    rows.append(["finished seeds", *(str(len(scores)) for scores in found.scores), ""])
    rows.append([METRICS[found.metric], *map(_score, found.scores), "mean and 95% interval"])
    for axis, unit in UNITS.items():
        amounts = [spent[axis] for spent in found.spent]
        if any(amount is not None for amount in amounts):
            cells = [format_amount(amount, unit) if amount is not None else "not stated" for amount in amounts]
            rows.append([axis, *cells, "mean of a run"])
    return rows


def _score(scores: list[float]) -> str:
    if not scores:
        return "none"
    mean, half = mean_interval(scores)
    return f"{mean:.4f}" + ("" if half is None else f" +- {half:.4f}")


def format_comparison(found: Comparison) -> str:
    """The table, then one line a verdict."""
    rows = [[_cut(cell) for cell in row] for row in table_of(found)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    lines += ["", *verdict_lines(found), *found.notes]
    return "\n".join(lines)


def verdict_lines(found: Comparison) -> list[str]:
    """One line a comparison with the first group; or how large the seed noise is, where there is but one group."""
    if found.verdicts:
        return [f"{one.label} against {found.groups[0].label}: {one.text}" for one in found.verdicts]
    scores = found.scores[0]
    if len(scores) < 2:
        return ["these runs differ in the seed alone, and fewer than two have finished"]
    return [f"these runs differ in the seed alone: from {min(scores):.4f} to {max(scores):.4f}, which is seed noise"]


def _cut(cell: str) -> str:
    return cell if len(cell) <= WIDEST else cell[: WIDEST - 3] + "..."
