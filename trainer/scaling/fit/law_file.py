"""A law as a file: what it predicts, in which unit, of which N, from which runs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from trainer import __version__
from trainer.scaling.fit.ensemble import Calibration, Ensemble, Member
from trainer.scaling.fit.resampling import interval
from trainer.scaling.fit.rolling import linked, scale_of
from trainer.scaling.fit.table import Table
from trainer.scaling.forms import FORMS, Form
from trainer.utils.bounded import read_json
from trainer.utils.errors import UserError
from trainer.utils.files import write_atomic

KIND, VERSION = "isoflop law", 1
MOST_REPLICATES = 100  # kept of each member
BUDGETS = 12  # lines at most of a stored law against a table


@dataclass(frozen=True)
class StoredLaw:
    """A law that was read from a file."""

    path: Path
    ensemble: Ensemble
    loss_unit: str
    counted: str  # "total", "non_embedding", "active" or "not stated"
    counts: str  # the same in words
    runs: int  # that it was fitted to

    @property
    def form(self) -> str:
        return self.ensemble.members[0].form


@dataclass(frozen=True)
class Against:
    """How a stored law predicts runs: errors are log(predicted / measured), differences where losses are normalised."""

    law: StoredLaw
    table: Table
    error: float  # mean size
    bias: float
    inside: float  # share of the runs within their 95% intervals
    budgets: tuple[tuple[float, int, float, float], ...]  # (amount, runs, error, bias) by the scale of the runs
    scale: str

    def to_json(self) -> dict[str, Any]:
        rows = [dict(zip((self.scale, "runs", "error", "bias"), row, strict=True)) for row in self.budgets]
        return {
            "law": {"file": str(self.law.path), "form": self.law.form, "loss_unit": self.law.loss_unit},
            "runs": len(self.table.runs),
            "error": self.error,
            "bias": self.bias,
            "inside_95_percent": self.inside,
            "by_budget": rows,
        }


def counted(counts: str) -> str:
    """Which parameters N counts, from what a table says of it."""
    text = counts.lower().removeprefix("column ").strip("'\"").replace("-", "_")
    if text.startswith(("non_embedding", "parameters without embeddings")):
        return "non_embedding"
    if text.startswith(("total", "all trained")):
        return "total"
    return "active" if text.startswith(("active", "n_active", "parameters that one token")) else "not stated"


def unit_of(table: Table) -> str:
    """Of the loss: what the rows say, "normalised" where it may be negative, else nats per token."""
    if (table.column("loss") <= 0).any():
        return "normalised"
    said = {dict(run.origin).get("loss unit", "") for run in table.runs} - {""}
    return said.pop() if len(said) == 1 else "nats/token"


def units(form: type[Form], table: Table) -> dict[str, str]:
    """Of the form's constants, where they have one: those of a loss in the unit of the table's."""
    return {name: unit_of(table) if unit == "nats/token" else unit for name, unit in form.units.items()}


def law_facts(ensemble: Ensemble, table: Table) -> dict[str, Any]:
    """What law.json holds, its hash included."""
    chosen, calibration = ensemble.members[0], ensemble.calibration
    form = FORMS[chosen.form]
    constants = {
        name: interval(column[0], column[1:]).to_json()
        for name, column in zip(form.constants, chosen.values.T, strict=True)
    }
    facts: dict[str, Any] = {
        "kind": KIND,
        "version": VERSION,
        "isoflop": __version__,
        "form": form.name,
        "formula": form.title,
        "source": form.source,
        "variables": list(ensemble.variables()),
        "constants": constants,
        "units": units(form, table),
        "loss_unit": unit_of(table),
        "parameters_are": table.counts,
        "counted": counted(table.counts),
        "runs": len(table.runs),
        "range": {name: list(span) for name, span in ensemble.known.items()},
        "flop_rate": ensemble.flop_rate and dict(zip(("log_k", "power"), ensemble.flop_rate, strict=True)),
        "averaged": ensemble.averaged,
        "members": [_member(member) for member in ensemble.members],
        "rivals": [_member(member) for member in ensemble.rivals],
        "calibration": {name: getattr(calibration, name) for name in ("noise", "growth", "stretch", "checked")},
    }
    return {**facts, "hash": _hash(facts)}


def _member(member: Member) -> dict[str, Any]:
    replicates = member.values[1:]
    replicates = replicates[np.isfinite(replicates).all(axis=1)]
    kept = replicates[np.linspace(0, len(replicates) - 1, min(len(replicates), MOST_REPLICATES)).round().astype(int)]
    return {
        "form": member.form,
        "weight": member.weight,
        "names": list(FORMS[member.form].constants),
        "values": member.values[0].tolist(),
        "replicates": kept.tolist(),
    }


def _hash(facts: Mapping[str, Any]) -> str:
    text = json.dumps({name: facts[name] for name in sorted(facts) if name != "hash"}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def write_law(ensemble: Ensemble, table: Table, path: Path) -> None:
    write_atomic(path, json.dumps(law_facts(ensemble, table), indent=1) + "\n")


def read_law(path: Path) -> StoredLaw:
    """A law that `write_law` wrote. Raises UserError of one line where it is none, damaged or of another version."""
    if path.is_dir():
        path = path / "law.json"
    facts = read_json(path)
    if not isinstance(facts, dict) or facts.get("kind") != KIND:
        raise UserError(f"{path}: no law; isoflop fit writes one as law.json beside its fit.json")
    if facts.get("version") != VERSION:
        raise UserError(
            f"{path}: a law of version {facts.get('version')}; this isoflop reads version {VERSION}: fit again"
        )
    if facts.get("hash") != _hash(facts):
        raise UserError(f"{path}: its content does not fit its hash: it was changed or damaged; fit again")
    try:
        return _stored(path, facts)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{path}: a law that cannot be read ({type(error).__name__}: {error}); fit again") from None


def _stored(path: Path, facts: Mapping[str, Any]) -> StoredLaw:
    members = [_read_member(path, one) for one in facts["members"]]
    rivals = [_read_member(path, one) for one in facts.get("rivals", [])]  # 0.1.0 wrote none
    rate = facts["flop_rate"]
    known = {name: (float(low), float(high)) for name, (low, high) in facts["range"].items()}
    ensemble = Ensemble(
        tuple(members),
        Calibration(**facts["calibration"]),
        known,
        facts["loss_unit"] != "normalised",
        bool(facts["averaged"]),
        rate and (rate["log_k"], rate["power"]),
        rivals=tuple(rivals),
    )
    return StoredLaw(path, ensemble, facts["loss_unit"], facts["counted"], facts["parameters_are"], int(facts["runs"]))


def _read_member(path: Path, facts: Mapping[str, Any]) -> Member:
    spec = FORMS.get(facts["form"])
    if spec is None or tuple(facts["names"]) != spec.constants:
        raise UserError(f"{path}: form {facts['form']!r} with {', '.join(facts['names'])}: no such form here")
    values = np.array([facts["values"], *facts["replicates"]], float)
    return Member(facts["form"], float(facts["weight"]), values)


def check_same(law: StoredLaw, table: Table) -> None:
    """Raises UserError where the table's N or loss is not what the law is about."""
    if table.states_no_loss:
        raise UserError(f"{law.path}: the table states no loss that the law could be held against")
    unit = unit_of(table)
    if unit != law.loss_unit:
        raise UserError(f"{law.path}: its loss is in {law.loss_unit}, the table's in {unit}: not one scale")
    count = counted(table.counts)
    if "not stated" not in (count, law.counted) and count != law.counted:
        raise UserError(f"{law.path}: its N counts {law.counted} parameters, the table's {count}; fit them alike")


