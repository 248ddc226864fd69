"""A table of runs from run folders."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from trainer.books import parameters
from trainer.books.branch import FILE, read_branch
from trainer.books.records import PADDING_IS_MUCH
from trainer.config import Config
from trainer.report import RunData, read_run
from trainer.report.plots import is_number
from trainer.run_folder import find_runs
from trainer.scaling.fit.table import Curve, Run, Table, named
from trainer.scaling.origin import origin
from trainer.utils.errors import UserError, cut
from trainer.utils.outcomes import Status

COUNTS = {
    "total": "all trained parameters, embeddings included (Hoffmann et al. 2022)",
    "active": "parameters that one token reads: of experts those that it is sent to, embeddings included",
    "non_embedding": "parameters without embeddings and output matrix (Kaplan et al. 2020)",
}


def read_runs(root: Path, count: str = "total") -> Table:
    """The finished runs below a folder; those that did not finish or have no finite held-out loss are left out by name.

    Of runs that differ in more than size, tokens and seed, e.g. in the learning rate, the best setting at each size
    and number of tokens is kept. Raises UserError where there is no run.
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
    found, repeated = _one_a_seed(found)
    kept, worse = _best_settings(found)
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
    rule = "counted by the books: exact model FLOPs of every run"
    currency = next(iter(currencies), None) or ""
    tried = tuple(run for run, _ in found)
    left_out += repeated + worse
    return Table(tuple(kept), COUNTS[count], rule, currency, tuple(left_out), tuple(notes), "tokens", tried)


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
        noise_batch=next((noise for record in reversed(run_data.steps.kept) if (noise := _noise(record))), None),
        lr=config.optim.lr,
        batch=float(config.optim.batch_size * config.data.sequence_length),
    )


def _noise(record: dict[str, Any]) -> float | None:
    """The gradient noise scale of a step in tokens, where it was measured and is positive."""
    value = (record.get("gradient_noise") or {}).get("critical_batch_tokens")
    return float(value) if is_number(value) and 0 < value < math.inf else None


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


def _best_settings(found: list[tuple[Run, Config]]) -> tuple[list[Run], list[tuple[str, str]]]:
    """At each size and number of tokens the setting with the lowest mean loss over its seeds; and the others."""
    places: dict[tuple[float, float], dict[str, list[Run]]] = {}
    for run, config in found:
        arithmetic = dict(run.origin)["numerics"]  # other numerics are no other seed
        setting = json.dumps(config.science() | {"seed": None, "numerics": arithmetic}, sort_keys=True)
        places.setdefault((run.parameters, run.tokens), {}).setdefault(setting, []).append(run)
    kept, worse = [], []
    for settings in places.values():
        best = min(settings.values(), key=lambda runs: sum(run.loss for run in runs) / len(runs))
        kept += best
        others = [run for runs in settings.values() if runs is not best for run in runs]
        worse += [(run.name, "another setting of the same size and tokens has a lower loss") for run in others]
    order = {run.name: number for number, (run, _) in enumerate(found)}
    return sorted(kept, key=lambda run: order[run.name]), worse
