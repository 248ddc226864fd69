"""The table of `isoflop lab`: a column a model; what it is, what it learned beside counting, what it cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import reduce
from operator import add
from pathlib import Path
from statistics import mean
from typing import Any

from trainer.books import PriceTag
from trainer.books.formatting import format_amount, format_quantity, format_value
from trainer.books.quantity import Quantity, not_stated
from trainer.report.run_data import RunData
from trainer.run_folder import RunFolder
from trainer.scaling.grid import Ended
from trainer.scaling.grid.results import Results, Row, Score, finished_run

PRICES = {  # row of the price tag -> its name and unit
    "time.wall": ("time", "s"),
    "energy.kwh": ("energy", "kWh"),
    "carbon.kgco2e": ("carbon", "kg CO2e"),
    "cost.amount": ("money", ""),
}
COUNTED = {"uniform": "untrained, all tokens alike", "unigram": "counting tokens", "bigram": "counting pairs"}
Price = dict[str, tuple[Quantity, Quantity]]  # key -> planned, measured


@dataclass(frozen=True)
class Model:
    """One column. Losses are means over seeds, in nats; None: not known."""

    row: Row
    preset: str
    objective: str
    tokens: float | None  # read by each run
    flop: float | None  # of each run
    held_out: float | None  # nats a target, of its own objective
    unigram: float | None  # of counting, over the same targets
    ending: float | None  # nats a token, of the same tokens for all
    price: Price = field(default_factory=dict)  # pre-training and tuning over all seeds


@dataclass(frozen=True)
class Lab:
    """The table. counted: nats a token of the same endings by counting the training text."""

    title: str
    seeds: int
    models: list[Model]
    counted: dict[str, float]
    baselines: dict[str, dict[str, float]]  # task -> plain method -> score
    currency: str | None
    unfinished: list[str]


def read_lab(ended: Ended, results: Results) -> Lab:
    """Read the runs that have finished, and score their newest checkpoints on the same endings."""
    scores, counted = _endings([cell.run.folder.path for cell in ended.trained if finished_run(cell.run.folder.path)])
    models = []
    for row in results.rows:
        cells = [cell for cell in ended.trained if cell.objective == row.objective]
        tuned = [trial.run.folder.path for trial in ended.tuned if trial.cell.objective == row.objective]
        runs = [run for cell in cells if (run := finished_run(cell.run.folder.path)) is not None]
        last = [run.steps.evaluations[-1] for run in runs if run.steps.evaluations]
        everything = [*runs, *(run for path in tuned if (run := finished_run(path)) is not None)]
        model = Model(
            row,
            preset=cells[0].run.config.model.name,
            objective=cells[0].run.config.objective.name,
            tokens=_of_each(row.costs["tokens"], len(runs)),
            flop=_of_each(row.costs["flop"], len(runs)),
            held_out=_mean([one.get("loss") for one in last]),
            unigram=_mean([one.get("unigram_loss") for one in last]),
            ending=_mean([scores.get(run.run) for run in runs]),
            price={key: _price(everything, key) for key in PRICES},
        )
        models.append(model)
    unfinished = [name for row in results.rows for name in row.unfinished]
    grid = results.grid
    return Lab(grid.title, len(grid.seeds), models, counted, results.baselines, results.currency, unfinished)


def _endings(runs: Sequence[Path]) -> tuple[dict[Path, float | None], dict[str, float]]:
    """(run -> nats a token, counting model -> nats a token), both of the same tokens; of no runs nothing."""
    from trainer.data import prepare
    from trainer.evaluate.endings import count_endings, endings, score_endings
    from trainer.generation.loaded_model import Trained

    scores: dict[Path, float | None] = {}
    counted: dict[str, float] = {}
    for run in runs:
        prepared, trained = prepare(RunFolder(run).load_config()), Trained.load(run)
        pairs = endings(trained, prepared)
        scores[run] = score_endings(trained, pairs)
        counted = counted or (count_endings(prepared, pairs) if pairs else {})
    return scores, counted


def _of_each(total: float | None, runs: int) -> float | None:
    return None if total is None or not runs else total / runs


def _mean(values: Sequence[float | None]) -> float | None:
    """Of those that are known; None where none is."""
    known = [value for value in values if value is not None]
    return mean(known) if known else None


def _price(runs: Sequence[RunData], key: str) -> tuple[Quantity, Quantity]:
    """(planned, measured) of all these runs; not stated where one of them does not state it."""
    return _sum([run.tag for run in runs], key, "planned"), _sum([run.tag for run in runs], key, "measured")


def _sum(tags: Sequence[PriceTag], key: str, column: str) -> Quantity:
    each = [getattr(tag[key], column) or not_stated() for tag in tags]
    return reduce(add, each) if each else not_stated()


# --- as text ---


def lab_rows(lab: Lab) -> list[list[str]]:
    """Rows of cells, a column a model behind the names of the rows; the first row names the models."""
    models = lab.models
    rows = [
        ["", *(model.row.objective for model in models)],
        ["model", *(model.preset for model in models)],
        ["family", *(model.row.family for model in models)],
        ["objective", *(model.objective for model in models)],
        ["parameters", *(f"{model.row.parameters:,}" for model in models)],
        ["FLOP of each run", *(_amount(model.flop, "FLOP") for model in models)],
        ["tokens read", *(_amount(model.tokens, "") for model in models)],
        ["tokens that bear loss", *(_share(model) for model in models)],
        ["held-out loss, nats a target", *(_nats(model.held_out) for model in models)],
        ["  counting the same targets", *(_nats(model.unigram) for model in models)],
        ["  below counting", *(_below(model) for model in models)],
        ["same endings, nats a token", *(_nats(model.ending) for model in models)],
        *([f"  {said}", *[_nats(lab.counted.get(name))] * len(models)] for name, said in COUNTED.items()),
    ]
    for task in models[0].row.scores:
        rows.append([f"{task}, tuned, %", *(_score(model.row.scores[task]) for model in models)])
        for method, score in lab.baselines.get(task, {}).items():
            rows.append([f"  {method}", *[f"{100 * score:.1f}"] * len(models)])
    for key, (name, unit) in PRICES.items():
        unit = lab.currency or "" if key == "cost.amount" else unit
        for column, number in (("planned", 0), ("measured", 1)):
            amounts = [_short(model.price[key][number], unit) for model in models]
            rows.append([f"{name}, {column}", *amounts])
    return rows


def _amount(value: float | None, unit: str) -> str:
    return "not stated" if value is None else format_amount(value, unit)


def _short(quantity: Quantity, unit: str) -> str:
    """An amount without its interval, which is in the JSON; a lower bound says that it is one."""
    bound = quantity.low is not None and quantity.high is None
    return format_quantity(quantity, unit) if bound else format_value(quantity, unit)


def _nats(value: float | None) -> str:
    return "not stated" if value is None else f"{value:.3f}"


def _share(model: Model) -> str:
    targets = model.row.targets_per_step
    return "not stated" if targets is None else f"{targets / model.row.tokens_per_step:.0%}"


def _below(model: Model) -> str:
    if model.held_out is None or not model.unigram:
        return "not stated"
    return f"{1 - model.held_out / model.unigram:.1%}"


def _score(score: Score | None) -> str:
    if score is None:
        return "not stated"
    half = "" if score.half_width is None else f" ±{100 * score.half_width:.1f}"
    return f"{100 * score.mean:.1f}{half}"


def lab_notes(lab: Lab) -> list[str]:
    """What must be read with the table."""
    seeds = f"{lab.seeds} seed{'s' * (lab.seeds != 1)}"
    lines = [
        f"Every pre-training run has the same FLOPs by the books; numbers are means over {seeds}, ± is Student's 95% "
        "interval.",
        "Held-out losses are of each objective's own targets, and not of one kind: BART may copy what its encoder "
        "read. Beside each stands a model that only counts the same targets.",
        "Endings are the same tokens for all: the last quarter of held-out passages. A decoder and an encoder-decoder "
        "write it behind the rest; an encoder also reads what follows each token, which is easier.",
        "The price is that of pre-training and tuning over all seeds.",
    ]
    if any(model.price[key][1].value is None for model in lab.models for key in ("carbon.kgco2e", "cost.amount")):
        place = "site=de-2023 site.price_per_kwh=0.30 site.currency=EUR site.price_date=2026-11"
        lines.append(f"Carbon and money are not stated, for nobody said where this is; e.g. isoflop lab {place}")
    if lab.unfinished:
        lines.append(f"Not in the table, for they have not finished: {', '.join(lab.unfinished)}.")
    return lines


def format_lab(lab: Lab) -> str:
    """Aligned text for a terminal."""
    rows = lab_rows(lab)
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "  ".join([row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))]).rstrip()
        for row in rows
    ]
    return "\n".join([lab.title, *lines, "", *lab_notes(lab)])


def lab_markdown(lab: Lab, command: str) -> str:
    """The same as a page, with the command that made it."""
    head, *rows = [f"| {' | '.join(cell.strip() or ' ' for cell in row)} |" for row in lab_rows(lab)]
    notes = [f"- {note}" for note in lab_notes(lab)]
    rule = "|---|" + "---:|" * len(lab.models)
    return "\n".join([f"# {lab.title}", "", head, rule, *rows, "", *notes, "", f"Made by `{command}`.", ""])


def lab_json(lab: Lab) -> dict[str, Any]:
    """The table as plain data."""

    def plain(model: Model) -> dict[str, Any]:
        score = {name: None if one is None else asdict(one) for name, one in model.row.scores.items()}
        price = {
            key: {"planned": planned.to_json(), "measured": measured.to_json()}
            for key, (planned, measured) in model.price.items()
        }
        of_row = {"name": model.row.objective, "family": model.row.family, "parameters": model.row.parameters}
        own = {name: value for name, value in vars(model).items() if name not in ("row", "price")}
        return of_row | own | {"targets_per_step": model.row.targets_per_step, "scores": score, "price": price}

    return {
        "title": lab.title,
        "seeds": lab.seeds,
        "models": [plain(model) for model in lab.models],
        "endings_by_counting": lab.counted,
        "baselines": lab.baselines,
        "currency": lab.currency,
        "unfinished": lab.unfinished,
    }
