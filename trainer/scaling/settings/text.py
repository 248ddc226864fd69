"""A law of settings as text for a terminal."""

from __future__ import annotations

import math
from typing import Any

from trainer.scaling.fit.resampling import Interval
from trainer.scaling.settings.critical import CriticalBatch
from trainer.scaling.settings.doubts import LABELS
from trainer.scaling.settings.findings import SettingsFindings, costs_of_missing
from trainer.scaling.settings.held_out import Miss
from trainer.scaling.settings.law import Power


def format_settings(found: SettingsFindings) -> list[str]:
    """Lines: the law, how far to trust it, what missing it costs, and the critical batch."""
    unit = f" of {found.law.batch_unit or 'a unit that the table does not state'}" if "batch" in found.law.names else ""
    lines = [
        f"best settings over N and D   ({len(found.places)} places, {len(found.points.loss):,} runs, "
        f"{len(found.fit.rows):,} of them near the best of their place)"
    ]
    for name, power in found.law.powers().items():
        lines.append(f"  {LABELS[name]}{unit if name == 'batch' else ''} = {_title(power)}")
        lines += [
            f"    {part:<6} {_interval(figure)}" for part, figure in zip("kab", power, strict=True) if figure.value
        ]
    for name, (half, twice) in costs_of_missing(found).items():
        lines.append(f"  {LABELS[name]}: half of the best costs {_percent(half)} of the loss, twice {_percent(twice)}")
    lines += _held_out("fitted on all other places", found.held_out)
    lines += _held_out("fitted on cheaper ones alone", found.from_cheaper)
    lines += _critical(found)
    return lines + [f"  doubt: {doubt.text}" for doubt in found.doubts]


def format_prediction(settings: dict[str, Any]) -> str:
    """What `settings_at` gives, in one line: lr 0.00155 (0.0012 to 0.002), batch 408 sequences (...)."""
    parts = []
    for name, figure in settings.items():
        unit = f" {figure['unit']}" if figure.get("unit") else ""
        parts.append(f"{name} {figure['value']:.3g}{unit} ({figure['low']:.3g} to {figure['high']:.3g})")
    return ", ".join(parts)


def _title(power: Power) -> str:
    terms = [f"{letter}^{figure.value:.3f}" for letter, figure in (("N", power.a), ("D", power.b)) if figure.value]
    return " x ".join([f"{power.k.value:.4g}", *terms])


def _interval(figure: Interval) -> str:
    if not math.isfinite(figure.low):
        return f"{figure.value:.4g} (no interval)"
    return f"{figure.value:.4g} ({figure.low:.4g} to {figure.high:.4g})"


def _percent(share: float) -> str:
    return f"{100 * math.expm1(share):.2g}%"


def _held_out(how: str, misses: list[Miss]) -> list[str]:
    if not misses:
        return []
    within, cost = sum(miss.within_one for miss in misses), sum(miss.cost for miss in misses) / len(misses)
    return [
        f"  the {len(misses)} most expensive places, each {how}: {within} within one step of the grid of their best, "
        f"{_percent(cost)} of the loss from their optimum"
    ]


def _critical(found: SettingsFindings) -> list[str]:
    if "batch" not in found.law.names:
        return []
    if isinstance(found.critical, str):
        lines = [f"  critical batch not known: {found.critical}"]
    else:
        lines = [f"  critical batch, where 20% more tokens are needed: {_power_line(found.critical)}"]
    if found.noise is not None:
        lines.append(f"  gradient noise scale at the end of runs: {_power_line(found.noise)}")
    return lines


def _power_line(found: CriticalBatch) -> str:
    named = [(letter, power) for letter, power in (("N", found.a), ("D", found.b)) if power is not None]
    title = " x ".join([f"{found.k.value:.3g}", *(f"{letter}^{power.value:.3f}" for letter, power in named)])
    spans = ", ".join(f"exponent of {letter} {power.low:.3f} to {power.high:.3f}" for letter, power in named)
    rest = f"; not reached at {found.not_reached}" if found.not_reached else ""
    return f"{title} {found.unit} ({spans}{'; ' if spans else ''}{len(found.places)} places{rest})"