def against(law: StoredLaw, table: Table) -> Against:
    """How the law predicts a table's runs. Raises UserError where the table lacks a column that the law reads."""
    check_same(law, table)
    ensemble = law.ensemble
    wanted = FORMS[law.form].variables
    columns = {name: table.column(name) for name in dict.fromkeys((*wanted, *ensemble.variables()))}
    if lacking := [name for name, column in columns.items() if not np.isfinite(column).all()]:
        raise UserError(f"{law.path}: the law ({law.form}) reads {', '.join(lacking)}, which the table does not state")
    loss = table.column("loss")
    figures = ensemble.interval(columns)
    error = linked(np.array([figure.value for figure in figures]), ensemble.logs) - linked(loss, ensemble.logs)
    inside = [figure.low <= value <= figure.high for figure, value in zip(figures, loss, strict=True)]
    scale, amounts = scale_of(table)
    order = np.argsort(amounts, kind="stable")
    parts = np.split(order, np.flatnonzero(np.diff(np.log(amounts[order])) > 0.1) + 1)
    if len(parts) > BUDGETS:
        parts = np.array_split(order, BUDGETS)
    rows = [
        (
            float(np.exp(np.log(amounts[part]).mean())),
            len(part),
            float(np.abs(error[part]).mean()),
            float(error[part].mean()),
        )
        for part in parts
    ]
    return Against(
        law, table, float(np.abs(error).mean()), float(error.mean()), float(np.mean(inside)), tuple(rows), scale
    )
