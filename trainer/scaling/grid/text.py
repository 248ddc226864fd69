"""The table of a grid as text and as Markdown, in the shape of BART's "Comparison of pre-training objectives".

Lewis et al. 2020, table 1: a row an objective, a column a task, the best of a column in bold.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from trainer.books.formatting import format_amount
from trainer.books.run_length import run_steps, run_tokens
from trainer.config import GridConfig
from trainer.scaling.grid.plan import Cell
from trainer.scaling.grid.results import FAMILIES, Results, Row, Score

COSTS = {"flop": "FLOP", "seconds": "s", "kwh": "kWh", "kgco2e": "kg CO2e"}
Bold = Callable[[str], str]


def table_of(results: Results, bold: Bold) -> list[list[str]]:
    """Rows of cells, the titles first."""
    tasks = results.grid.tasks
    arrows = {name: "" if not task.lower_is_better else " (less is better)" for name, task in tasks.items()}
    heads = [f"{name}, {task.score}{arrows[name]}" for name, task in tasks.items()]
    costs = [name for name in COSTS if any(row.costs[name] is not None for row in results.rows)]
    table = [["objective", "family", "steps", "targets per step", *heads, *(f"{name}" for name in costs)]]
    for row in results.rows:
        scores = [_score(row.scores[name], tasks[name].score, bold) for name in tasks]
        prices = [_amount(_both(row, name), COSTS[name]) for name in costs]
        table.append([row.objective, row.family, f"{row.steps:,}", _targets(row), *scores, *prices])
    for method in dict.fromkeys(method for methods in results.baselines.values() for method in methods):
        cells = [_plain(results.baselines.get(name, {}).get(method), tasks[name].score) for name in tasks]
        table.append([method, "no pre-training", "", "", *cells, *[""] * len(costs)])
    return table


def _targets(row: Row) -> str:
    if row.targets_per_step is None:
        return "not stated"
    return f"{row.targets_per_step:,.0f} ({row.targets_per_step / row.tokens_per_step:.0%})"


def _score(score: Score | None, kind: str, bold: Bold) -> str:
    if score is None:
        return "-"
    half = "" if score.half_width is None else f" ±{_plain(score.half_width, kind)}"
    text = f"{_plain(score.mean, kind)}{half}"
    return bold(text) if score.best else text


def _plain(value: float | None, kind: str) -> str:
    """Shares as percentages, as papers print them."""
    if value is None:
        return "-"
    return f"{value:.1f}" if kind == "perplexity" else f"{100 * value:.1f}"


def _both(row: Row, name: str) -> float | None:
    parts = [row.costs[name], row.tuning_costs[name]]
    return None if None in parts else sum(part for part in parts if part is not None)


def _amount(value: float | None, unit: str) -> str:
    return "not stated" if value is None else format_amount(value, unit)


def notes(results: Results) -> list[str]:
    """What must be read with the table."""
    grid = results.grid
    budget = next((grid_value, unit) for grid_value, unit in _budgets(results) if grid_value is not None)
    seeds = f"{len(grid.seeds)} seed{'s' * (len(grid.seeds) != 1)}"
    lines = [
        f"Every pre-training run has {format_amount(*budget)}, counted by the books for its own forward shape. "
        f"Mean and 95% Student interval over {seeds}; the best mean of a column is bold.",
        "Targets per step: tokens that bear loss, and their share of the tokens of a step.",
        "The price of a row is that of its pre-training and tuning over all seeds.",
    ]
    total = ", ".join(_amount(results.total(name), unit) for name, unit in COSTS.items() if results.total(name))
    lines.append(f"The table in all: {total or 'price not stated'}.")
    if results.other_numerics:
        names = ", ".join(results.other_numerics[:8]) + (" and more" if len(results.other_numerics) > 8 else "")
        lines.append(f"Left out, for they are of other numerics than {results.numerics}: {names}.")
    absent = [name for row in results.rows for name in row.unfinished if name not in results.other_numerics]
    if absent:
        more = f" and {len(absent) - 8} more" if len(absent) > 8 else ""
        lines.append(f"Not in the table, for they have not finished: {', '.join(absent[:8])}{more}.")
    return lines


def _budgets(results: Results) -> Sequence[tuple[float | None, str]]:
    grid = results.grid
    return (grid.flop, "FLOP"), (grid.kwh, "kWh"), (grid.tokens, "tokens")  # type: ignore[return-value]


def format_plan(grid: GridConfig, cells: Sequence[Cell]) -> str:
    """The pre-training runs that a grid stands for: a line an objective."""
    from trainer.books import flops, parameters

    lines = [f"{'objective':<24}{'family':<17}{'parameters':>11}{'steps':>8}{'tokens':>12}{'FLOP':>12}"]
    for cell in {cell.objective: cell for cell in cells}.values():
        config = cell.run.config
        shape = f"{FAMILIES[config.model.family]:<17}{parameters(config).total:>11,}"
        lines.append(
            f"{cell.objective:<24}{shape}{run_steps(config):>8,}{run_tokens(config):>12,}{flops(config).total:>12.4g}"
        )
    total = sum(flops(cell.run.config).total for cell in cells)
    tasks = f"{len(grid.tasks)} task{'s' * (len(grid.tasks) != 1)}: {', '.join(grid.tasks)}"
    lines.append(f"{len(cells)} pre-training runs, {total:.4g} FLOP in all; each is then tuned on {tasks}")
    return "\n".join(lines)


def format_results(results: Results) -> str:
    """Aligned text for a terminal; the best of a column between stars."""
    table = table_of(results, lambda text: f"*{text}*")
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in table]
    return "\n".join([results.grid.title, *lines, "", *notes(results)])


def markdown(results: Results, command: str) -> str:
    """The same as a page, with the command that made it."""
    table = table_of(results, lambda text: f"**{text}**")
    lines = [f"# {results.grid.title}", "", *("| " + " | ".join(row) + " |" for row in table)]
    lines.insert(3, "|" + "---|" * len(table[0]))
    lines += ["", *(f"- {note}" for note in notes(results)), ""]
    commit = f" at commit {results.commit[:12]}" if results.commit else ""
    return "\n".join([*lines, f"Made by `{command}`{commit}.", ""])
