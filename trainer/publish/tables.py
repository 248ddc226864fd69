"""The tables of a publication: price tag, ledger, runs, law, grids and comparisons."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from trainer.books import parameters
from trainer.books.formatting import format_amount, format_quantity
from trainer.books.quantity import Quantity, Row
from trainer.publish.facts import Facts, measured_of, name_of
from trainer.publish.latex import Table
from trainer.publish.sources import GRID, LAW
from trainer.report.project_ledger import SHARES
from trainer.report.sums import UNITS as ALL_UNITS
from trainer.scaling.compare.text import table_of, verdict_lines

NOT_STATED = "not stated"
MOST_SETTINGS = 16  # that differ, of a comparison
OF_RUNS = {
    "FLOPs": ("flop.total", "FLOP"),
    "device-hours": ("machine.device_hours", "h"),
    "energy": ("energy.kwh", "kWh"),
    "carbon": ("carbon.kgco2e", "kg CO2e"),
}
OF_TOTALS = {
    "hours": "device-hours",
    "kwh": "energy",
    "kgco2e": "carbon",
    "embodied_kgco2e": "embodied",
    "water_l": "water",
    "flop": "FLOPs",
}
UNITS = {**ALL_UNITS, "embodied_kgco2e": "kg CO2e"}  # the column says the rest
WHERE_STATED = {  # columns that stand only where a run states them
    "embodied": ("carbon.embodied_kgco2e", "kg CO2e"),
    "water": ("water.litres", "l"),
}


def tables(facts: Facts) -> list[Table]:
    """All that the files allow."""
    found = [price_tag(facts), ledger_table(facts), projects_table(facts), runs_table(facts)]
    if facts.law is not None:
        found.append(law_table(facts, facts.law))
    found += [grid_table(facts, name, grid) for name, grid in facts.grids.items() if grid.get("rows")]
    return [*found, *comparison_tables(facts)]


def price_tag(facts: Facts) -> Table:
    """Planned and measured, of the run that the forms are about."""
    run = facts.model
    rows = [
        [row.name.strip(), _cell(row.planned, row.unit), _cell(row.measured, row.unit), _known(row)]
        for row in run.tag.rows
        if any(one is not None and one.value is not None for one in (row.planned, row.measured))
    ]
    missing = [
        row.name.strip()
        for row in run.tag.rows
        if all(one is None or one.value is None for one in (row.planned, row.measured))
    ]
    name = name_of(run)
    return Table(
        "price-tag",
        f"Price tag of {name} ({run.status}), science hash {run.config.science_hash()}.",
        ("", "planned", "measured", "measured is"),
        rows,
        f"isoflop report {name}",
        facts.hash_of(f"{name}/"),
        frozenset((1, 2)),
        [f"Not stated: {', '.join(missing)}.", *run.tag.notes] if missing else run.tag.notes,
    )


def _cell(quantity: Quantity | None, unit: str) -> str:
    return "" if quantity is None else format_quantity(quantity, unit).partition(" (")[0]


def _known(row: Row) -> str:
    return row.measured.provenance if row.measured is not None else ""


def ledger_table(facts: Facts) -> Table:
    """A row a kind of run of each experiment: what the research cost, failed and tuning runs included. A quantity that
    no run states has no column, and is named below."""
    shown = {name: UNITS[name] for name in OF_TOTALS if facts.total(name)[1]}
    rows = []
    for experiment, account in facts.ledger.items():
        label = experiment
        for kind, sums in account.items():
            if not isinstance(sums, dict) or not any(part["runs"] for part in sums.values()):
                continue
            count = max(part["runs"] for part in sums.values())
            cells = [_sum(sums.get(name), unit) for name, unit in shown.items()]
            rows.append([label, kind.replace("_", " "), str(count), *cells])
            label = ""
    if len(facts.ledger) > 1:
        totals = {name: dict(zip(("value", "known", "runs"), facts.total(name), strict=True)) for name in shown}
        cells = [_sum(totals[name], unit) for name, unit in shown.items()]
        rows.append(["all", "total", str(facts.total("flop")[2]), *cells])
    missing = [words for name, words in OF_TOTALS.items() if name not in shown]
    return Table(
        "ledger",
        "What all runs cost, by experiment and by what became of them.",
        ("experiment", "runs that are", "runs", *(OF_TOTALS[name] for name in shown)),
        rows,
        "isoflop ledger",
        facts.claim,
        frozenset(range(2, 3 + len(shown))),
        [
            "Wasted: steps that were trained twice; they are within the other rows.",
            *([f"Not stated: {', '.join(missing)}."] if missing else []),
        ],
    )


def projects_table(facts: Facts) -> Table:
    """A row a share of each project: its runs, and the commands beside them that keep a record."""
    totals = [account["total"] for account in facts.projects.values()]
    shown = {name: UNITS[name] for name in OF_TOTALS if any(total[name]["known"] for total in totals)}
    rows = []
    for project, account in facts.projects.items():
        label = project
        for share in (*SHARES, "total"):
            if not (entries := account[share]["entries"]):
                continue
            part = account[share]["share_of_kwh"]
            cells = [_sum(account[share][name], unit) for name, unit in shown.items()]
            rows.append([label, share, str(entries), *cells, "" if part is None else f"{part:.0%}"])
            label = ""
    return Table(
        "projects",
        "What each project cost, by what it was spent on.",
        ("project", "spent on", "entries", *(OF_TOTALS[name] for name in shown), "share"),
        rows,
        "isoflop ledger",
        facts.claim,
        frozenset(range(2, 4 + len(shown))),
        [
            "Entries: runs, and commands, whose device-hours and FLOPs nobody counts. Share: of the energy. "
            "Evaluation, data and other: commands outside of training. Other: starting runs, reports, calibration."
        ],
    )


def _sum(part: Mapping[str, Any] | None, unit: str) -> str:
    if part is None or not part["runs"]:
        return ""
    if part["value"] is None:
        return NOT_STATED
    text = format_amount(part["value"], unit)
    return text if part["known"] == part["runs"] else f"at least {text}"


def runs_table(facts: Facts) -> Table:
    """A row a run."""
    stated = {
        name: (key, unit)
        for name, (key, unit) in WHERE_STATED.items()
        if any(measured_of(run, key).value is not None for run in facts.runs)
    }
    shown, rows = OF_RUNS | stated, []
    for run in facts.runs:
        best, last = run.best, run.steps.kept[-1] if run.steps.kept else {}
        score = None if best is None else best.get("bits_per_byte") or best.get("loss")
        figures = [format_quantity(measured_of(run, key), unit).partition(" (")[0] for key, unit in shown.values()]
        size, tokens = parameters(run.config).total, last.get("tokens")
        loss = f"{score:.4f}" if isinstance(score, int | float) else "none"
        rows.append([name_of(run), run.status, _short(size), _short(tokens), loss, *figures])
    return Table(
        "runs",
        "All runs.",
        ("run", "status", "parameters", "tokens", "held out", *shown),
        rows,
        "isoflop report <run>",
        facts.claim,
        frozenset(range(2, 5 + len(shown))),
        ["Held out: bits per byte, or nats a target where these are not known."],
    )


def _short(count: float | None) -> str:
    return NOT_STATED if count is None else f"{count:.3g}" if count >= 1e6 else f"{count:,.0f}"


def law_table(facts: Facts, law: Mapping[str, Any]) -> Table:
    """Constants of the law with their intervals."""
    units = law.get("units", {})
    rows = []
    for name, constant in law.get("constants", {}).items():
        low, high = (f"{constant[end]:.4g}" for end in ("low", "high"))
        rows.append([name, f"{constant['value']:.4g}", f"{low} to {high}", units.get(name, "")])
    ranges = [f"{name} {_short(low)} to {_short(high)}" for name, (low, high) in law.get("range", {}).items()]
    return Table(
        "law",
        f"The law {law.get('formula')} ({law.get('source')}) through {law.get('runs')} runs.",
        ("constant", "value", "95% interval", "unit"),
        rows,
        "isoflop fit <root>",
        facts.hash_of(LAW),
        frozenset((1, 2)),
        [f"Loss in {law.get('loss_unit')}. Fitted over {'; '.join(ranges)}.", f"law.json: {str(law.get('hash'))[:12]}"],
    )


def grid_table(facts: Facts, experiment: str, grid: Mapping[str, Any]) -> Table:
    """Objectives at equal compute: scores on tasks, and what pre-training took."""
    tasks = list(dict.fromkeys(name for row in grid["rows"] for name in row["scores"]))
    sized = any(row.get("size") for row in grid["rows"])
    rows = []
    for row in grid["rows"]:
        cells = [_score(row["scores"].get(task)) for task in tasks]
        head = [row["objective"], *([str(row["size"])] if sized else [])]
        costs = [_amount(row["costs"].get("flop"), "FLOP"), _amount(row["costs"].get("kwh"), "kWh")]
        rows.append([*head, _short(row["parameters"]), *cells, *costs])
    head = ["objective", *(["size"] if sized else []), "parameters"]
    return Table(
        f"grid-{experiment}",
        f"{grid.get('title')}: mean over seeds and half of the 95% interval; * the best of its column.",
        (*head, *tasks, "FLOPs", "energy"),
        rows,
        str(grid.get("command") or "isoflop grid"),
        facts.hash_of(f"{experiment}/{GRID}"),
        frozenset(range(len(head) - 1, len(head) + len(tasks) + 2)),
    )


def _score(score: Mapping[str, Any] | None) -> str:
    if score is None:
        return "none"
    half = score.get("half_width")
    return f"{score['mean']:.4g}" + ("" if half is None else f" +- {half:.2g}") + ("*" if score.get("best") else "")


def _amount(value: float | None, unit: str) -> str:
    return NOT_STATED if value is None else format_amount(value, unit)


def comparison_tables(facts: Facts) -> Iterator[Table]:
    """One an experiment whose runs can be compared: settings and figures below each other, a column a group."""
    for experiment, found in facts.comparisons.items():
        head, *lines = table_of(found)
        settings, figures = lines[: len(found.differences)], lines[len(found.differences) :]
        more = len(settings) - MOST_SETTINGS
        left_out = [f"{more} more settings differ; the command shows them."] if more > 0 else []
        yield Table(
            f"compare-{experiment}",
            f"Runs of {experiment} beside each other.",
            head,
            settings[:MOST_SETTINGS] + figures,
            f"isoflop compare {experiment}",
            facts.hash_of(f"{experiment}/"),
            frozenset(),
            [*left_out, *verdict_lines(found), *found.notes],
        )
