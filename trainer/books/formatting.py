"""The one formatter of accounts: numbers with units for people, aligned text for terminals."""

from __future__ import annotations

import math

from trainer.books.equivalents import STRUBELL, nearest_equivalents
from trainer.books.quantity import PriceTag, Quantity

PLAN, REPORT = "isoflop train", "isoflop report <run>"  # which command states what a tag lacks
COLUMNS = {"planned": "planned", "revised": "after 5 steps", "measured": "measured"}
# What to type, by the key that a row lacks; the last only before a run.
EXAMPLES = {
    "site.gco2e_per_kwh": "site=de-2023",
    "site.price_per_kwh": "site.price_per_kwh=0.30 site.currency=EUR site.price_date=2026-11",
    "machine.": "machine=h100-sxm",
}
LEAST = 1e-3  # of an equivalent: an emission below it is compared with none
_PREFIXES = (
    (1e24, "Y"),
    (1e21, "Z"),
    (1e18, "E"),
    (1e15, "P"),
    (1e12, "T"),
    (1e9, "G"),
    (1e6, "M"),
    (1e3, "k"),
)


def format_amount(value: float, unit: str) -> str:
    """`value` with three or four significant digits, a readable prefix and its unit."""
    if unit == "s":
        return _duration(value)
    if unit == "bytes":
        return _prefixed(value, "B", digits=3)
    if unit in ("FLOP", "FLOP/s", "FLOP/token"):
        return _prefixed(value, unit, digits=4)
    if unit == "%":
        return f"{100 * value:.1f} %"
    if unit in ("kWh", "kg CO2e", "g CO2e"):
        return _grouped_mass(value, unit)
    if float(value).is_integer() and abs(value) < 1e15:
        return f"{int(value):,} {unit}".rstrip()
    return f"{value:,.0f} {unit}".rstrip() if abs(value) >= 1000 else f"{value:.4g} {unit}".rstrip()


def _prefixed(value: float, unit: str, digits: int) -> str:
    for factor, prefix in _PREFIXES:
        if abs(value) >= factor:
            return f"{value / factor:.{digits}g} {prefix}{unit}" if value / factor < 1000 else f"{value:.3g} {unit}"
    return f"{value:.{digits}g} {unit}"


def _grouped_mass(value: float, unit: str) -> str:
    """Energy and mass in the prefix that a person would choose: 0.4 Wh, 12 kWh, 1.3 GWh; g, kg, t."""
    base, rest = ("Wh", "") if unit == "kWh" else ("g", " CO2e")
    amount = value * 1e3 if unit != "g CO2e" else value
    if base == "g" and abs(amount) >= 1e6:
        return f"{amount / 1e6:,.4g} t{rest}" if amount < 1e10 else f"{amount / 1e6:,.0f} t{rest}"
    for factor, prefix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(amount) >= factor:
            return f"{amount / factor:.4g} {prefix}{base}{rest}"
    return f"{amount:.4g} {base}{rest}"


def _duration(seconds: float) -> str:
    if seconds < 1e-3:
        return f"{seconds * 1e6:.3g} us"
    if seconds < 1:
        return f"{seconds * 1e3:.3g} ms"
    if seconds < 60:
        return f"{seconds:.3g} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days >= 100:
        return f"{days:,} days"
    if days:
        return f"{days} d {hours} h"
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s"


def format_quantity(quantity: Quantity | None, unit: str) -> str:
    """A quantity as text: its amount, with its interval where there is one; of a lower bound the low end."""
    if quantity is None:
        return "-"
    if quantity.value is None:
        return "not stated"
    text = format_value(quantity, unit)
    if quantity.low is not None and quantity.high is None:
        return f"at least {format_amount(_bound(quantity.low, quantity), unit)}"
    if quantity.low is not None and quantity.high is not None and quantity.low != quantity.high:
        low, high = (format_amount(_bound(end, quantity), unit) for end in (quantity.low, quantity.high))
        suffix = "" if unit == "s" else low.partition(" ")[2]
        if suffix and high.endswith(f" {suffix}"):  # "1 to 2 kg", not "1 kg to 2 kg"
            low = low.removesuffix(f" {suffix}")
        text += f" ({low} to {high})"
    return text


