"""A table of runs from a CSV file: also of runs that were made elsewhere."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import NamedTuple

from trainer.books.plan import PF_DAY
from trainer.scaling.fit.csv_rows import check_once, number_of, read_rows
from trainer.scaling.fit.rows import along, choose
from trainer.scaling.fit.table import LARGEST, Run, Table, TaskScore, named
from trainer.scaling.fit.task_columns import TaskColumn, scores, task_columns
from trainer.scaling.fit.where import Condition, keep
from trainer.utils.errors import UserError, nearest

FLOP_PER_PARAMETER_TOKEN = 6  # C = 6 N D, where a table does not state C (Kaplan et al. 2020, section 2.1)
MOST_LINES = 12  # of errors


class Column(NamedTuple):
    """A quantity: the headers that mean it, and the units that may stand in brackets behind them."""

    names: str
    units: dict[str, float]


_COUNTS = {"": 1.0, "k": 1e3, "m": 1e6, "b": 1e9, "t": 1e12, "millions": 1e6, "billions": 1e9, "trillions": 1e12}
COLUMNS = {
    "parameters": Column(
        "parameters n params total_parameters non_embedding_parameters model_size num_params n_params model_parameters "
        "total total_params",
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
        {
            **{unit: 1.0 for unit in ("", "nats", "nats/token", "nats per token", "normalised", "normalized")},
            "bits": math.log(2),
        },
    ),
    "kwh": Column("kwh energy energy_kwh", {"": 1.0, "kwh": 1.0, "wh": 1e-3, "mwh": 1e3, "j": 1 / 3.6e6}),
    "gco2e": Column("gco2e carbon gco2 co2e", {"": 1.0, "g": 1.0, "g co2e": 1.0, "kg": 1e3, "kg co2e": 1e3, "t": 1e6}),
    "kgco2e": Column("kgco2e kgco2", {"": 1e3}),
    "money": Column("money cost price usd eur", {"": 1.0, "usd": 1.0, "eur": 1.0, "$": 1.0}),
    "name": Column("run run_name run_id name id model", {"": 1.0}),  # of several the first of these
    "data": Column("data dataset corpus", {"": 1.0}),
    "tokenizer": Column("tokenizer", {"": 1.0}),
    "objective": Column("objective", {"": 1.0}),
    "source": Column("source", {"": 1.0}),
    "condition": Column("condition", {"": 1.0}),
    "loss_kind": Column("loss_kind kind loss_type", {"": 1.0}),
    "loss_unit": Column("loss_unit unit units", {"": 1.0}),
    "loss_split": Column("loss_split split evaluated_on", {"": 1.0}),
    "status": Column("status", {"": 1.0}),
    "outlier": Column("outlier is_outlier", {"": 1.0}),
    "reason": Column("reason outlier_reason", {"": 1.0}),
    "active": Column("active active_parameters n_active active_params", {**_COUNTS, "parameters": 1.0}),
    "experts": Column("experts num_experts n_experts expert_count", {"": 1.0}),
    "unique_tokens": Column("unique_tokens unique unique_data n_unique_tokens", {**_COUNTS, "tokens": 1.0}),
    "vocabulary": Column("vocabulary vocab vocab_size vocabulary_size", {**_COUNTS, "entries": 1.0}),
    "characters": Column("characters chars n_characters", {**_COUNTS, "characters": 1.0}),
    "lr": Column("lr learning_rate peak_lr max_lr peak_learning_rate", {"": 1.0}),
    "batch": Column(
        "batch batch_size batch_tokens batch_size_tokens batch_sequences global_batch_size",
        {**_COUNTS, "tokens": 1.0, "sequences": 1.0},
    ),
    "seed": Column("seed random_seed", {"": 1.0}),
    "optimizer": Column("optimizer optim", {"": 1.0}),
    "setting": Column("setting settings", {"": 1.0}),
}
FINISHED = ("", "finished", "ok", "done", "completed")
# How tables write a loss that there is not.
NO_NUMBER = (
    "",
    "-",
    "nan",
    "inf",
    "+inf",
    "-inf",
    "infinity",
    "na",
    "n/a",
    "null",
    "none",
    "diverged",
    "failed",
    "oom",
)
BITS = ("bits_per_byte", "bpb")  # titles of a column that is fitted where there is no loss
ORIGIN = ("source", "condition", "data", "tokenizer", "objective", "loss_kind", "loss_unit", "loss_split")
TEXTS = ("name", *ORIGIN, "status", "seed", "optimizer", "setting", "outlier", "reason")
INSTEAD = (
    "active",
    "experts",
    "unique_tokens",
    "vocabulary",
    "characters",
)  # without tokens, one of them must be there
BESIDE = ("active", "experts", "unique_tokens", "vocabulary", "characters", "lr", "batch")  # fields of Run as they are
OPTIONAL = ("kwh", "gco2e", "kgco2e", "money", *BESIDE)  # a cell of them may be empty
FURTHER_SETTINGS = (
    *("weight_decay", "wd", "momentum", "beta1", "beta2", "adam_beta1", "adam_beta2", "warmup", "warmup_steps"),
    *("warmup_ratio", "schedule", "lr_schedule", "scheduler", "dropout", "init_std", "grad_clip", "gradient_clip"),
    *("clip_grad", "parametrization", "parameterization"),
)


class Header(NamedTuple):
    """Where a quantity stands in the file, and the factor to its unit."""

    title: str
    factor: float


def read_csv(
    path: Path, columns: dict[str, str] | None = None, *, optimal: bool = False, where: Sequence[Condition] = ()
) -> Table:
    """The runs of a CSV file (or one divided by tabs or semicolons).

    columns: quantity -> the title of its column, where the file uses a name that is not known here. optimal: the rows
    are compute-optimal models, and need no loss. where: which rows. Raises UserError with every wrong column and row.
    """
    titles, rows = read_rows(path)
    headers = _headers(path, titles, columns or {})
    if "loss" not in headers and (bits := next((title for title in titles if title.lower() in BITS), "")):
        headers["loss"] = Header(bits, 1.0)
    tasks = task_columns([title for title in titles if title not in {header.title for header in headers.values()}])
    wrong = _missing(path, titles, headers, optimal or bool(tasks))
    if wrong:
        raise UserError("\n".join(wrong))
    aliases = {name: header.title for name, header in headers.items() if name not in titles}
    rows = keep(rows, where, lambda row, name: row[1][aliases.get(name, name)], [*titles, *aliases])
    flagged = "outlier" if not any(aliases.get(one.column, one.column) == "outlier" for one in where) else ""
    runs, lines, left_out = _runs(path, rows, headers, tasks, optimal=optimal, outliers=flagged)
    notes: list[str] = []
    if not optimal:
        runs, notes = along(runs, lines)
        chosen = choose(runs)
        unread = [title for title in titles if title not in _read(titles, headers, tasks)]
        notes += chosen.notes + _unread(unread, chosen.notes)
    money = headers["money"].title.strip() if "money" in headers else ""
    table = Table(
        tuple(runs if optimal else chosen.runs),
        _counts(headers),
        _flop_rule(headers),
        next((code for code in ("USD", "EUR") if code in money.upper()), money),
        tuple(left_out if optimal else left_out + chosen.left_out),
        tuple(notes),
        _batch_unit(headers),
    )
    return table if optimal else replace(table, every=tuple(chosen.every), flat=True)


def _missing(path: Path, titles: list[str], headers: dict[str, Header], no_loss: bool) -> list[str]:
    """A line for each quantity that must be there and is not."""
    wrong = []
    size = "parameters" in headers or "active" in headers
    length = any(name in headers for name in ("tokens", "flop", *INSTEAD))
    if not size:
        wrong.append(_absent(path, "parameters", titles))
    elif not length:
        wrong.append(_absent(path, "tokens", titles))
    if "loss" not in headers and not no_loss:
        hint = "; for a table of compute-optimal models, which has none, add optimal=true"
        wrong.append(_absent(path, "loss", titles) + hint)
    return wrong


def _counts(headers: dict[str, Header]) -> str:
    title = headers.get("parameters", headers.get("active", Header("", 1))).title
    known = title.lower().startswith(("total", "active", "non_embedding", "non-embedding"))
    return f"column {title!r}" + ("" if known else "; whether embeddings are in it, the table does not state")


def _flop_rule(headers: dict[str, Header]) -> str:
    size = "active" if "active" in headers else "parameters"
    if "flop" in headers:
        said = "" if "tokens" in headers else f"; tokens are FLOP / (6 x {size})"
        return f"column {headers['flop'].title!r}{said}"
    return f"6 x {size} x tokens" if "tokens" in headers else "not stated, nor are tokens"


def _read(titles: list[str], headers: dict[str, Header], tasks: list[TaskColumn]) -> set[str]:
    read = {header.title for header in headers.values()} | {column.title for column in tasks}
    return read | {title for title in titles if _bare(title) in FURTHER_SETTINGS}


def _unread(titles: list[str], notes: list[str]) -> list[str]:
    """Where rows of one place cannot be told apart: the columns that may do so."""
    if not titles or not any(note.startswith("seeds:") for note in notes):
        return []
    return [f"columns not read: {named(titles)}; one that tells settings apart is named by column.setting=<title>"]


def _batch_unit(headers: dict[str, Header]) -> str:
    title = headers["batch"].title.lower() if "batch" in headers else ""
    return next((unit for unit in ("tokens", "sequences") if unit in title), "")


def _headers(path: Path, titles: list[str], columns: dict[str, str]) -> dict[str, Header]:
    found: dict[str, Header] = {}
    for name, title in columns.items():
        if name not in COLUMNS:
            raise UserError(f"column.{name}: no such quantity{nearest(name, COLUMNS)}; there is {', '.join(COLUMNS)}")
        if title not in titles:
            raise UserError(f"{path}: no column {title!r}{nearest(title, titles)}; there is {', '.join(titles)}")
        check_once(path, title, titles)
        found[name] = Header(title, _factor(path, name, title))
    for title in titles:
        bare = _bare(title)
        name = next((name for name, column in COLUMNS.items() if bare in column.names.split()), "")
        if not name or title in columns.values() or name in columns:
            continue
        check_once(path, title, titles)
        if name == "name" and name in found:
            order = COLUMNS[name].names.split()
            found[name] = min(found[name], Header(title, 1.0), key=lambda header: order.index(_bare(header.title)))
            continue
        if name in found:
            raise UserError(
                f"{path}: columns {found[name].title!r} and {title!r} both mean {name}; choose with column.{name}=..."
            )
        found[name] = Header(title, _factor(path, name, title))
    return found


@cache
def _bare(title: str) -> str:
    """In small letters, without a unit in brackets, words joined by _."""
    return re.sub(r"[^a-z0-9]+", "_", re.sub(r"[(\[].*", "", title.lower())).strip("_")


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
    path: Path,
    rows: list[tuple[int, dict[str, str]]],
    headers: dict[str, Header],
    tasks: list[TaskColumn],
    *,
    optimal: bool,
    outliers: str,
) -> tuple[list[Run], list[int], list[tuple[str, str]]]:
    """The runs with their lines, and what was left out. outliers: the column by which it is, or nothing."""
    runs, lines, left_out, wrong = list[Run](), list[int](), [], list[str]()
    title = headers["name"].title if "name" in headers else ""
    counts = Counter(cells.get(title, "").strip() for _, cells in rows)
    needs_loss = not optimal and "loss" in headers
    for line, cells in rows:
        texts = {name: cells[headers[name].title].strip() for name in TEXTS if name in headers}
        if "loss" in headers and _bare(headers["loss"].title).endswith(BITS):
            texts.setdefault("loss_unit", "bits/byte")
        texts["setting"] = _further_settings(cells, texts.get("setting", ""))
        name = texts.get("name") or f"row {line}"
        if why := _unfit(cells[headers["loss"].title] if needs_loss else "0", texts, outliers):
            left_out.append((f"{name} (row {line})" if counts[name] > 1 else name, why))
            continue
        numbers, errors = _numbers(cells, {k: v for k, v in headers.items() if not (optimal and k == "loss")})
        scored, more = scores(cells, tasks)
        if not errors and not more:
            runs.append(_run(name, numbers, texts, scored))
            lines.append(line)
        wrong += [f"{path}: row {line}, {error}" for error in errors + more]
    if wrong:
        more = [f"... and {len(wrong) - MOST_LINES} more"] if len(wrong) > MOST_LINES else []
        raise UserError("\n".join(wrong[:MOST_LINES] + more))
    return runs, lines, left_out


def _unfit(loss: str, texts: dict[str, str], outliers: str) -> str:
    """Why a row is left out; nothing where it is read."""
    status = texts.get("status", "finished").lower()
    if status not in FINISHED:
        return status
    if loss.strip().lower() in NO_NUMBER or number_of(loss.strip()) in (math.inf, -math.inf):
        return "it has no finite loss"
    if outliers and texts.get(outliers, "").lower() in ("true", "yes", "1"):
        reason = texts.get("reason", "").replace("_", " ")
        return f"the table marks it as an outlier{f' ({reason})' if reason else ''}"
    return ""


def _further_settings(cells: dict[str, str], setting: str) -> str:
    more = [f"{_bare(title)}={cell.strip()}" for title, cell in cells.items() if _bare(title) in FURTHER_SETTINGS]
    return " ".join(filter(None, [setting, *more]))


def _numbers(cells: dict[str, str], headers: dict[str, Header]) -> tuple[dict[str, float], list[str]]:
    """The quantities of one row in their units, and what is wrong with its cells."""
    numbers: dict[str, float] = {}
    wrong = []
    normalised = "vocabulary" in headers or "normal" in headers.get("loss", Header("", 1)).title.lower()
    for quantity, (title, factor) in headers.items():
        if quantity in TEXTS:
            continue
        cell = cells[title].strip()
        if not cell and (quantity in OPTIONAL or (quantity == "tokens" and "flop" in headers)):
            continue
        value = number_of(cell)
        if value is None or (quantity == "loss" and "," in cell):  # 3,123 is no loss of thousands
            wrong.append(f"{title}: {cell or 'nothing'!r} given, a number wanted")
        elif not (0 < value < math.inf or (quantity == "loss" and normalised)):
            how = "; a loss that may be negative says so in its title: loss (normalised)" if quantity == "loss" else ""
            wrong.append(f"{title}: {cell} given, a positive number wanted{how}")
        elif value and not 1 / LARGEST < abs(value * factor) < LARGEST:
            wrong.append(f"{title}: {cell} given, a number between {1 / LARGEST:.0e} and {LARGEST:.0e} wanted")
        else:
            numbers[quantity] = value * factor
    return numbers, wrong


def _run(name: str, numbers: dict[str, float], texts: dict[str, str], tasks: tuple[TaskScore, ...]) -> Run:
    parameters = numbers.get("parameters", numbers.get("active", math.nan))
    each = FLOP_PER_PARAMETER_TOKEN * numbers.get("active", parameters)
    tokens, flop = numbers.get("tokens", math.nan), numbers.get("flop", math.nan)
    return Run(
        name,
        parameters,
        flop / each if math.isnan(tokens) else tokens,
        each * tokens if math.isnan(flop) else flop,
        numbers.get("loss", math.nan),
        numbers.get("kwh"),
        numbers.get("gco2e", numbers.get("kgco2e")),
        numbers.get("money"),
        origin=tuple((what.replace("_", " "), texts[what]) for what in ORIGIN if what in texts),
        seed=int(seed) if (seed := texts.get("seed", "").removesuffix(".0")).isdigit() else None,
        optimizer=texts.get("optimizer", ""),
        setting=texts.get("setting", ""),
        active=numbers.get("active"),
        experts=numbers.get("experts"),
        unique_tokens=numbers.get("unique_tokens"),
        vocabulary=numbers.get("vocabulary"),
        characters=numbers.get("characters"),
        lr=numbers.get("lr"),
        batch=numbers.get("batch"),
        tasks=tasks,
        kind=texts.get("loss_kind", "").lower(),
    )
