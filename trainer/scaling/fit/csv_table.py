"""A table of runs from a CSV file: also of runs that were made elsewhere."""

from __future__ import annotations

import csv
import math
import re
from pathlib import Path
from typing import NamedTuple

from trainer.books.plan import PF_DAY
from trainer.scaling.fit.table import Run, Table
from trainer.utils.bounded import read_text
from trainer.utils.errors import UserError, nearest

FLOP_PER_PARAMETER_TOKEN = 6  # C = 6 N D, where a table does not state C (Kaplan et al. 2020, section 2.1)
MOST_LINES = 12  # of errors
TABLE_BYTES = 1 << 26


class Column(NamedTuple):
    """A quantity: the headers that mean it, and the units that may stand in brackets behind them."""

    names: str
    units: dict[str, float]


_COUNTS = {"": 1.0, "k": 1e3, "m": 1e6, "b": 1e9, "t": 1e12, "millions": 1e6, "billions": 1e9, "trillions": 1e12}
COLUMNS = {
    "parameters": Column(
        "parameters n params total_parameters non_embedding_parameters model_size num_params n_params model_parameters",
        {**_COUNTS, "parameters": 1.0},
    ),
    "tokens": Column(
        "tokens d training_tokens train_tokens num_tokens n_tokens dataset_size", {**_COUNTS, "tokens": 1.0}
    ),
    "flop": Column(
        "flop c flops compute training_flop training_flops train_flops total_flops",
        {"": 1.0, "flop": 1.0, "flops": 1.0, "pf-days": PF_DAY, "pf-day": PF_DAY},
    ),
    "loss": Column(
        "loss l final_loss held_out_loss validation_loss val_loss eval_loss test_loss",
        {"": 1.0, "nats": 1.0, "nats/token": 1.0, "nats per token": 1.0, "bits": math.log(2)},
    ),
    "kwh": Column("kwh energy energy_kwh", {"": 1.0, "kwh": 1.0, "wh": 1e-3, "mwh": 1e3, "j": 1 / 3.6e6}),
    "gco2e": Column("gco2e carbon gco2 co2e", {"": 1.0, "g": 1.0, "g co2e": 1.0, "kg": 1e3, "kg co2e": 1e3, "t": 1e6}),
    "kgco2e": Column("kgco2e kgco2", {"": 1e3}),
    "money": Column("money cost price usd eur", {"": 1.0, "usd": 1.0, "eur": 1.0, "$": 1.0}),
    "name": Column("name run model id", {"": 1.0}),
    "data": Column("data dataset corpus", {"": 1.0}),
    "tokenizer": Column("tokenizer", {"": 1.0}),
    "objective": Column("objective", {"": 1.0}),
    "status": Column("status", {"": 1.0}),
    "active": Column("active active_parameters n_active active_params", {**_COUNTS, "parameters": 1.0}),
    "experts": Column("experts num_experts n_experts expert_count", {"": 1.0}),
    "unique_tokens": Column("unique_tokens unique unique_data n_unique_tokens", {**_COUNTS, "tokens": 1.0}),
    "vocabulary": Column("vocabulary vocab vocab_size vocabulary_size", {**_COUNTS, "entries": 1.0}),
    "characters": Column("characters chars n_characters", {**_COUNTS, "characters": 1.0}),
    "lr": Column("lr learning_rate peak_lr max_lr", {"": 1.0}),
    "batch": Column(
        "batch batch_size batch_tokens batch_size_tokens batch_sequences global_batch_size",
        {**_COUNTS, "tokens": 1.0, "sequences": 1.0},
    ),
    "seed": Column("seed random_seed", {"": 1.0}),
    "optimizer": Column("optimizer optim", {"": 1.0}),
    "setting": Column("setting settings", {"": 1.0}),
}
FINISHED = ("", "finished", "ok", "done", "completed")
NO_NUMBER = ("", "-", "nan", "inf", "-inf", "na", "n/a", "null", "none")  # how tables write a loss that there is not
TEXTS = ("name", "data", "tokenizer", "objective", "status", "seed", "optimizer", "setting")
BESIDE = ("active", "experts", "unique_tokens", "vocabulary", "characters", "lr", "batch")  # fields of Run as they are
OPTIONAL = ("kwh", "gco2e", "kgco2e", "money", *BESIDE)  # a cell of them may be empty
_NUMBER = re.compile(r"([+-]?(?:\d{1,3}(?:,\d{3})+|\d+)?(?:\.\d*)?(?:e[+-]?\d+)?)\s*([kmbt]?)", re.IGNORECASE)


