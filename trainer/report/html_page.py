"""report.html: one file that works offline, opens from disk and loads nothing from elsewhere."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from html import escape

from trainer.books.equivalents import STRUBELL
from trainer.books.formatting import COLUMNS, REPORT, format_quantity, unknown_line
from trainer.books.quantity import Quantity
from trainer.plugins import origin
from trainer.report.curves import plots
from trainer.report.evaluations import section
from trainer.report.html_template import html_document, html_table, preformatted, tiles
from trainer.report.live_plots import live, pictures
from trainer.report.policy import loss_unit
from trainer.report.run_data import RunData
from trainer.report.task_curves import task_table


def run_page(run_data: RunData) -> str:
    """report.html of one run, as text."""
    config = run_data.config
    environment = json.dumps(run_data.environment, indent=2, sort_keys=True, ensure_ascii=False)
    drawn = plots(run_data)
    evaluated, of_tasks = section(run_data.run, len(drawn))
    on_page = live([*drawn, *of_tasks])
    tasks = task_table(run_data) + evaluated
    return html_document(
        f"{config.experiment} / {run_data.run.name}",
        f"{run_data.status}, science hash {config.science_hash()}, overrides: {run_data.overrides or 'none'}",
        {
            "": tiles(_tiles(run_data)),
            "Price tag": _price_tag(run_data),
            "Curves": pictures(drawn),
            **({"Tasks": tasks} if tasks else {}),
            "Logbook": _logbook(run_data),
            **({"Plugins": _plugins(run_data)} if run_data.plugins else {}),
            "Configuration": preformatted(config.to_yaml()),
            "Environment": preformatted(environment),
        },
        on_page.html,
        on_page.hashes,
    )


def _tiles(run_data: RunData) -> dict[str, str]:
    best = run_data.best
    score, label = (best.get("bits_per_byte"), "held-out bits per byte") if best else (None, "held-out loss")
    if best and score is None:
        score, label = best["loss"], f"held-out loss, {loss_unit(run_data.config)}"
    found = {label: f"{score:.4f}" if score is not None else "not evaluated"}
    for key, label in (
        ("data.tokens", "tokens"),
        ("time.wall", "training time"),
        ("energy.device_kwh", "energy of the devices"),
        ("carbon.kgco2e", "carbon"),
        ("cost.amount", "money"),
    ):
        row = run_data.tag[key]
        found[label] = format_quantity(row.measured, row.unit).partition(" (")[0] if row.measured else "not stated"
    return found


def _price_tag(run_data: RunData) -> str:
    tag = run_data.tag
    columns = [name for name in COLUMNS if name != "revised" or any(row.revised is not None for row in tag.rows)]
    heads = "".join(f'<th scope="col" class="n">{COLUMNS[name]}</th>' for name in columns)
    lines = [f'<table class="stack"><tr><th scope="col">figure</th>{heads}<th scope="col">source</th></tr>']
    for row in (one for one in tag.rows if one.known):
        cells = []
        for column, quantity in ((COLUMNS[name], getattr(row, name)) for name in columns):
            css = "n" if quantity is not None and quantity.value is not None else "n none"
            value, _, interval = escape(format_quantity(quantity, row.unit)).partition(" (")
            small = f"<small>({interval}</small>" if interval else ""
            cells.append(f'<td class="{css}" data-of="{escape(column)}"><span>{value}{small}</span></td>')
        both = [quantity for quantity in (row.measured, row.planned) if quantity]
        known = [quantity for quantity in both if quantity.value is not None] or both
        sources = dict.fromkeys(map(_source, known))
        name = escape(row.name).replace("  ", "&nbsp;&nbsp;")
        source = f'<td class="s" data-of="source">{escape("; ".join(filter(None, sources)))}</td>'
        lines.append(f"<tr><td>{name}</td>{''.join(cells)}{source}</tr>")
    notes = "".join(f"<p>{escape(note)}</p>" for note in (unknown_line(tag, REPORT), *tag.notes) if note)
    return "".join(lines) + "</table>" + notes + _equivalents(run_data.tag.equivalents)


def _equivalents(times: dict[str, float]) -> str:
    if not times:
        return ""
    rows = ((name, f"{value:.2g} x") for name, value in times.items())
    return html_table([f"as much carbon as ({STRUBELL})", "times"], rows, numbers=[1])


def _source(quantity: Quantity) -> str:
    if quantity.value is None:
        return f"not stated: {quantity.source}" if quantity.source else ""
    return f"{quantity.provenance}: {quantity.source}" if quantity.source else quantity.provenance


def _plugins(run_data: RunData) -> str:
    rows = []
    for one in run_data.plugins:
        brings = ", ".join(f"{kind} {name}" for kind, names in one.get("brings", {}).items() for name in names)
        rows.append([str(cell) for cell in (one.get("name"), origin(one), brings, one.get("sha256"))])
    return html_table(["plugin", "of", "brings", "sha256 of its source"], rows)


def _logbook(run_data: RunData) -> str:
    if not run_data.events:
        return "<p>Nothing was written.</p>"
    rows = []
    for event in run_data.events:
        stamp = event.get("time")
        at = f"{datetime.fromtimestamp(stamp, UTC):%Y-%m-%d %H:%M:%S}" if isinstance(stamp, int | float) else ""
        rows.append([at, *(str(event.get(part, "")) for part in ("step", "name", "text"))])
    return html_table(["time (UTC)", "step", "event", "what happened"], rows, numbers=[1])
