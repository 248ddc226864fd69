"""The table of a grid as text and as Markdown, in the shape of BART's "Comparison of pre-training objectives".

Lewis et al. 2020, table 1: a row an objective, a column a task, the best of a column in bold.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from trainer.books.formatting import format_amount
from trainer.books.run_length import run_steps, run_tokens
from trainer.config import GridConfig
from trainer.scaling.grid.efficiency import ObjectiveEfficiency
from trainer.scaling.grid.efficiency_text import factor_notes, factor_table, factor_title
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
    sized = ["size"] if results.sizes else []
    table = [[*sized, "objective", "family", "steps", "targets per step", *heads, *(f"{name}" for name in costs)]]
    for row in results.rows:
        scores = [_score(row.scores[name], tasks[name].score, bold) for name in tasks]
        prices = [_amount(_both(row, name), COSTS[name]) for name in costs]
        own = [row.size] if row.size is not None else []
        table.append([*own, row.objective, row.family, f"{row.steps:,}", _targets(row), *scores, *prices])
    for method in dict.fromkeys(method for methods in results.baselines.values() for method in methods):
        cells = [_plain(results.baselines.get(name, {}).get(method), tasks[name].score) for name in tasks]
        table.append([*[""] * len(sized), method, "no pre-training", "", "", *cells, *[""] * len(costs)])
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
    seeds = f"{len(grid.seeds)} seed{'s' * (len(grid.seeds) != 1)}"
    at_size = " at each size" if grid.sizes else ""
    lines = [
        f"Every pre-training run has {_budget(grid)}, counted by the books for its own forward shape. "
        f"Mean and 95% Student interval over {seeds}; the best mean of a column{at_size} is bold.",
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


def _budget(grid: GridConfig) -> str:
    """The budget in words: one, or one for each size."""
    name, amount = grid.amount()
    if name == "tokens_per_parameter":
        return f"the FLOPs that {amount:g} tokens a parameter take the first objective's model of its size"
    unit = {"flop": "FLOP", "kwh": "kWh", "tokens": "tokens"}[name]
    amounts = [grid.amount(number)[1] for number in range(max(1, len(grid.sizes)))]
    said = list(dict.fromkeys(format_amount(one, unit) for one in amounts))
    return f"{', '.join(said[:-1])} or {said[-1]} by its size" if len(said) > 1 else said[0]


def format_plan(grid: GridConfig, cells: Sequence[Cell]) -> str:
    """The pre-training runs that a grid stands for: a line an objective of each size."""
    from trainer.books import flops, parameters

    longest = max([0, *(len(cell.size) + 2 for cell in cells if cell.size is not None)])
    head = f"{'size':<{longest}}" if longest else ""
    lines = [f"{head}{'objective':<24}{'family':<17}{'parameters':>11}{'steps':>8}{'tokens':>12}{'FLOP':>12}"]
    for cell in {(cell.size, cell.objective): cell for cell in cells}.values():
        config, size = cell.run.config, f"{cell.size or '':<{longest}}"
        shape = f"{FAMILIES[config.model.family]:<17}{parameters(config).total:>11,}"
        lines.append(
            f"{size}{cell.objective:<24}{shape}{run_steps(config):>8,}{run_tokens(config):>12,}{flops(config).total:>12.4g}"
        )
    total = sum(flops(cell.run.config).total for cell in cells)
    tasks = f"{len(grid.tasks)} task{'s' * (len(grid.tasks) != 1)}: {', '.join(grid.tasks)}"
    lines.append(f"{len(cells)} pre-training runs, {total:.4g} FLOP in all; each is then tuned on {tasks}")
    return "\n".join(lines)


def format_results(results: Results, efficiency: Sequence[ObjectiveEfficiency] = ()) -> str:
    """Aligned text for a terminal; the best of a column between stars."""
    lines = [results.grid.title, *_aligned(table_of(results, lambda text: f"*{text}*")), ""]
    if factors := factor_table(results, efficiency):
        lines += [factor_title(results), *_aligned(factors), ""]
    return "\n".join([*lines, *notes(results), *factor_notes(results, efficiency)])


def _aligned(table: list[list[str]]) -> list[str]:
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in table]


def markdown(results: Results, command: str, efficiency: Sequence[ObjectiveEfficiency] = ()) -> str:
    """The same as a page, with the command that made it."""
    lines = [f"# {results.grid.title}", "", *_piped(table_of(results, lambda text: f"**{text}**"))]
    if factors := factor_table(results, efficiency):
        lines += ["", f"## {factor_title(results)}", "", *_piped(factors)]
    said = [*notes(results), *factor_notes(results, efficiency)]
    lines += ["", *(f"- {note}" for note in said), ""]
    if results.sizes:
        lines += ["![scores, and scores over what they cost](grid.png)", ""]
    commit = f" at commit {results.commit[:12]}" if results.commit else ""
    return "\n".join([*lines, f"Made by `{command}`{commit}.", ""])


def _piped(table: list[list[str]]) -> list[str]:
    lines = ["| " + " | ".join(row) + " |" for row in table]
    return [lines[0], "|" + "---|" * len(table[0]), *lines[1:]]
