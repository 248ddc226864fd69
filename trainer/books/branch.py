"""What a branch says of its trunk: the work of the first steps, which the trunk did and paid for, once.

    branch.json    whose state the branch began from, and what the trunk had spent by then
    trunk.jsonl    the trunk's records until there, as far as curves show them

Both are written when the branch begins, so that all that is told of it is read from its own folder. Totals of a
price tag are those of the whole run, as if it had been trained alone; the rows `*.trunk_*` say the trunk's part.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from trainer.books.costs import JOULES_PER_KWH
from trainer.books.energy import read_energy
from trainer.books.flops import flops
from trainer.books.quantity import Quantity, Row, exact, measured_quantity, not_stated
from trainer.books.records import Steps, read_json, read_lines, read_ranks, read_steps
from trainer.config import Config
from trainer.utils.files import write_atomic

FILE, RECORDS = "branch.json", "trunk.jsonl"
# Keys of branch.json; tokens, flop, seconds, device_hours and kwh are those of the first steps.
KEYS = ("run", "path", "step", "checkpoint", "science_hash", "numerics", "branch")
SHARES = ("tokens", "flop", "seconds", "device_hours", "kwh")
MOST_RECORDS = 2000  # of the trunk's steps that a branch keeps
SHOWN = ("kind", "step", "tokens", "flop", "loss", "grad_norm", "lr", "attempt")
NAME = "  of which by the trunk"
# Keys of the rows of a price tag whose totals a trunk has a share in: its work, and what follows from that at a site.
WORK = ("data.tokens", "flop.total", "time.wall", "machine.device_hours", "energy.device_kwh")
COSTS = (
    *("energy.whole_kwh", "energy.kwh", "carbon.kgco2e", "carbon.market_kgco2e", "carbon.embodied_kgco2e"),
    *("water.litres", "water.on_site_litres", "water.off_site_litres", "cost.amount"),
)


def read_branch(run: Path) -> dict[str, Any] | None:
    """What branch.json says; null where the run is no branch, and where the file is damaged."""
    said = read_json(run / FILE)
    return said if isinstance(said, dict) and said.keys() >= {*KEYS, *SHARES} else None


def branch_line(said: Mapping[str, Any]) -> str:
    """Whose state a branch began from."""
    return f"branch of {said['run']} at step {said['step']}"


def trunk_note(said: Mapping[str, Any]) -> str:
    """What a price tag of a branch is to say beside its rows."""
    return f"{branch_line(said)}: totals are of the whole run, the trunk's share included; components are its own"


# --- written once ---


def write_branch(run: Path, trunk: Path, config: Config, step: int, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Write both files into a branch's folder; config: the trunk's; facts: what else branch.json is to say. Returns its
    content."""
    before, records = read_branch(trunk), _whole_records(trunk, step)
    said = {
        "run": f"{trunk.parent.name}/{trunk.name}",
        "path": str(trunk),
        "step": step,
        "science_hash": config.science_hash(),
        **facts,
        **_spent(trunk, config, step, before),
        "branch": before,
    }
    lines = [json.dumps(record, separators=(",", ":"), ensure_ascii=False) for record in records]
    write_atomic(run / RECORDS, "".join(f"{line}\n" for line in lines))
    write_atomic(run / FILE, json.dumps(said, indent=1))
    return said


def _spent(trunk: Path, config: Config, step: int, before: Mapping[str, Any] | None) -> dict[str, Any]:
    """What the first `step` steps took, with what a trunk that is a branch had from its own trunk. Steps that were
    trained again are the trunk's own waste."""
    steps, ranks = [one for one in read_steps(trunk).kept if one["step"] <= step], read_ranks(trunk)
    seconds = [sum((one.get("seconds") or {}).values()) for one in steps]
    devices = [ranks.get(one.get("attempt", 0), config.launch.ranks) for one in steps]
    device_hours = sum(time * number for time, number in zip(seconds, devices, strict=True)) / 3600
    shares: dict[str, Any] = {
        "tokens": config.curriculum.tokens(step),
        "flop": _flop(config, step),
        "seconds": sum(seconds) if steps else None,
        "device_hours": device_hours if steps else None,
        "kwh": _kwh(trunk, _joules(steps[-1]) if steps else None).to_json(),
    }
    if before is not None:
        for name in ("seconds", "device_hours"):
            known = None not in (shares[name], before[name])
            shares[name] = shares[name] + before[name] if known else None
        shares["kwh"] = (Quantity(**shares["kwh"]) + Quantity(**before["kwh"])).to_json()
    return shares


def _flop(config: Config, step: int) -> float:
    """Model FLOPs of a run's first `step` steps."""
    done = config.curriculum.steps_by_shape(0, step)
    return sum(number * flops(config.at_shape(shape)).per_step for shape, number in done.items())


def _kwh(trunk: Path, joules: float | None) -> Quantity:
    """Energy of the devices until a step whose record says so many joules."""
    total = read_energy(trunk).total()
    if joules is None or not total.value:
        return not_stated("no energy counter was read")
    share = joules / total.value
    low, high = (None if end is None else end * share / JOULES_PER_KWH for end in (total.low, total.high))
    return Quantity(joules / JOULES_PER_KWH, total.provenance, total.source, low, high)