def format_value(quantity: Quantity, unit: str) -> str:
    """The amount without its interval: of an estimate three significant digits, whatever is counted in full."""
    if quantity.value is None:
        return "not stated"
    rounded = rounded_to(quantity.value, 3) if quantity.provenance == "estimated" else quantity.value
    return format_amount(rounded, unit)


def _bound(value: float, quantity: Quantity) -> float:
    """An end of an interval: two digits of an estimate's, three of anything else's."""
    return rounded_to(value, 2 if quantity.provenance == "estimated" else 3)


def rounded_to(value: float, digits: int) -> float:
    """`value` with so many significant digits."""
    return float(f"{value:.{digits - 1}e}")


def unknown_line(tag: PriceTag, command: str = PLAN) -> str | None:
    """One line for the rows that nobody stated anything for: the key that each needs, and what to type."""
    missing: dict[str, list[str]] = {}
    for row in tag.rows:
        if not row.known:
            sources = [one.source for one in (row.measured, row.planned) if one is not None and one.source]
            missing.setdefault(sources[0] if sources else "", []).append(row.name.strip())
    if not missing:
        return None
    parts = [", ".join(names) + (f" ({source})" if source else "") for source, names in missing.items()]
    words = [words for key, words in EXAMPLES.items() if any(key in source for source in missing)]
    own = tag.machine is not None and "processor" in tag.machine  # this host's, which is measured and not named
    if command != PLAN or own:
        words = [one for one in words if not one.startswith("machine")]
    return f"not stated: {', '.join(parts)}" + (f"; e.g. {command} {' '.join(words)}" if words else "")


def format_price_tag(tag: PriceTag, command: str = PLAN) -> str:
    """The price tag as aligned text: name, planned, measured, and where the numbers come from; what nobody knows in one
    line, which says what to type. command: what states it."""
    columns = [name for name in COLUMNS if any(getattr(row, name) is not None for row in tag.rows)]
    table = [["", *(COLUMNS[name] for name in columns), "source"]]
    for row in tag.rows:
        if not row.known:
            continue
        quantities = [getattr(row, name) for name in columns]
        table.append(
            [
                row.name,
                *(format_quantity(quantity, row.unit) for quantity in quantities),
                _provenance(quantities),
            ]
        )
    widths = [max(len(line[i]) for line in table) for i in range(len(table[0]) - 1)]
    lines = [tag.title] if tag.title else []
    for line in table:
        cells = [line[0].ljust(widths[0])] + [cell.rjust(w) for cell, w in zip(line[1:-1], widths[1:], strict=True)]
        lines.append("  ".join([*cells, line[-1]]).rstrip())
    lines += [f"  {line}" for line in (unknown_line(tag, command),) if line is not None]
    lines += [f"  * {note}" for note in (*tag.notes, *_equivalents(tag.emission))]
    return "\n".join(lines)


def _equivalents(emission: Quantity | None) -> list[str]:
    if emission is None or emission.value is None:
        return []
    nearest = nearest_equivalents(emission.value)
    if max(nearest.values()) < LEAST:
        return []
    same = " or ".join(f"{times:.2g} x {name}" for name, times in nearest.items())
    bound = "at least " if math.isinf(emission.bounds[1]) else ""
    return [f"{bound}as much carbon as {same} ({STRUBELL})"]


def _provenance(quantities: list[Quantity | None]) -> str:
    """Provenance and source of the last quantity that has a value, else why there is none."""
    known = [quantity for quantity in quantities if quantity is not None and quantity.value is not None]
    quantity = known[-1] if known else next((item for item in reversed(quantities) if item is not None), None)
    if quantity is None:
        return ""
    if quantity.value is None:
        return quantity.source
    return f"{quantity.provenance}: {quantity.source}" if quantity.source else quantity.provenance
