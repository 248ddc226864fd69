"""published.json: everything that the forms and tables say, as one document."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from trainer import __version__
from trainer.books import parameters
from trainer.publish.checklist import sentences
from trainer.publish.citation import title
from trainer.publish.facts import Facts, measured_of, name_of
from trainer.publish.forms import NOT_COUNTED, answers, hub_fields, spdx_element
from trainer.publish.latex import Table
from trainer.report.run_data import RunData
from trainer.report.sums import UNITS

KIND, VERSION = "isoflop published", 1


@dataclass(frozen=True)
class PublishedRun:
    """One run: what it was, what it reached and what it took; null is not stated."""

    run: str  # <experiment>/<run id>
    science_hash: str
    numerics: str
    status: str
    sha256: str  # of the hashes of the files that say it
    parameters: int
    tokens: float | None
    flop: float | None
    device_hours: float | None
    kwh: float | None
    kgco2e: float | None
    embodied_kgco2e: float | None  # of making the devices, the run's share
    water_l: float | None
    held_out_loss: float | None  # nats a target
    held_out_bits_per_byte: float | None


@dataclass(frozen=True)
class Total:
    """A sum over runs, of which `known` had a figure; null where none had."""

    value: float | None
    known: int
    runs: int
    unit: str


@dataclass(frozen=True)
class PublishedTable:
    """A table as it is printed: cells of text, the command that prints it anew, a hash of what it is made from."""

    name: str
    caption: str
    columns: list[str]
    rows: list[list[str]]
    notes: list[str]
    command: str
    sha256: str


@dataclass(frozen=True)
class Published:
    """The document."""

    kind: str
    version: int
    isoflop: str
    claim: str  # sha256 that stands for all sources
    title: str
    model: str  # the run that the forms are about
    cost: list[str]  # the paragraph, by sentence
    total: dict[str, Total]
    fields: list[dict[str, Any]]
    not_stated: list[str]  # <form>: <field>
    not_counted: list[str]
    co2_eq_emissions: dict[str, Any]
    ai_energyConsumption: dict[str, Any]
    ledger: dict[str, Any]
    projects: dict[str, Any]  # shares of each: final, tuning, evaluation, data, failed, unfinished, other
    runs: list[PublishedRun]
    tables: list[PublishedTable]


def published(facts: Facts, shown: Sequence[Table]) -> Published:
    found = answers(facts)
    return Published(
        kind=KIND,
        version=VERSION,
        isoflop=__version__,
        claim=facts.claim,
        title=title(facts),
        model=name_of(facts.model),
        cost=sentences(facts),
        total={name: Total(*facts.total(name), UNITS[name]) for name in UNITS},
        fields=[one.to_json() for one in found],
        not_stated=[f"{one.form}: {one.field}" for one in found if one.value is None],
        not_counted=list(NOT_COUNTED),
        co2_eq_emissions=hub_fields(facts),
        ai_energyConsumption=spdx_element(found),
        ledger=facts.ledger,
        projects=facts.projects,
        runs=[_run(facts, run) for run in facts.runs],
        tables=[_table(table) for table in shown],
    )


def _table(table: Table) -> PublishedTable:
    rows = [list(row) for row in table.rows]
    notes = list(table.notes)
    return PublishedTable(table.name, table.caption, list(table.columns), rows, notes, table.command, table.hash)


def _run(facts: Facts, run: RunData) -> PublishedRun:
    best, name = run.best or {}, name_of(run)
    return PublishedRun(
        run=name,
        science_hash=run.config.science_hash(),
        numerics=run.numerics,
        status=str(run.status),
        sha256=facts.hash_of(f"{name}/"),
        parameters=int(parameters(run.config).total),
        tokens=measured_of(run, "data.tokens").value,
        flop=measured_of(run, "flop.total").value,
        device_hours=measured_of(run, "machine.device_hours").value,
        kwh=measured_of(run, "energy.kwh").value,
        kgco2e=measured_of(run, "carbon.kgco2e").value,
        embodied_kgco2e=measured_of(run, "carbon.embodied_kgco2e").value,
        water_l=measured_of(run, "water.litres").value,
        held_out_loss=best.get("loss"),
        held_out_bits_per_byte=best.get("bits_per_byte"),
    )
