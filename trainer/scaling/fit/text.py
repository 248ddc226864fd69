"""Findings as text for a terminal."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from trainer.books.formatting import format_amount
from trainer.scaling.fit.advice import Advice
from trainer.scaling.fit.choice_text import format_choice, format_predictions
from trainer.scaling.fit.findings import Findings, fit_optima
from trainer.scaling.fit.resampling import Interval, interval
from trainer.scaling.fit.table import Table, named
from trainer.scaling.forms import FORMS

NAMES: dict[str, str] = {
    "chinchilla": "approach 3  parametric fit",
    "kaplan": "Kaplan's form",
    "ladder": "power of the FLOPs",
    "farseer": "Farseer's form",
    "over-training": "over-training form",
    "data-constrained": "data-constrained form",
    "experts": "Clark's form",
    "experts-floor": "experts with a floor",
    "mixture": "joint MoE form",
    "sparsity": "joint MoE form, total and active",
    "vocabulary": "vocabulary form",
}


def format_findings(found: Findings) -> str:
    """One block a question: what was read, what each approach says, how far to trust it, what to do."""
    lines = [*_table(found), "", *_exponents(found), "", *_laws(found)]
    advised = [line for advice in found.advice for line in format_advice(advice)]
    for block in (
        format_choice(found.choice),
        _trust(found),
        advised,
        format_predictions(found.predictions, found.ensemble),
    ):
        lines += ["", *block] if block else []
    return "\n".join(lines)


def format_optima(table: Table) -> str:
    """The exponents through a table of compute-optimal models."""
    facts = fit_optima(table)
    lines = [f"{several(len(table.runs), 'compute-optimal model')}; N: {table.counts}; C: {table.flop_rule}"]
    lines += [f"  {name} in {what}  {facts[name]:.3f}" for name, what in (("a", "N ~ C^a"), ("b", "D ~ C^b"))]
    return "\n".join([*lines, f"  spread of N around the power {100 * facts['spread_of_log_N']:.2g}%"])


def _table(found: Findings) -> list[str]:
    table = found.table
    sizes, tokens, flop = (table.column(name) for name in ("parameters", "tokens", "flop"))
    lines = [
        f"{several(len(table.runs), 'run')} of {several(len(np.unique(sizes)), 'size')}: "
        f"{big(sizes.min())} to {big(sizes.max())} parameters, {_range(tokens, big)} tokens, "
        f"{_range(flop, '{:.3g}'.format)} FLOP",
        f"N         {table.counts}",
        f"C         {table.flop_rule}",
    ]
    lines += [f"left out  {line}" for line in _left_out(table)]
    return lines + [f"note      {note}" for note in table.notes]


def _range(column: np.ndarray, write: Callable[[float], str]) -> str:
    known = column[np.isfinite(column)]
    return f"{write(known.min())} to {write(known.max())}" if len(known) else "no stated"


def _left_out(table: Table) -> list[str]:
    """A line for each run; for many runs of one reason one line."""
    by_reason: dict[str, list[str]] = {}
    for name, why in table.left_out:
        by_reason.setdefault(why, []).append(name)
    lines = []
    for why, names in by_reason.items():
        several_runs = f"{len(names)} runs, {why}: {named(names)}"
        lines += [several_runs] if len(names) > 2 else [f"{name}: {why}" for name in names]
    return lines


def _exponents(found: Findings) -> list[str]:
    """The table of papers: N ~ C^a, D ~ C^b by each approach, with 95% intervals."""
    lines = [f"{'compute-optimal':<31}{'a in N ~ C^a':<24}b in D ~ C^b      (95% bootstrap intervals)"]
    rows: list[tuple[str, str, list[Interval]]] = [
        ("approach 1  minimum of curves", found.envelope.why, [found.envelope.a, found.envelope.b]),
        ("approach 2  isoFLOP profiles", found.isoflop.why, [found.isoflop.a, found.isoflop.b]),
    ]
    forms: tuple[str, ...] = ("chinchilla", "kaplan")
    for form in forms:
        law = found.laws.get(form)
        powers = [interval(column[0], column[1:]) for column in law.exponents().T] if law else []
        rows.append((NAMES[form], found.refused.get(form, ""), powers))
    for name, why, figures in rows:
        said = f"not determined: {why}" if why else "".join(f"{_interval(figure):<24}" for figure in figures)
        lines.append(f"{name:<31}{said}".rstrip())
    return lines


def _laws(found: Findings) -> list[str]:
    lines = []
    for form, law in found.laws.items():
        if form not in NAMES and form not in found.choice.weights():
            continue
        lines.append(f"{FORMS[form].title}   ({100 * law.residual:.2g}% rms of the runs)")
        for name, column in zip(FORMS[form].constants, law.constants().T, strict=True):
            lines.append(f"  {name:<8} {_interval(interval(column[0], column[1:]))}")
        lines += [f"  doubt: {doubt}" for doubt in law.doubts()]
    return lines


def _trust(found: Findings) -> list[str]:
    lines = []
    for score in found.held_out:
        name, whose = NAMES.get(score.form, score.form).split("  ")[0], "its" if score.runs == 1 else "their"
        lines.append(
            f"{name:<18} without the largest {several(score.runs, 'run')}, predicts {whose} loss within "
            f"{100 * score.error:.2g}% rms (mean {100 * score.bias:+.2g}%), {score.reach:.3g} x beyond the rest"
        )
    if not found.held_out:
        lines.append("prediction error   not known: without the largest runs the rest is too poor to fit")
    if found.seed_noise is None:
        lines.append("seed noise         not known: no two runs differ in the seed alone")
    else:
        noise, freedom = found.seed_noise
        lines.append(f"seed noise         {100 * noise:.2g}% of the loss ({freedom} degrees of freedom)")
    return lines


def format_advice(advice: Advice) -> list[str]:
    amount = f"{advice.budget:.4g} FLOP" if advice.axis == "flop" else format_amount(advice.budget, advice.unit)
    lines = [
        f"best model for {amount} by {advice.method}" + (f" ({advice.extrapolation})" if advice.extrapolation else "")
    ]
    for name, figure in (("parameters", advice.parameters), ("tokens", advice.tokens)):
        lines.append(f"  {name:<11} {_interval(figure, big)}")
    if math.isfinite(advice.loss.value):
        lines.append(f"  {'loss':<11} {_interval(advice.loss)}")
    return lines


def _interval(figure: Interval, write: Callable[[float], str] | None = None) -> str:
    write = write or number
    if not math.isfinite(figure.low):
        return f"{write(figure.value)} (no interval)"
    return f"{write(figure.value)} ({write(figure.low)} to {write(figure.high)})"


def several(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def number(value: float) -> str:
    """Three digits behind the point for what is about 1, else four significant ones."""
    return f"{value:.3f}" if 0.01 <= abs(value) < 100 else f"{value:.4g}"


def big(value: float) -> str:
    """1.23M, 4.5B: counts of parameters and tokens."""
    for factor, letter in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if value >= factor:
            return f"{value / factor:.3g}{letter}"
    return f"{value:.3g}"
