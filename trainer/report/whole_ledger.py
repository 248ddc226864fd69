"""The ledger of a root in every form: accounts by experiment and by project, as it was or priced elsewhere."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from trainer.books.cost_records import CostRecord, cost_records
from trainer.books.costs import JOULES_PER_KWH
from trainer.books.measured import own_intensity
from trainer.books.plan import cost_rows
from trainer.books.quantity import PriceTag, Quantity, not_stated
from trainer.config import Config
from trainer.report.ledger import Account, Counted, accounts_of, counted, format_ledger, ledger_json
from trainer.report.ledger_file import read_ledger
from trainer.report.ledger_tables import VERSION, format_projects, projects_csv, projects_latex
from trainer.report.project_ledger import Entry, ProjectAccount, projects
from trainer.report.repricing import Elsewhere
from trainer.report.run_data import RUNNING
from trainer.run_folder import RunFolder
from trainer.utils.errors import UserError, nearest

OF_COMMANDS = {
    "evaluation": "evaluation",
    "data": "data",
    "tuning": "tuning",
}  # part of a record -> share; all others are `other`


@dataclass(frozen=True)
class WholeLedger:
    """The accounts of a root."""

    experiments: dict[str, Account]
    projects: dict[str, ProjectAccount]
    note: str = ""  # where it is priced, if not where its runs were

    def text(self) -> str:
        parts = [format_ledger(self.experiments)] if self.experiments else []
        return "\n".join([*parts, format_projects(self.projects, self.note)]) if self.projects else "no runs"

    def to_json(self) -> dict[str, Any]:
        """By experiment, and under `projects` the grand totals. An experiment of that name is called ./projects."""
        plain = ledger_json(self.experiments)
        if "projects" in plain:
            plain["./projects"] = plain.pop("projects")
        return {**plain, "projects": self.projects_json()}

    def projects_json(self) -> dict[str, Any]:
        return {name: account.to_json() for name, account in self.projects.items()}

    def file(self, ending: str, command: str) -> str:
        """The content of a file of that ending."""
        if ending == ".json":
            document = {"version": VERSION, "command": command, "priced": self.note or None}
            document |= {"projects": self.projects_json(), "experiments": ledger_json(self.experiments)}
            return json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
        forms: dict[str, Callable[[], str]] = {
            ".csv": lambda: projects_csv(self.projects),
            ".tex": lambda: projects_latex(self.projects, command),
        }
        return forms[ending]()


ENDINGS = (".csv", ".json", ".tex")


def whole_ledger(root: Path, elsewhere: Elsewhere | None = None, project: str | None = None) -> WholeLedger:
    """The accounts of a root, or of one project of it. Raises UserError where there is no such project."""
    there = elsewhere or Elsewhere()
    unnamed = root.absolute().name
    lines = [there.line(line, root) for line in read_ledger(root).values()]
    runs = counted(lines)
    entries = [one.entry(unnamed) for own in runs.values() for one in own]
    under_way = {one.line.get("run") for own in runs.values() for one in own if one.kind == RUNNING}
    seen: set[str] = set()
    shared = _shared_project(lines) or unnamed
    for record in cost_records(root):
        entries += _entries(
            record, there, root, shared if record.run is None else unnamed, seen, record.run in under_way
        )
    found = projects(entries)
    if project is not None:
        if project not in found:
            raise UserError(f"project: there is no {project!r} in {root}{nearest(project, found)}; {_there(found)}")
        found = {project: found[project]}
        runs = {name: [one for one in own if _of(one, unnamed) == project] for name, own in runs.items()}
        runs = {name: own for name, own in runs.items() if own}
    return WholeLedger(accounts_of(runs), found, there.text)


def _shared_project(lines: list[dict[str, Any]]) -> str | None:
    """The project that all runs name, if it is one: commands for the whole root are of it too."""
    named = {line.get("project") for line in lines}
    return str(next(iter(named))) if len(named) == 1 and None not in named else None


def _of(one: Counted, unnamed: str) -> str:
    return str(one.line.get("project") or unnamed)


def _there(found: dict[str, ProjectAccount]) -> str:
    return f"there is {', '.join(found)}" if found else "there is none"


def _entries(
    record: CostRecord, there: Elsewhere, root: Path, unnamed: str, seen: set[str], under_way: bool
) -> list[Entry]:
    """What a command outside of a run's ranks cost, at its run's own site where it has one and no other is asked for;
    of what `train` did before its ranks began, the data apart. under_way: whether a process holds that run now."""
    total = sum(record.segments.values())
    fresh = sum(joules for name, joules in record.segments.items() if name not in seen)
    part = fresh / total if total else 1.0
    seen.update(record.segments)
    experiment = None if record.run is None else record.run.split("/")[0]
    own = _own_config(root, record)
    site = there.site_of(own.site)
    kwh = not_stated("another machine") if there.on_another else record.total() / JOULES_PER_KWH
    config = Config().model_copy(update={"site": site, "meter": own.meter})
    rows = cost_rows(config, kwh, not_stated(), not_stated(), "measured", _intensity(config, record))
    figures = PriceTag("", tuple(rows)).values("measured")
    lost = "unfinished" if under_way else "failed"  # a command that waits for its run has said no end yet
    ended = {"failed": "failed", "lost": lost}.get(record.outcome, "other")
    shares: dict[str, float] = {}
    for name, share in record.parts.items():
        into = OF_COMMANDS.get(name, ended) if ended == "other" else ended
        shares[into] = shares.get(into, 0.0) + share
    project, currency = record.project or unnamed, site.currency
    return [Entry(project, experiment, name, figures, currency, part * share) for name, share in shares.items()]


def _own_config(root: Path, record: CostRecord) -> Config:
    """Of the run that the command worked on, else what its record states of its site and meter."""
    try:
        if record.run is not None:
            return RunFolder(root / record.run).load_config()
        return Config.model_validate(dict(record.stated))
    except (UserError, OSError, ValidationError):
        return Config()


def _intensity(config: Config, record: CostRecord) -> Quantity | None:
    """By the curve of the command's site, as `own_intensity`; a command of no run kept no copy of the file."""
    try:
        return own_intensity(config.site, record.account)
    except UserError as error:
        if record.run is not None or record.stated.get("site", {}).get("curve") != config.site.curve:
            raise
        return not_stated(str(error))