def _joules(record: Mapping[str, Any]) -> float | None:
    """Of the run so far."""
    values = [value for value in (record.get("joules") or {}).values() if isinstance(value, int | float)]
    return sum(values) if values else None


def _whole_records(trunk: Path, step: int) -> list[dict[str, Any]]:
    """Records of the first `step` steps: every evaluation, and of the steps some, with minutes and Wh so far."""
    earlier = [one for one in read_lines(trunk / RECORDS) if isinstance(one.get("step"), int) and one["step"] <= step]
    trained = [one for one in earlier if one.get("kind") == "step"]
    minutes, wh = (float((trained[-1].get(name) or 0.0) if trained else 0.0) for name in ("minutes", "wh"))
    found, clock = read_steps(trunk), minutes
    for record in found.kept:
        if record["step"] > step:
            break
        clock += sum((record.get("seconds") or {}).values()) / 60
        joules = _joules(record)
        spent = {"minutes": clock, "wh": None if joules is None else wh + 1000 * joules / JOULES_PER_KWH}
        trained.append({name: record[name] for name in SHOWN if name in record} | spent)
    evaluated = [one for one in earlier if one.get("kind") == "evaluation"]
    evaluated += [one for one in found.evaluations if one["step"] <= step]
    wanted, stride = {one["step"] for one in evaluated} | {step}, max(1, -(-len(trained) // MOST_RECORDS))
    thinned = [one for number, one in enumerate(trained) if number % stride == 0 or one["step"] in wanted]
    return sorted([*thinned, *evaluated], key=lambda one: int(one["step"]))


# --- read ---


def read_trunk(run: Path) -> Steps:
    """The trunk's records before a branch's first step, thinned; none where the run is no branch."""
    records = [one for one in read_lines(run / RECORDS) if isinstance(one.get("step"), int)]
    of = {kind: tuple(one for one in records if one.get("kind") == kind) for kind in ("step", "evaluation")}
    return Steps(of["step"], (), of["evaluation"])


# --- price tags ---


def trunks_work(said: Mapping[str, Any]) -> dict[str, Quantity]:
    """What branch.json says that the trunk did, by the keys of a price tag's rows."""
    source = f"{said['run']} until step {said['step']}"
    return {
        "data.tokens": exact(said["tokens"], source),
        "flop.total": exact(said["flop"], source),
        "time.wall": measured_quantity(said["seconds"], source),
        "machine.device_hours": measured_quantity(said["device_hours"], source),
        "energy.device_kwh": Quantity(**said["kwh"]),
    }


def counted_of_trunk(config: Config) -> dict[str, Quantity]:
    """What a branch's own configuration says that its trunk did, where branch.json does not: by the keys of rows."""
    step = config.branch.step
    if step is None:
        return {}
    source = f"counted to step {step}"
    return {
        "data.tokens": exact(config.curriculum.tokens(step), source),
        "flop.total": exact(_flop(config, step), source),
    }


def trunk_key(key: str) -> str:
    """flop.total -> flop.trunk_total."""
    group, _, leaf = key.partition(".")
    return f"{group}.trunk_{leaf}"


def with_trunk(
    rows: Sequence[Row], trunk: Mapping[str, Quantity], column: Literal["planned", "measured"]
) -> tuple[Row, ...]:
    """The rows, behind each whose key is in `trunk` one that says how much of it the trunk did, where that is known."""
    found: list[Row] = []
    for row in rows:
        found.append(row)
        if row.key in trunk and trunk[row.key].value is not None:
            there = Row(trunk_key(row.key), NAME, row.unit)
            found.append(replace(there, **{column: trunk[row.key]}))  # type: ignore[arg-type]
    return tuple(found)


def own_values(values: Mapping[str, Any]) -> dict[str, Any]:
    """The numbers of a price tag's column (`PriceTag.values`) without what the trunk did: the run's own work."""
    own: dict[str, Any] = {}
    whole = (values.get("flop") or {}).get("total")
    for group, part in values.items():
        if not isinstance(part, Mapping):
            own[group] = part
            continue
        trunk = {name.removeprefix("trunk_"): value for name, value in part.items() if name.startswith("trunk_")}
        kept = {name: value for name, value in part.items() if not name.startswith("trunk_")}
        own[group] = {name: _without(value, trunk[name]) if name in trunk else value for name, value in kept.items()}
    if whole and (own["flop"].get("pf_days") is not None):  # no row of its own says the trunk's
        own["flop"]["pf_days"] *= own["flop"]["total"] / whole
    return own


def _without(value: float | None, part: float | None) -> float | None:
    return None if value is None or part is None else max(0.0, value - part)


def own_flop(config: Config) -> float:
    """Model FLOPs that the run itself is to do: of a branch without its trunk's."""
    whole, step = flops(config).total, config.branch.step
    return whole - (0.0 if step is None else flops(config.ending_after(step)).total)
