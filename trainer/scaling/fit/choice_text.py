"""The forms side by side, predictions and a stored law against runs, as text for a terminal."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from trainer.scaling.fit.choice import Candidate, Choice
from trainer.scaling.fit.ensemble import Calibration, Ensemble
from trainer.scaling.fit.law_file import Against
from trainer.scaling.fit.predict import Prediction, short
from trainer.scaling.settings.text import format_prediction

_COLUMNS = re.compile("it needs a column of (.*), stated by every run")


def format_choice(choice: Choice) -> list[str]:
    """One line a form that could be fitted, lowest held-out error first; then why others could not be."""
    lines = [f"form of the law: {choice.chosen} ({choice.why})"]
    lines.append(f"  {'form':<20} {'held-out error':>14} {'bias':>8} {'constants':>9} {'weight':>7}")
    fitted = [one for one in choice.candidates if one.cuts or one.weight]
    lines += [_line(one) for one in fitted]
    others = [one for one in choice.candidates if one not in fitted]
    absent = {one.form: match[1].replace(" and of ", ", ") for one in others if (match := _COLUMNS.match(one.refused))}
    lines += [f"  {one.form:<20} not tried: {one.refused}" for one in others if one.form not in absent]
    columns = ", ".join(f"{form} ({names})" for form, names in absent.items())
    return lines + ([f"  without the columns that they read: {columns}"] if absent else [])


def _line(one: Candidate) -> str:
    error = f"{100 * one.error:.2g}%" if math.isfinite(one.error) else "unknown"
    bias = f"{100 * one.bias:+.2g}%" if math.isfinite(one.bias) else ""
    weight = f"{one.weight:.2f}" if one.weight else "-"
    return f"  {one.form:<20} {error:>14} {bias:>8} {one.constants:>9} {weight:>7}  {one.refused}".rstrip()


def format_predictions(predictions: Sequence[Prediction], ensemble: Ensemble) -> list[str]:
    """The table of `predict=`."""
    if not predictions:
        return []
    shares = [f"{member.weight:.2f} {member.form}" for member in ensemble.members]
    names = " + ".join(shares) if ensemble.averaged else ensemble.members[0].form
    wider = f", {' and '.join(shares[1:])} in its interval" if shares[1:] and not ensemble.averaged else ""
    lines = [f"predicted by {names}{wider}", f"  {_interval_is(ensemble.calibration)}"]
    lines.append(f"  {'place':<34} {'loss':>8}  {'95% of runs there':<20} beyond the runs")
    for one in predictions:
        low, high = (f"{x:.4g}" for x in one.loss[1:])
        beyond = f"{one.extrapolation:.3g} x in {one.axis}" if one.axis else "no"
        lines.append(f"  {_place(one):<34} {one.loss.value:>8.4g}  {f'{low} to {high}':<20} {beyond}")
        for name, facts in one.beside.items():
            said = format_prediction(facts) if name == "settings" else _facts(facts)
            # Scores of tasks are printed as tables of their own.
            lines += [f"    {name}: {said}"] if name != "tasks" else []
    return lines


def _interval_is(calibration: Calibration) -> str:
    if not calibration.tested:
        return "interval of a run, not tested: no runs could be held out"
    return (
        f"interval of a run from {calibration.checked} held-out prediction{'s' * (calibration.checked != 1)}: "
        f"{100 * calibration.noise:.2g}% noise, "
        f"the law's own spread x {calibration.stretch:.2g}, {100 * calibration.growth:.2g}% for each factor e beyond "
        "the runs"
    )


def _place(one: Prediction) -> str:
    given = [f"{name}={short(value)}" for name, value in one.variables.items() if name not in ("parameters", "tokens")]
    place = "@".join(short(one.variables[name]) for name in ("parameters", "tokens") if name in one.variables)
    return place + (":" + ",".join(given) if given else "")


def _facts(facts: object) -> str:
    if isinstance(facts, dict):
        return ", ".join(f"{name} {_facts(value)}" for name, value in facts.items())
    return f"{facts:.4g}" if isinstance(facts, float) else str(facts)


def format_against(found: Against) -> str:
    """How a stored law predicts the runs of a table."""
    law = found.law
    lines = [
        f"{law.path}: {law.form}, fitted to {law.runs} runs; loss in {law.loss_unit}; N: {law.counts}",
        f"against {len(found.table.runs)} runs: mean error {100 * found.error:.3g}%, bias {100 * found.bias:+.3g}%, "
        f"{100 * found.inside:.3g}% of them within their 95% intervals",
        f"  {found.scale:>20} {'runs':>6} {'error':>8} {'bias':>8}",
    ]
    for amount, runs, error, bias in found.budgets:
        lines.append(f"  {amount:>20.3g} {runs:>6} {f'{100 * error:.3g}%':>8} {f'{100 * bias:+.3g}%':>8}")
    return "\n".join(lines)
