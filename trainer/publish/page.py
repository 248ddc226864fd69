"""index.html of a publication: what published.json holds, for people."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from trainer.books.formatting import format_quantity
from trainer.publish.checklist import sentences
from trainer.publish.citation import title
from trainer.publish.facts import Facts, name_of
from trainer.publish.forms import FORMS, NOT_COUNTED, Answer, answers
from trainer.publish.latex import SHORT, Table, pieces
from trainer.report.html_template import html_document, html_list, tiles

LETTERS = 125  # of a line of a table on a page of full width


def page(facts: Facts, shown: Sequence[Table]) -> str:
    found = answers(facts)
    cost = "".join(f"<p>{escape(sentence)}</p>" for sentence in sentences(facts))
    sections = {"": tiles(_tiles(facts)), "Cost": cost}
    for key, form in FORMS.items():
        of_it = [one for one in found if one.form == key]
        sections[f"{form.title} ({form.date})"] = _fields(of_it) + _missing(of_it)
    sections["Not counted"] = html_list(NOT_COUNTED)
    for table in shown:
        sections[table.caption] = _table(table)
    checks = f"isoflop verify <this folder>\nisoflop verify <this folder> rerun={name_of(facts.model)}"
    sections["To check it"] = f'<pre class="broken">{escape(checks)}\n\nclaim sha256 {facts.claim}</pre>'
    return html_document(title(facts), f"{len(facts.runs)} runs; the forms are about {name_of(facts.model)}", sections)


def _tiles(facts: Facts) -> dict[str, str]:
    found = {"parameters": f"{facts.parameters:,}"}
    for key, unit, label in (
        ("flop.total", "FLOP", "training of the model"),
        ("energy.kwh", "kWh", "its energy"),
        ("carbon.kgco2e", "kg CO2e", "its carbon"),
    ):
        found[label] = format_quantity(facts.figure(key), unit).partition(" (")[0]
    found["energy of all runs"] = format_quantity(facts.whole("kwh"), "kWh").partition(" (")[0]
    return found | {"claim": facts.claim[:SHORT]}


def _fields(found: Sequence[Answer]) -> str:
    lines = ["<table class='wrap'><tr><th>field</th><th>value</th><th>known</th><th>of what</th></tr>"]
    for one in found:
        if one.value is not None:
            cells = (one.field, _value(one), _known(one), one.boundary)
            css = ("", "", ' class="s"', ' class="s"')
            lines.append(f"<tr>{''.join(f'<td{c}>{escape(t)}</td>' for c, t in zip(css, cells, strict=True))}</tr>")
    return "".join(lines) + "</table>" if len(lines) > 1 else ""


def _value(one: Answer) -> str:
    if not isinstance(one.value, int | float):
        return str(one.value)
    least = one.low is not None and one.high is None
    value = one.low if least and one.low is not None else one.value
    number = f"{value:,}" if one.unit == "parameters" else f"{value:.4g}"
    return f"{'at least ' if least else ''}{number} {one.unit}".strip()


def _known(one: Answer) -> str:
    return f"{one.provenance}: {one.source}" if one.source else one.provenance


def _missing(found: Sequence[Answer]) -> str:
    names = [one.field for one in found if one.value is None]
    return f"<p class='none'>Not stated: {escape('; '.join(names))}.</p>" if names else ""


def _table(table: Table) -> str:
    def css(number: int) -> str:
        return ' class="n"' if number in table.numbers else ""

    def cell(row: Sequence[str], number: int, above: str) -> str:
        of = "" if number == 0 else f' data-of="{escape(table.columns[number])}"'
        again = f'<span class="again">{escape(above)}</span>' if number == 0 and not row[0] else ""
        return f"<td{css(number)}{of}>{_breakable(row[number])}{again}</td>"

    blocks = []
    for block in table.blocks(LETTERS):
        head = "".join(f"<th{css(number)}>{_breakable(table.columns[number])}</th>" for number in block)
        rows, above = [], ""
        for row in table.rows:
            above = row[0] or above  # a row that stands below one of the same name does not say it, but on a phone
            rows.append(f"<tr>{''.join(cell(row, number, above) for number in block)}</tr>")
        blocks.append(f'<table class="stack"><tr>{head}</tr>{"".join(rows)}</table>')
    notes = "".join(f"<p class='none'>{escape(note)}</p>" for note in table.notes)
    source = f"<p class='none'>{escape(table.command)} &middot; sha256 of its sources {table.hash[:SHORT]}</p>"
    return f"{'<br>'.join(blocks)}{notes}{source}"


def _breakable(text: str) -> str:
    """Text whose long words may be broken where their parts meet."""
    return " ".join("<wbr>".join(map(escape, pieces(word))) for word in text.split())
