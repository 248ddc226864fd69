"""Runs that differ in one setting and in size, from run folders or from a table."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from trainer.books import parameters
from trainer.books.branch import read_branch
from trainer.books.run_length import run_tokens
from trainer.report import RunData, read_run
from trainer.run_folder import find_runs
from trainer.scaling.fit.csv_rows import number_of, read_rows
from trainer.scaling.fit.table import TOGETHER, origins_apart
from trainer.scaling.origin import origin
from trainer.utils.errors import UserError, cut, nearest
from trainer.utils.outcomes import Status

SAME_TOKENS = 0.03  # runs of one size whose tokens differ by less are one place: batches are whole
MOST_LINES = 12  # of errors
COLUMNS = {  # the titles that mean a quantity; `column.<quantity>=<title>` names another
    "parameters": "parameters n params total_parameters non_embedding_parameters model_size num_params n_params",
    "tokens": "tokens d training_tokens train_tokens num_tokens n_tokens dataset_size",
    "loss": "loss l final_loss held_out_loss validation_loss val_loss eval_loss test_loss",
    "lr": "lr learning_rate optim.lr peak_lr max_lr",
    "batch": "batch batch_size batch_sequences optim.batch_size bs global_batch_size batch_tokens",
    "weight_decay": "weight_decay wd optim.weight_decay",
    "width": "width d_model hidden_size model.width",
    "depth": "depth layers n_layers num_layers model.depth",
    "seed": "seed",
    "optimizer": "optimizer optim.name",
    "parametrization": "parametrization",
    "name": "name run id",
    "status": "status",
}
TEXTS = ("name", "status", "optimizer", "parametrization", "seed")
SETTINGS = {"lr": "optim.lr", "batch": "optim.batch_size", "weight_decay": "optim.weight_decay"}  # of tables
FINISHED = ("", "finished", "ok", "done", "completed")
NO_NUMBER = ("-", "nan", "inf", "+inf", "na", "n/a", "null", "none", "diverged")  # losses of runs that diverged


@dataclass(frozen=True)
class Point:
    """One finished run."""

    name: str
    series: str  # optimizer and parametrization: what must be the same for a setting to be able to transfer
    parameters: float
    tokens: float  # nan where a table does not say
    width: float
    depth: float
    value: float  # of the setting
    loss: float  # inf of one that diverged
    others: str  # all further settings but the seed, as text that is equal where they are
    seed: str  # empty where a table does not say
    origin: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Points:
    """What is fitted, and what must be said beside it."""

    points: tuple[Point, ...]
    setting: str
    counts: str  # what `parameters` counts
    left_out: tuple[tuple[str, str], ...] = ()  # (name, why)


def read_points(source: Path, setting: str, columns: Mapping[str, str], *, mixed: bool = False) -> Points:
    """The finished runs below a folder, or the rows of a table.

    setting: a key of the configuration with numbers. Raises UserError where there are none, where the setting is not
    stated, and for runs of different data, tokenizers or objectives unless `mixed`."""
    found = _of_folders(source, setting) if source.is_dir() else _of_table(source, setting, columns)
    usable = [point for point in found.points if point.value > 0]
    left_out = [(point.name, f"{setting}=0, which has no logarithm") for point in found.points if point.value <= 0]
    usable, repeated = _once(usable)
    if not any(math.isfinite(point.loss) for point in usable):
        more = f" ({len(left_out)} left out: {left_out[0][0]}: {left_out[0][1]})" if left_out else ""
        also = f" ({len(found.left_out)} left out: {': '.join(found.left_out[0])})" if found.left_out else ""
        raise UserError(f"{source}: no finished run with a positive {setting} and a finite loss{more or also}")
    if not mixed and (apart := origins_apart([(point.name, point.origin) for point in usable])):
        raise UserError("\n".join([*apart.values(), TOGETHER]))
    return replace(found, points=tuple(_same_tokens(usable)), left_out=(*found.left_out, *left_out, *repeated))


def _once(points: Sequence[Point]) -> tuple[list[Point], list[tuple[str, str]]]:
    """Each seed of a setting once, and the others: the same run twice would pass for no seed noise. Where no seed is
    stated, runs of one setting and one loss are one."""
    first: dict[tuple[Any, ...], Point] = {}
    repeated = []
    for point in points:
        size = (point.series, point.parameters, str(point.tokens), str(point.width), str(point.depth))
        one = first.setdefault((*size, point.value, point.others, point.seed or point.loss), point)
        if one is not point:
            repeated.append((point.name, f"the same setting and {'seed' if point.seed else 'loss'} as {one.name}"))
    return list(first.values()), repeated


def _same_tokens(points: Sequence[Point]) -> list[Point]:
    """With one number of tokens for all runs of a size whose tokens are about the same."""
    together: dict[tuple[float, float, float], list[Point]] = {}
    for point in points:
        together.setdefault((point.parameters, point.width, point.depth), []).append(point)
    found = []
    for some in together.values():
        group: list[Point] = []
        for point in sorted(some, key=lambda one: one.tokens):
            if group and point.tokens > group[0].tokens * (1 + SAME_TOKENS):
                found += [replace(one, tokens=group[0].tokens) for one in group]
                group = []
            group.append(point)
        found += [replace(one, tokens=group[0].tokens) for one in group]
    return found


# --- run folders ---


def _of_folders(root: Path, setting: str) -> Points:
    folders = find_runs(root)
    if not folders:
        raise UserError(f"{root}: no run folders in it, nor is it a table; give a root of runs or a .csv file")
    points, left_out, wrong = [], [], []
    trunks = {branch["path"] for folder in folders if (branch := read_branch(folder)) is not None}
    for folder in folders:
        name = str(folder.relative_to(root)) if folder != root else folder.name
        try:
            run_data = read_run(folder)
            why, loss = _held_out(run_data)
        except Exception as error:  # files may hold anything
            why, loss = f"cannot be read: {cut(' '.join(str(error).split()), 200)}", math.nan
        if str(folder.resolve()) in trunks:
            why = "the trunk of branches, whose rate was not annealed"
        if why:
            left_out.append((name, why))
            continue
        value, said = _setting(run_data, setting)
        if said:
            wrong.append(said)
            continue
        points.append(_point(name, run_data, setting, value, loss))
    if wrong:
        raise UserError(wrong[0])
    return Points(tuple(points), setting, "all parameters, embeddings included", tuple(left_out))


def _held_out(run_data: RunData) -> tuple[str, float]:
    """Why a run cannot be used, or its held-out loss at its last step, inf where it diverged."""
    if run_data.status == Status.HALTED:
        return "", math.inf
    if run_data.status != Status.FINISHED:
        return str(run_data.status), math.nan
    last = run_data.steps.kept[-1]["step"] if run_data.steps.kept else None
    losses = [item.get("loss") for item in run_data.steps.evaluations if item["step"] == last]
    if not losses:
        return "no held-out loss at its last step", math.nan
    loss = losses[-1]
    return "", float(loss) if isinstance(loss, int | float) and math.isfinite(loss) else math.inf


def _setting(run_data: RunData, setting: str) -> tuple[float, str]:
    """The value of a dotted key, or what is wrong with it."""
    here: Any = run_data.config.model_dump(mode="json")
    for part in setting.split("."):
        if not isinstance(here, dict) or part not in here:
            near = nearest(setting, _numeric(run_data.config.model_dump(mode="json")))
            return math.nan, f"setting: {setting}: no key of the runs' configuration{near}"
        here = here[part]
    if isinstance(here, bool) or not isinstance(here, int | float):
        return math.nan, f"setting: {setting}={here!r}: a key with numbers wanted, e.g. {', '.join(SETTINGS.values())}"
    return float(here), ""


def _numeric(plain: Mapping[str, Any], prefix: str = "") -> list[str]:
    found = []
    for name, value in plain.items():
        if isinstance(value, dict):
            found += _numeric(value, f"{prefix}{name}.")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            found.append(f"{prefix}{name}")
    return found


def _point(name: str, run_data: RunData, setting: str, value: float, loss: float) -> Point:
    config = run_data.config
    model, science = config.model, json.loads(json.dumps(config.science()))
    *path, last = setting.split(".")
    inside = science
    for part in path:
        inside = inside.get(part, {})
    inside.pop(last, None)
    scaled = "standard" if model.mup_base_width is None else "mup"
    scaled = scaled if model.mup_base_depth is None else "completep"
    return Point(
        name,
        f"{config.optim.name}, {scaled}",
        float(parameters(config).total),
        run_tokens(config) if math.isinf(loss) else float(run_data.steps.kept[-1]["tokens"]),
        float(model.width),
        float(model.depth),
        value,
        loss,
        json.dumps(science | {"seed": None, "budget": None}, sort_keys=True),
        str(config.seed),
        origin(run_data),
    )


# --- tables ---


def _of_table(path: Path, setting: str, columns: Mapping[str, str]) -> Points:
    titles, rows = read_rows(path)
    quantity = next((name for name, key in SETTINGS.items() if setting in (name, key)), None)
    if quantity is None:
        known = tuple(SETTINGS.values())
        raise UserError(f"setting: {setting}: a table can state {', '.join(known)}{nearest(setting, known)}")
    for name, title in columns.items():
        if name not in COLUMNS:
            raise UserError(f"column.{name}: no such quantity{nearest(name, COLUMNS)}; there is {', '.join(COLUMNS)}")
        if title not in titles:
            raise UserError(
                f"column.{name}={title}: no such column{nearest(title, titles)}; there is {_listed(titles)}"
            )
    where = {name: columns.get(name) or _title(names, titles) for name, names in COLUMNS.items()}
    for name in ("parameters", "loss", quantity):
        if where[name] is None:
            names = ", ".join(COLUMNS[name].split()[:4])
            raise UserError(
                f"{path}: no column for {name} (it may be named {names}, or given as column.{name}=<title>); there is "
                f"{_listed(titles)}"
            )
    points, left_out, wrong = [], [], []
    for line, cells in rows:
        stated = {name: cells[title].strip() for name, title in where.items() if title}
        point, why = _row(line, stated, quantity)
        if isinstance(why, list):
            wrong += [f"{path}: row {line}, {where[one.partition(':')[0]]}:{one.partition(':')[2]}" for one in why]
        elif point is None:
            left_out.append((f"row {line}", why))
        else:
            points.append(point)
    if wrong:
        more = [f"... and {len(wrong) - MOST_LINES} more"] if len(wrong) > MOST_LINES else []
        raise UserError("\n".join(wrong[:MOST_LINES] + more))
    return Points(tuple(points), SETTINGS[quantity], f"column {where['parameters']!r}", tuple(left_out))


def _listed(titles: Sequence[str]) -> str:
    return ", ".join(titles[:12]) + (f" and {len(titles) - 12} more" if len(titles) > 12 else "")


def _title(names: str, titles: Sequence[str]) -> str | None:
    by_name = {re.sub(r"\s*[(\[].*", "", title).strip().lower().replace(" ", "_"): title for title in titles}
    return next((by_name[name] for name in names.split() if name in by_name), None)


def _row(line: int, cells: Mapping[str, str], quantity: str) -> tuple[Point | None, str | list[str]]:
    """A run; or none and why it is left out, or a list of what is wrong with it, each `quantity: what`."""
    if (status := cells.get("status", "").lower()) not in (*FINISHED, "diverged"):
        return None, status
    numbers: dict[str, float] = {}
    wrong = []
    for name, cell in cells.items():
        if name in TEXTS:
            continue
        value = number_of(cell)
        if name == "loss" and (status == "diverged" or cell.lower() in NO_NUMBER):
            value = math.inf
        finite = value is not None and (math.isfinite(value) or name == "loss")
        if value is None or value < 0 or not finite or (value == 0 and name in ("parameters", "loss")):
            wrong.append(f"{name}: {cell or 'nothing'!r} given, a positive number wanted")
        else:
            numbers[name] = value
    if wrong:
        return None, wrong
    parts = (cells.get("optimizer", ""), cells.get("parametrization", ""))
    others = {name: numbers[name] for name in SETTINGS if name in numbers and name != quantity}
    point = Point(
        cells.get("name") or f"row {line}",
        ", ".join(part for part in parts if part) or "all runs",
        numbers["parameters"],
        numbers.get("tokens", math.nan),
        numbers.get("width", math.nan),
        numbers.get("depth", math.nan),
        numbers[quantity],
        numbers["loss"],
        json.dumps(others, sort_keys=True),
        cells.get("seed", ""),
    )
    return point, ""
