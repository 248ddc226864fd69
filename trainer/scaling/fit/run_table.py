"""A table of runs from run folders."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from trainer.books import parameters
from trainer.books.branch import FILE, read_branch
from trainer.books.records import PADDING_IS_MUCH
from trainer.config import Config
from trainer.data.preparation import prepared_folder
from trainer.data.shards import MANIFEST
from trainer.report import RunData, read_run
from trainer.report.plots import is_number
from trainer.run_folder import find_runs
from trainer.scaling.fit.rows import choose
from trainer.scaling.fit.table import Curve, Run, Table, named
from trainer.scaling.fit.where import Condition, keep
from trainer.scaling.origin import origin
from trainer.utils.errors import UserError, cut
from trainer.utils.outcomes import Status

COUNTS = {
    "total": "all trained parameters, embeddings included (Hoffmann et al. 2022)",
    "active": "parameters that one token reads: of experts those that it is sent to, embeddings included",
    "non_embedding": "parameters without embeddings and output matrix (Kaplan et al. 2020)",
}
_FIELDS = tuple(field.name for field in fields(Run) if field.name not in ("curve", "origin", "tasks", "earlier"))


def read_runs(root: Path, count: str = "total", where: Sequence[Condition] = ()) -> Table:
    """The finished runs below a folder; those that did not finish or have no finite held-out loss are left out by name.

    Of runs that differ in more than size, tokens and seed, e.g. in the learning rate, the best setting at each size
    and number of tokens is kept. where: of fields of Run or keys of the configuration. Raises UserError where there is
    no run.
    """
    folders = find_runs(root)
    if not folders:
        raise UserError(f"{root}: no run folders in it, nor is it a table; give a root of runs or a .csv file")
    found: list[tuple[Run, Config]] = []
    left_out: list[tuple[str, str]] = []
    trunks = {said["path"] for folder in folders if (said := read_branch(folder)) is not None}
    currencies, padded, unpaid = set(), dict[str, float](), list[str]()
    for folder in folders:
        name = str(folder.relative_to(root)) if folder != root else folder.name
        try:
            run_data = read_run(folder)
            why, loss = _unfit(run_data)
            if str(folder.resolve()) in trunks:
                why = "the trunk of branches, whose rate was not annealed"
            if why:
                left_out.append((name, why))
                continue
            if run_data.steps.padding > PADDING_IS_MUCH:
                padded[name] = run_data.steps.padding
            if run_data.config.branch.given and read_branch(folder) is None:
                unpaid.append(name)
            found.append((_run(name, run_data, count, loss), run_data.config))
        except Exception as error:  # files may hold anything
            left_out.append((name, f"cannot be read: {cut(' '.join(str(error).split()), 200)}"))
            continue
        currencies.add(run_data.site.currency)
    found = _where(root, found, where)
    found, repeated = _one_a_seed(found)
    chosen = choose([run for run, _ in found], [_science(run, config) for run, config in found])
    kept = chosen.runs
    notes = ["money: the runs are priced in different currencies; that axis is left out"] * (len(currencies) > 1)
    arithmetic = dict.fromkeys(dict(run.origin)["numerics"] for run in kept)
    if len(arithmetic) > 1:
        notes.append(
            f"numerics: runs of {' and of '.join(arithmetic)} are fitted together; they are not pooled as seeds"
        )
    if told := [name for name in unpaid if any(run.name == name for run in kept)]:
        notes.append(
            f"price: {FILE} of {named(told)} is missing or damaged; time, energy and money are without the trunk's part"
        )
    if told := [name for name in padded if any(run.name == name for run in kept)]:
        shares = [padded[name] for name in told]
        notes.append(
            f"tokens: {min(shares):.0%} to {max(shares):.0%} of those of {named(told)} are padding, which D counts"
        )
    if len(currencies) > 1:
        kept = [Run(**{**vars(run), "money": None}) for run in kept]
    notes += chosen.notes
    rule = "counted by the books: exact model FLOPs of every run"
    currency = next(iter(currencies), None) or ""
    out = tuple(left_out + repeated + chosen.left_out)
    return Table(tuple(kept), COUNTS[count], rule, currency, out, tuple(notes), "tokens", tuple(chosen.every))


def _unfit(run_data: RunData) -> tuple[str, float]:
    """Why a run cannot be used, or its held-out loss at the last step."""
    if run_data.status != Status.FINISHED:
        return run_data.status, math.nan
    last = run_data.steps.kept[-1]["step"] if run_data.steps.kept else None
    scored = [item for item in run_data.steps.evaluations if item["step"] == last]
    if not scored:
        return "no held-out loss at its last step", math.nan
    loss = scored[-1].get("loss")
    if isinstance(loss, int | float) and math.isfinite(loss):
        return "", float(loss)
    return "its held-out loss is not finite", math.nan


def _run(name: str, run_data: RunData, count: str, loss: float) -> Run:
    config, last = run_data.config, run_data.steps.kept[-1]
    account = parameters(config)
    return Run(
        name=name,
        parameters=float(getattr(account, count)),
        tokens=float(last["tokens"]),
        flop=float(last["flop"]),
        loss=loss,
        kwh=run_data.kwh or None,
        gco2e=run_data.gco2e or None,
        money=run_data.money or None,
        curve=_curve(run_data),
        origin=origin(run_data),
        **_beside(config, int(last["step"]), float(last["tokens"])),
    )


def _beside(config: Config, step: int, tokens: float) -> dict[str, Any]:
    """What else a law may depend on, and the settings, as fields of Run."""
    account, experts, unique = parameters(config), config.model.experts.count, _unique_tokens(config)
    schedule = config.optim.schedule
    return {
        "active": float(account.active) if experts else None,
        "experts": float(experts) if experts else None,
        "unique_tokens": unique if unique is not None and unique < tokens else None,
        "lr": config.optim.lr,
        "batch": float(config.curriculum.stretch(step).tokens_per_step),
        "seed": config.seed,
        "optimizer": config.optim.name,
        "kind": {"constant": "stopped", "wsd": "annealed", "pieces": "annealed"}.get(schedule, schedule),
    }


def _unique_tokens(config: Config) -> float | None:
    """Tokens of the training set, where its prepared corpus is at hand; None for mixtures, which repeat by source."""
    if config.data.mixes or config.task.kind is not None:
        return None
    try:
        folder = prepared_folder(config)
        manifest = json.loads((folder / MANIFEST).read_text()) if folder else {}
        return float(manifest["splits"]["train"]["info"]["tokens"])
    except (UserError, OSError, ValueError, KeyError, TypeError):
        return None


def _curve(run_data: RunData) -> Curve | None:
    flop = {record["step"]: record["flop"] for record in run_data.trunk.kept + run_data.steps.kept}
    points = [
        (flop[item["step"]], item["tokens"], item["loss"])
        for item in run_data.evaluations
        if item["step"] in flop and is_number(item.get("loss")) and math.isfinite(item["loss"])
    ]
    return Curve(*(np.array(column, float) for column in zip(*points, strict=True))) if len(points) > 1 else None


def _one_a_seed(found: list[tuple[Run, Config]]) -> tuple[list[tuple[Run, Config]], list[tuple[str, str]]]:
    """The first run of each science, seed included, in each numerics; and the others: the same run twice would pass
    for no seed noise."""
    once: dict[str, tuple[Run, Config]] = {}
    others = []
    for run, config in found:
        first, _ = once.setdefault(f"{config.science_hash()} {dict(run.origin)['numerics']}", (run, config))
        if first is not run:
            others.append((run.name, f"the same science and seed as {first.name}"))
    return list(once.values()), others


def _science(run: Run, config: Config) -> str:
    """All that may differ between runs of one place: other numerics are no other seed."""
    arithmetic = dict(run.origin)["numerics"]
    return json.dumps(config.science() | {"seed": None, "numerics": arithmetic}, sort_keys=True)


def _where(root: Path, found: list[tuple[Run, Config]], conditions: Sequence[Condition]) -> list[tuple[Run, Config]]:
    """The runs for which all conditions hold, by fields of Run or by keys of the configuration."""
    if not conditions or not found:
        return found
    keys = {
        name: _flat(config.model_dump(mode="json")) for name, config in ((run.name, config) for run, config in found)
    }
    known = [*(name for name in _FIELDS), *dict.fromkeys(key for values in keys.values() for key in values)]

    def cell(item: tuple[Run, Config], name: str) -> str:
        run = item[0]
        return str(getattr(run, name) if name in _FIELDS else keys[run.name].get(name, ""))

    return keep(found, conditions, cell, known)


def _flat(values: dict[str, Any], above: str = "") -> dict[str, Any]:
    """Nested keys as `optim.lr`."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        found |= _flat(value, f"{above}{name}.") if isinstance(value, dict) else {f"{above}{name}": value}
    return found
