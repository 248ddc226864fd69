"""The page, as it is served: a table of all runs that needs no script, and what the script fills with curves."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape
from pathlib import Path
from string import Template
from typing import Any

from trainer.board.board_run import BoardRun
from trainer.board.curve import finite
from trainer.board.head import PRICES
from trainer.books.formatting import format_amount

NOT_STATED = '<span class="none">not stated</span>'
FIRST_ROWS = 100  # that a browser with scripts paints first; the others follow when it asks for the index
NO_CURRENCY = "(no currency)"
# Columns of the index: title, what it sorts by, and whether it is a number.
COLUMNS = ("run", "state", "size", "step", "loss", "held out", "tokens", "FLOP", "energy", "money", "CO2e")

TEMPLATE = Path(__file__).parent / "static" / "page.html"


def page(root: str, runs: Iterable[BoardRun], version: int, bokeh: str) -> str:
    """The whole page. bokeh: the version of the library, for the address of its script."""
    rows = [row_html(run) for run in sorted(runs, key=lambda run: -(run.time or 0.0))]
    rest = "".join(rows[FIRST_ROWS:])
    rest = f"<noscript><table><tbody>{rest}</tbody></table></noscript>" if rest else ""
    heads = "".join(
        f'<th scope="col"{_sorts(place)}><span class="plain">{title}</span></th>' for place, title in enumerate(COLUMNS)
    )
    count = f"{len(rows):,} run{'s' * (len(rows) != 1)}"
    return Template(TEMPLATE.read_text()).substitute(
        root=escape(root), rows="".join(rows[:FIRST_ROWS]), rest=rest, heads=heads, count=count, bokeh=escape(bokeh)
    )


def _sorts(place: int) -> str:
    return f' data-column="{place}"' + (' class="n"' if place > 1 else "")


def row_html(run: BoardRun) -> str:
    """One row of the index; what it is sorted by stands beside what is read."""
    name = escape(run.name)
    about = " · ".join(escape(f"{_short(key)} {value}") for key, value in _about(run).items())
    if run.has_report:
        about += f' <a href="/run/{run.number}/report.html">report</a>'
    pick = f'<input type="checkbox" class="pick scripted" data-run="{run.number}" aria-label="draw {name}">'
    open_it = f'<button type="button" class="open" data-run="{run.number}">{name}</button>'
    first = f'<th scope="row" data-sort="{name}">{pick}{open_it}<small>{about}</small></th>'
    word = escape(run.state)
    state = f'<td data-sort="{word}"><span class="state" data-state="{word}">{word}</span></td>'
    cells = "".join(_cell(value, text) for value, text in _figures(run))
    time = "" if run.time is None else f"{run.time:.0f}"
    return f'<tr data-run="{run.number}" data-time="{time}">{first}{state}{cells}</tr>'


def _about(run: BoardRun) -> dict[str, str]:
    names = ("model.name", "objective.name", "optim.lr", "optim.batch_size", "seed")
    return {name: run.labels[name] for name in names if name in run.labels}


def _short(key: str) -> str:
    return {"model.name": "", "objective.name": "", "optim.batch_size": "batch"}.get(key, key.rpartition(".")[2])


def _figures(run: BoardRun) -> list[tuple[float | None, str]]:
    """Of each column after the state: what it sorts by, and its text."""
    spent, plan = run.spent, run.plan
    size, step, steps = plan.get("model.parameters"), run.step, plan.get("data.steps")
    at = "" if step is None else f"{step:,.0f}" + (f" / {steps:,.0f}" if steps else "")
    score, unit = _held_out(run)
    cells = [
        (size, _amount(size, "")),
        (step, at),
        (run.loss, "" if run.loss is None else f"{run.loss:.4f}"),
        (score, "" if score is None else f"{score:.4f}{unit}"),
    ]
    for key, unit in (("data.tokens", ""), ("flop.total", "FLOP"), ("energy.kwh", "kWh")):
        cells.append((spent.get(key), _amount(spent.get(key), unit)))
    for key, unit in (("cost.amount", run.currency or NO_CURRENCY), ("carbon.kgco2e", "kgCO2e")):
        cells.append((spent.get(key), _amount(spent.get(key), unit)))
    return cells


def _held_out(run: BoardRun) -> tuple[float | None, str]:
    """The newest score that is known, and its unit."""
    said = ((run.held_out, "bits_per_byte"), (run.held_out, "loss"), (run.line, "held_out_bits_per_byte"))
    for place, key in said:
        score = finite(place.get(key))
        if score == score:
            return score, "" if key == "loss" else " bits/byte"
    return None, ""


def _amount(value: float | None, unit: str) -> str:
    if value is not None and unit == "kgCO2e" and abs(value) < 1:
        value, unit = 1000 * value, "gCO2e"
    return "" if value is None else format_amount(value, unit)


def _cell(value: float | None, text: str) -> str:
    sort = "" if value is None else f' data-sort="{value!r}"'
    return f'<td class="n"{sort}>{escape(text) if text else NOT_STATED}</td>'


def panel_html(details: Mapping[str, Any]) -> str:
    """What one run is about, beside its curve: price, events, texts it wrote, its science."""
    run: BoardRun = details["run"]
    report = f'<a href="/run/{run.number}/report.html">report.html</a>' if run.has_report else "no report yet"
    head = f'<span data-part="head">{escape(run.state)} · {report}</span>'
    parts = [
        f'<h2 id="panel-title" tabindex="-1">{escape(run.name)}</h2>',
        f'<p class="note">{head} <button type="button" id="close">close</button></p>',
        '<div id="run-chart" class="chart" tabindex="0" role="group" aria-label="Loss of this run with its events; '
        'left and right go along it, plus and minus zoom, 0 shows all."></div>',
        '<p id="run-readout" class="readout" role="status" aria-live="polite"></p>',
        '<div class="columns">',
        _part("Price", _prices(details["price"], run.currency)),
        _part("Science", _table(("key", "value"), details["labels"].items())),
        "</div>",
        _part("Text along training", _samples(details["samples"])),
        _part("Logbook", _events(details["events"])),
    ]
    return "".join(parts)


def _part(title: str, html: str) -> str:
    """A part of the panel that is renewed by itself as the run goes on."""
    return f'<div><h3>{title}</h3><div data-part="{title}">{html}</div></div>'


def _prices(price: Mapping[str, list[float | None]], currency: str) -> str:
    rows = []
    for key, (planned, measured) in price.items():
        name, unit = PRICES[key]
        unit = currency or NO_CURRENCY if key == "cost.amount" else unit
        rows.append((name, _amount(planned, unit), _amount(measured, unit)))
    return _table(("figure", "planned", "so far"), rows)


def _events(events: list[dict[str, Any]]) -> str:
    if not events:
        return '<p class="note">Nothing was written.</p>'
    rows = ((_step(event), event["name"], event["text"]) for event in reversed(events))
    return _scrolling("logbook, newest first", _table(("step", "event", "what happened"), rows))


def _samples(samples: list[dict[str, Any]]) -> str:
    if not samples:
        return '<p class="note">This run wrote none.</p>'
    rows = ((_step(one), str(one.get("prompt") or ""), str(one["text"])) for one in reversed(samples))
    return _scrolling("text along training, newest first", _table(("step", "prompt", "text"), rows))


def _step(one: Mapping[str, Any]) -> str:
    return "" if one.get("step") is None else f"{one['step']:,}"


def _scrolling(label: str, html: str) -> str:
    return f'<div class="table" tabindex="0" role="region" aria-label="{label}">{html}</div>'


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    lines = ("".join(f"<td>{escape(cell) if cell else NOT_STATED}</td>" for cell in row) for row in rows)
    titles = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in head)
    return (
        f"<table><thead><tr>{titles}</tr></thead><tbody>{''.join(f'<tr>{line}</tr>' for line in lines)}</tbody></table>"
    )