class Header(NamedTuple):
    """Where a quantity stands in the file, and the factor to its unit."""

    title: str
    factor: float


def read_csv(path: Path, columns: dict[str, str] | None = None, *, optimal: bool = False) -> Table:
    """The runs of a CSV file (or one divided by tabs or semicolons).

    columns: quantity -> the title of its column, where the file uses a name that is not known here. optimal: the rows
    are compute-optimal models, and need no loss. Raises UserError with every wrong column and row.
    """
    titles, rows = _rows(path)
    headers = _headers(path, titles, columns or {})
    needed = ["parameters", "tokens", "flop"]
    missing = [name for name in needed if name not in headers]
    wrong = []
    if len(missing) > 1 or "parameters" in missing:
        wrong.append(_absent(path, "parameters" if "parameters" in missing else "tokens", titles))
    if "loss" not in headers and not optimal:
        hint = "; for a table of compute-optimal models, which has none, add optimal=true"
        wrong.append(_absent(path, "loss", titles) + hint)
    if wrong:
        raise UserError("\n".join(wrong))
    runs, left_out = _runs(path, rows, headers, optimal)
    counts = headers["parameters"].title
    known = counts.lower().startswith(("total", "non_embedding", "non-embedding"))
    said = "" if known else "; whether embeddings are in it, the table does not state"
    flop_rule = f"column {headers['flop'].title!r}" if "flop" in headers else "6 x parameters x tokens"
    if "tokens" not in headers:
        flop_rule += "; tokens are FLOP / (6 x parameters)"
    title = headers["money"].title.strip() if "money" in headers else ""
    currency = next((code for code in ("USD", "EUR") if code in title.upper()), title)
    counts_are, unit = f"column {counts!r}{said}", _batch_unit(headers)
    return Table(tuple(runs), counts_are, flop_rule, currency, tuple(left_out), batch_unit=unit)


def _batch_unit(headers: dict[str, Header]) -> str:
    title = headers["batch"].title.lower() if "batch" in headers else ""
    return next((unit for unit in ("tokens", "sequences") if unit in title), "")


def _rows(path: Path) -> tuple[list[str], list[tuple[int, dict[str, str]]]]:
    """The titles, and (line of the file, cells by title) of each row that is not empty."""
    text = read_text(path, TABLE_BYTES).removeprefix("\ufeff")
    first = text.partition("\n")[0]
    divider = max(",;\t", key=first.count)
    reader = csv.reader(text.splitlines(), delimiter=divider)
    try:
        lines = [(reader.line_num, cells) for cells in reader]
    except csv.Error as error:
        raise UserError(f"{path}:{reader.line_num}: no table ({error})") from None
    titles = [title.strip() for title in (lines[0][1] if lines else [])]
    if not any(titles):
        raise UserError(f"{path}: an empty table; its first line must name the columns parameters, tokens, loss")
    rows = []
    for number, cells in lines[1:]:
        if any(cell.strip() for cell in cells):
            cells += [""] * (len(titles) - len(cells))
            rows.append((number, dict(zip(titles, cells, strict=False))))
    if not rows:
        raise UserError(f"{path}: no runs under the line of titles")
    return titles, rows


def _headers(path: Path, titles: list[str], columns: dict[str, str]) -> dict[str, Header]:
    found: dict[str, Header] = {}
    for name, title in columns.items():
        if name not in COLUMNS:
            raise UserError(f"column.{name}: no such quantity{nearest(name, COLUMNS)}; there is {', '.join(COLUMNS)}")
        if title not in titles:
            raise UserError(f"{path}: no column {title!r}{nearest(title, titles)}; there is {', '.join(titles)}")
        found[name] = Header(title, _factor(path, name, title))
    for title in titles:
        bare = re.sub(r"[^a-z0-9]+", "_", re.sub(r"[(\[].*", "", title.lower())).strip("_")
        name = next((name for name, column in COLUMNS.items() if bare in column.names.split()), "")
        if not name or title in columns.values() or name in columns:
            continue
        if name in found:
            raise UserError(
                f"{path}: columns {found[name].title!r} and {title!r} both mean {name}; choose with column.{name}=..."
            )
        found[name] = Header(title, _factor(path, name, title))
    return found


