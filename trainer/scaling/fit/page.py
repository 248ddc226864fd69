"""fit.html: what was fitted, how far to trust it, and what follows, on one page that works offline."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from trainer.report.html_template import html_document, html_list, html_table, in_words, tiles
from trainer.report.live_plots import figures, live
from trainer.report.plots import Picture
from trainer.scaling.fit.findings import Findings
from trainer.scaling.fit.law_file import units
from trainer.scaling.fit.resampling import interval
from trainer.scaling.fit.text import big, format_findings, interval_text, number
from trainer.scaling.forms import FORMS

TRUST = ("residuals", "held-out", "influence")  # pictures of their own section


def fit_page(found: Findings, pictures: Mapping[str, Picture], title: str, beside: Sequence[str] = ()) -> str:
    """The document. pictures: by name; beside: texts of what else the table says."""
    law = [one for name, one in pictures.items() if name not in TRUST]
    trust = [pictures[name] for name in TRUST if name in pictures]
    on_page = live([one.plot for one in (*law, *trust)])
    sections = {
        "": tiles(_tiles(found)),
        "Doubts": html_list(doubt.text for doubt in found.doubts),
        "Predictions": _predictions(found),
        "Best models": _advice(found),
        "Runs and law": figures(law),
        "How far to trust it": figures(trust, len(law)),
        "Forms side by side": _forms(found),
        "Constants": _constants(found),
        "In words": in_words("\n\n".join([format_findings(found), *beside])),
    }
    sections = {name: html for name, html in sections.items() if html and html != html_list(())}
    under = f"{len(found.table.runs)} runs"
    return html_document(f"Scaling law of {title}", under, sections, on_page.html, on_page.hashes)


def _tiles(found: Findings) -> dict[str, str]:
    law, scores = found.law, {one.form: one for one in found.choice.candidates}
    chosen = scores.get(found.chosen)
    figures = {"form of the law": found.chosen}
    if chosen is not None and math.isfinite(chosen.error):
        figures["error on held-out larger runs"] = f"{100 * chosen.error:.2g}%"
    if law is not None:
        figures["rms of the runs around it"] = f"{100 * law.residual:.2g}%"
    if found.seed_noise is not None:
        figures["seed noise"] = f"{100 * found.seed_noise[0]:.2g}%"
    return figures | {"doubts": str(len(found.doubts))}


def _forms(found: Findings) -> str:
    """Every form: its formula, how it did on runs it had not seen, and why it was not chosen."""
    rows = []
    for one in found.choice.candidates:
        error = f"{100 * one.error:.2g}%" if math.isfinite(one.error) else ""
        bias = f"{100 * one.bias:+.2g}%" if math.isfinite(one.bias) else ""
        weight = f"{one.weight:.2f}" if one.weight else ""
        why = "chosen: " + found.choice.why if one.form == found.chosen else one.refused
        rows.append([one.form, FORMS[one.form].title, error, bias, str(one.constants), weight, why])
    return html_table(["form", "formula", "held-out error", "bias", "constants", "weight", "chosen or not"], rows)


def _constants(found: Findings) -> str:
    rows = []
    for form, law in found.laws.items():
        known = units(FORMS[form], found.table)
        for name, column in zip(FORMS[form].constants, law.constants().T, strict=True):
            rows.append([form, name, interval_text(interval(column[0], column[1:])), known.get(name, "")])
    return html_table(["form", "constant", "value (95% interval)", "unit"], rows)


def _predictions(found: Findings) -> str:
    rows = []
    for one in found.predictions:
        place = ", ".join(f"{name} {big(value)}" for name, value in one.variables.items())
        beyond = f"{one.extrapolation:.3g} x in {one.axis}" if one.axis else "no"
        rows.append([place, interval_text(one.loss), beyond])
    return html_table(["place", "loss (95% of runs there)", "beyond the runs"], rows) if rows else ""


def _advice(found: Findings) -> str:
    rows = []
    for one in found.advice:
        figures = [interval_text(one.parameters, big), interval_text(one.tokens, big)]
        loss = interval_text(one.loss) if math.isfinite(one.loss.value) else ""
        rows.append([f"{number(one.budget)} {one.unit}", *figures, loss, one.method, one.extrapolation])
    return html_table(["budget", "parameters", "tokens", "loss", "by", "beyond the runs"], rows) if rows else ""
