"""An efficiency factor in words, and as plain data."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from trainer.books.formatting import format_amount
from trainer.scaling.efficiency.factor import Efficiency
from trainer.scaling.efficiency.stored import StoredFactor
from trainer.scaling.fit.resampling import Interval
from trainer.scaling.fit.table import AXES
from trainer.scaling.fit.text import number, several

TITLES = {"sizes": "L = E + A/N^alpha + B/(D/f)^beta", "compute": "L = E + K/(C/f)^k"}
NAMES = {"flop": "FLOP", "kwh": "kWh", "gco2e": "g CO2e", "money": "money"}


def format_factor(figure: Interval, digits: int = 3) -> str:
    """`1.30 (1.21 to 1.39)`."""
    if not math.isfinite(figure.value):
        return "not reached"
    text = _plain(figure.value, digits)
    if not math.isfinite(figure.low):
        return f"{text} (no interval)"
    return f"{text} ({_plain(figure.low, digits)} to {_plain(figure.high, digits)})"


def _plain(value: float, digits: int) -> str:
    return f"{value:.{max(0, digits - 1)}f}" if 0.1 <= value < 100 else f"{value:.{digits}g}"


def format_efficiency(found: Efficiency | StoredFactor) -> str:
    """One block: what was read, the factors, whether one is enough, what to doubt."""
    if isinstance(found, StoredFactor):
        return "\n".join(_stored(found))
    first, second = found.sides.labels
    lines = [f"{second} against {first}", _runs(found), _law(found), ""]
    for axis, figure in found.factors.items():
        lines.append(f"factor      {_name(found, axis):<8}{_said(found, figure)}")
    lines += ["", *_checks(found)]
    lines += [f"doubt       {doubt}" for doubt in found.doubts]
    lines += [f"note        {note}" for note in found.sides.notes]
    return "\n".join(lines)


def table_rows(found: Sequence[Efficiency | StoredFactor]) -> list[list[str]]:
    """Rows of cells, the titles first: a law a row, its factors against the first law, and whether one holds."""
    axes = [axis for axis in AXES if any(isinstance(one, Efficiency) and axis in one.factors for one in found)]
    first = found[0].labels[0] if isinstance(found[0], StoredFactor) else found[0].sides.labels[0]
    rows = [["", *(f"times the {NAMES[axis]} of {first}" for axis in axes or ["flop"]), "one factor holds"]]
    for one in found:
        if isinstance(one, StoredFactor):
            figures = "; ".join(f"{format_factor(figure)} at {at:.3g} FLOP" for at, figure in one.at)
            rows.append([one.labels[1], figures, "no" if one.doubts else "yes"])
            continue
        cells = [format_factor(one.factors[axis]) if axis in one.factors else "not stated" for axis in axes]
        cells = cells if one.determined else ["not determined"] * len(axes)
        rows.append([one.sides.labels[1], *cells, "yes" if one.one_factor else "no"])
    return rows


def sentence_of(found: Efficiency) -> str:
    """One sentence: what the second needs."""
    first, second = found.sides.labels
    if not found.determined:
        return f"how many times the FLOP of {first} {second} needs for the same loss is not determined by these runs"
    if not found.one_factor:
        points = "; ".join(f"{figure.value:.3g} at {format_amount(at, 'FLOP')}" for at, figure in found.ends)
        return f"no one number says how many times the FLOP of {first} {second} needs: {points}"
    low, high = found.flop.low, found.flop.high
    sure = "" if not low <= 1 <= high else "; more or less than 1, these runs do not tell"
    return f"{second} needs {format_factor(found.flop)} times the FLOP of {first} for the same loss{sure}"


def _runs(found: Efficiency) -> str:
    sides = found.sides
    counts = [int((~sides.second).sum()), int(sides.second.sum())]
    low, high = sides.common
    return (
        f"runs        {counts[0]} and {counts[1]}, {several(sides.pairs, 'pair')} at {sides.paired_by}; both cover "
        f"{format_amount(low, 'FLOP')} to {format_amount(high, 'FLOP')}"
    )


def _law(found: Efficiency) -> str:
    constants = ", ".join(f"{name} {number(figure.value)}" for name, figure in found.constants.items())
    return f"one law     {TITLES[found.sides.form]}: {constants}"


def _said(found: Efficiency, figure: Interval) -> str:
    if not found.determined:
        return f"not determined ({format_factor(figure)})"
    if not found.one_factor:
        return f"{format_factor(figure)}  on the whole; it is not one factor, see below"
    if figure.low <= 1 <= figure.high:
        return f"{format_factor(figure)}  more or less than 1: not known"
    saves = f"{100 * (1 - figure.value):.0f}% less" if figure.value < 1 else f"{100 * (figure.value - 1):.0f}% more"
    return f"{format_factor(figure)}  {saves}"


def _name(found: Efficiency, axis: str) -> str:
    return (found.sides.table.currency or "money") if axis == "money" else NAMES[axis]


def _checks(found: Efficiency) -> list[str]:
    lines = []
    if found.f is None or found.p is None:
        lines.append("one factor? not known: a side has too few runs for a law of its own")
    else:
        better = "no better than one law with a factor" if found.p >= 0.05 else "better than one law with a factor"
        more, rest = found.freedom
        lines.append(f"one factor? two laws fit {better}: F({more}, {rest}) = {found.f:.2f}, p = {found.p:.2g}")
    drift = found.drift
    if not math.isfinite(drift.low):
        lines.append("drift       not known")
    else:
        seen = "none seen" if drift.low <= 0 <= drift.high else "the factor changes with scale"
        lines.append(f"drift       factor ~ C^{drift.value:+.3f} ({drift.low:+.3f} to {drift.high:+.3f}): {seen}")
    if found.held_out is None:
        lines.append("held out    not known: without the largest budget the rest is too poor to fit")
    else:
        one, two = (100 * value for value in (found.held_out.joint, found.held_out.separate))
        lines.append(
            f"held out    largest budget ({several(found.held_out.runs, 'run')}): one law predicts it within "
            f"{one:.2g}% rms, two laws within {two:.2g}%"
        )
    wide = "two laws" if found.sides.form == "compute" else "best sizes"
    for title, points in (("by drift", found.ends), (wide, found.separate)):
        if points:
            each = "; ".join(f"{format_factor(figure)} at {format_amount(at, 'FLOP')}" for at, figure in points)
            lines.append(f"{title:<12}{each}")
    return lines


def _stored(found: StoredFactor) -> list[str]:
    first, second = found.labels
    lines = [f"{second} against {first}", f"laws        {found.titles[0]}; {found.titles[1]}"]
    low, high = found.common
    lines.append(f"both cover  {format_amount(low, 'FLOP')} to {format_amount(high, 'FLOP')}")
    lines += [f"factor      FLOP    {format_factor(figure)} at {format_amount(at, 'FLOP')}" for at, figure in found.at]
    return lines + [f"doubt       {doubt}" for doubt in found.doubts]


def efficiency_json(found: Efficiency | StoredFactor) -> dict[str, Any]:
    """The same as plain data."""
    if isinstance(found, StoredFactor):
        return {
            "first": found.labels[0],
            "second": found.labels[1],
            "forms": list(found.titles),
            "common_flop": list(found.common),
            "separate": _points(found.at),
            "doubts": list(found.doubts),
        }
    sides, held = found.sides, found.held_out
    return {
        "first": sides.labels[0],
        "second": sides.labels[1],
        "form": TITLES[sides.form],
        "runs": [int((~sides.second).sum()), int(sides.second.sum())],
        "pairs": sides.pairs,
        "common_flop": list(sides.common),
        "constants": {name: figure.to_json() for name, figure in found.constants.items()},
        "factors": {
            axis: figure.to_json() | {"unit": sides.table.unit(axis)}
            for axis, figure in found.factors.items()
            if axis in AXES
        },
        "determined": found.determined,
        "one_factor": {"f": found.f, "freedom": list(found.freedom), "p": found.p, "holds": found.one_factor},
        "drift": found.drift.to_json(),
        "ends": _points(found.ends),
        "separate": _points(found.separate),
        "held_out": vars(held) if held else None,
        "verdict": sentence_of(found),
        "doubts": found.doubts,
        "notes": list(sides.notes),
        "replicates": found.replicates,
    }


def _points(points: Sequence[tuple[float, Interval]]) -> list[dict[str, Any]]:
    return [{"flop": at, "factor": figure.to_json()} for at, figure in points]