def _factor(path: Path, name: str, title: str) -> float:
    """What the unit in brackets multiplies."""
    match = re.search(r"[(\[](.*?)[)\]]", title)
    unit, units = (match[1].strip().lower() if match else ""), COLUMNS[name].units
    if unit not in units:
        raise UserError(
            f"{path}: column {title!r}: unit {unit!r} is not known; there is {', '.join(filter(None, units))}"
        )
    return units[unit]


def _absent(path: Path, name: str, titles: list[str]) -> str:
    names = COLUMNS[name].names.split()
    return (
        f"{path}: no column for {name} (it may be named {', '.join(names[:4])}, or given as column.{name}=<title>); "
        f"there is {', '.join(titles)}"
    )


def _runs(
    path: Path, rows: list[tuple[int, dict[str, str]]], headers: dict[str, Header], optimal: bool
) -> tuple[list[Run], list[tuple[str, str]]]:
    runs, left_out, wrong = [], [], []
    for line, cells in rows:
        texts = {name: cells[headers[name].title].strip() for name in TEXTS if name in headers}
        name = texts.get("name") or f"row {line}"
        status = texts.get("status", "finished").lower()
        if status not in FINISHED:
            left_out.append((name, status))
            continue
        if not optimal and cells[headers["loss"].title].strip().lower() in NO_NUMBER:
            left_out.append((name, "it has no finite loss"))
            continue
        numbers: dict[str, float] = {}
        for quantity, header in headers.items():
            if quantity in TEXTS or (optimal and quantity == "loss"):
                continue
            cell = cells[header.title].strip()
            if not cell and quantity in OPTIONAL:
                continue
            value = _number(cell)
            if value is None:
                wrong.append(f"{path}: row {line}, {header.title}: {cell or 'nothing'!r} given, a number wanted")
            elif not 0 < value < math.inf:
                wrong.append(f"{path}: row {line}, {header.title}: {cell} given, a positive number wanted")
            else:
                numbers[quantity] = value * header.factor
        if not wrong:
            runs.append(_run(name, numbers, texts))
    if wrong:
        more = [f"... and {len(wrong) - MOST_LINES} more"] if len(wrong) > MOST_LINES else []
        raise UserError("\n".join(wrong[:MOST_LINES] + more))
    return runs, left_out


def _number(cell: str) -> float | None:
    """`1.2e9`, `70M`, `1,000,000`; None where it is no number."""
    match = _NUMBER.fullmatch(cell)
    if not match or not any(character.isdigit() for character in match[1]):
        return None
    return float(match[1].replace(",", "")) * _COUNTS[match[2].lower()]


def _run(name: str, numbers: dict[str, float], texts: dict[str, str]) -> Run:
    parameters, tokens, flop = (numbers.get(quantity) for quantity in ("parameters", "tokens", "flop"))
    assert parameters is not None
    if flop is None:
        assert tokens is not None
        flop = FLOP_PER_PARAMETER_TOKEN * parameters * tokens
    elif tokens is None:
        tokens = flop / (FLOP_PER_PARAMETER_TOKEN * parameters)
    return Run(
        name,
        parameters,
        tokens,
        flop,
        numbers.get("loss", math.nan),
        numbers.get("kwh"),
        numbers.get("gco2e", numbers.get("kgco2e")),
        numbers.get("money"),
        origin=tuple((what, texts[what]) for what in ("data", "tokenizer", "objective") if what in texts),
        seed=int(texts["seed"]) if texts.get("seed", "").isdigit() else None,
        optimizer=texts.get("optimizer", ""),
        setting=texts.get("setting", ""),
        active=numbers.get("active"),
        experts=numbers.get("experts"),
        unique_tokens=numbers.get("unique_tokens"),
        vocabulary=numbers.get("vocabulary"),
        characters=numbers.get("characters"),
        lr=numbers.get("lr"),
        batch=numbers.get("batch"),
    )
