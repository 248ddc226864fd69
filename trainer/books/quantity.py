"""A number with its provenance, a row that holds it planned and measured, and the price tag that holds the rows.

Unknown is a `Quantity` without a value, never a zero; each says where it comes from.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from trainer.books.equivalents import STRUBELL, equivalents

Provenance = Literal["exact", "stated", "measured", "estimated", "not stated"]

# A product is as good as its worst factor: measured energy times a stated intensity is a measured emission.
_ORDER: tuple[Provenance, ...] = (
    "exact",
    "stated",
    "measured",
    "estimated",
    "not stated",
)


@dataclass(frozen=True)
class Quantity:
    """One number in SI units (or the unit its row names), and where it comes from.

    `low` and `high` hold an interval; `low` without `high` says "at least".
    """

    value: float | None
    provenance: Provenance
    source: str = ""
    low: float | None = None
    high: float | None = None

    def __mul__(self, other: Quantity | float) -> Quantity:
        """Product of two quantities that are not negative; as good as the worse of them."""
        return _combine(self, other, lambda a, b: a * b, " x ")

    def __truediv__(self, other: Quantity | float) -> Quantity:
        right = other if isinstance(other, Quantity) else exact(other)
        if right.value is None:
            return _combine(self, right, lambda a, b: a, " / ")
        if right.value <= 0:
            return not_stated(f"division by zero: {right.source or 'no amount'}")
        if right.low is not None:  # the largest divisor gives the smallest quotient
            low, high = right.bounds
            right = Quantity(right.value, right.provenance, right.source, high, low)
        return _combine(self, right, lambda a, b: a / b if b > 0 else math.inf, " / ")

    def __add__(self, other: Quantity) -> Quantity:
        return _combine(self, other, lambda a, b: a + b, " + ")

    @property
    def bounds(self) -> tuple[float, float]:
        """The interval of a quantity that has a value; a lower bound reaches to infinity."""
        assert self.value is not None
        if self.low is None:
            return self.value, self.value
        return self.low, math.inf if self.high is None else self.high

    def to_json(self) -> dict[str, Any]:
        return {
            "value": _finite(self.value),
            "low": _finite(self.low),
            "high": _finite(self.high),
            "provenance": self.provenance,
            "source": self.source,
        }


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _combine(left: Quantity, other: Quantity | float, apply: Callable[[float, float], float], sign: str) -> Quantity:
    right = other if isinstance(other, Quantity) else exact(other)
    if left.value is None or right.value is None:
        missing = (part.source for part in (left, right) if part.value is None and part.source)
        return not_stated("; ".join(dict.fromkeys(missing)))
    provenance = max(left.provenance, right.provenance, key=_ORDER.index)
    parts = [text for part in (left, right) for text in part.source.split(sign) if text]
    source = sign.join(dict.fromkeys(parts))
    value = apply(left.value, right.value)
    if left.low is None and right.low is None:
        return Quantity(value, provenance, source)
    (a, b), (c, d) = left.bounds, right.bounds
    low, high = apply(a, c), apply(b, d)
    return Quantity(value, provenance, source, low, high if math.isfinite(high) else None)


def exact(value: float, source: str = "") -> Quantity:
    return Quantity(value, "exact", source)


def stated(value: float | None, source: str) -> Quantity:
    """`value` as stated, or "not stated" where it is null."""
    return not_stated(source) if value is None else Quantity(value, "stated", source)


def measured_quantity(value: float | None, source: str) -> Quantity:
    return not_stated(source) if value is None else Quantity(value, "measured", source)


def estimated(value: float, source: str, low: float | None = None, high: float | None = None) -> Quantity:
    return Quantity(value, "estimated", source, low, high)


def not_stated(source: str = "") -> Quantity:
    return Quantity(None, "not stated", source)


@dataclass(frozen=True)
class Row:
    """One line of a price tag. `key` is its stable address in JSON, e.g. `energy.kwh`."""

    key: str
    name: str
    unit: str
    planned: Quantity | None = None
    measured: Quantity | None = None
    revised: Quantity | None = None  # planned again, after the first steps, where that says something else

    @property
    def known(self) -> bool:
        """Whether any column has a value."""
        columns = (self.planned, self.revised, self.measured)
        return any(quantity is not None and quantity.value is not None for quantity in columns)

    def to_json(self) -> dict[str, Any]:
        again = {"revised": self.revised.to_json()} if self.revised else {}
        return {
            "key": self.key,
            "name": self.name,
            "unit": self.unit,
            "planned": self.planned.to_json() if self.planned else None,
            "measured": self.measured.to_json() if self.measured else None,
            **again,
        }


@dataclass(frozen=True)
class PriceTag:
    """What a run costs, planned and measured."""

    title: str
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()
    fit: Mapping[str, Any] | None = None  # of a plan: does it fit, and if not, what would (`Fit.to_json`)
    machine: Mapping[str, Any] | None = None  # of a plan: the facts of the machine, and how they are known

    def __getitem__(self, key: str) -> Row:
        for row in self.rows:
            if row.key == key:
                return row
        raise KeyError(key)

    def beside(self, measured: PriceTag) -> PriceTag:
        """This tag's planned column next to the measured column of another."""
        theirs = {row.key: row for row in measured.rows}
        rows = [
            Row(row.key, row.name, row.unit, row.planned, theirs[row.key].measured if row.key in theirs else None)
            for row in self.rows
        ]
        at = len(rows)
        for row in measured.rows:  # what only the other has stands behind the row that it follows there
            keys = [known.key for known in rows]
            if row.key in keys:
                at = keys.index(row.key) + 1
            else:
                rows.insert(at, row)
                at += 1
        return PriceTag(
            measured.title or self.title,
            tuple(rows),
            tuple(dict.fromkeys(self.notes + measured.notes)),
            self.fit,
            self.machine,
        )

    def revised_by(self, second: PriceTag) -> PriceTag:
        """This tag with what a second plan says otherwise."""
        again = {row.key: row.planned for row in second.rows}

        def revised(row: Row) -> Row:
            new = again.get(row.key)
            return row if new is None or new.value is None or new == row.planned else replace(row, revised=new)

        return replace(self, rows=tuple(map(revised, self.rows)))

    @property
    def emission(self) -> Quantity | None:
        """kg CO2e, measured or else planned, where it is known and more than nothing."""
        for row in self.rows:
            if row.key == "carbon.kgco2e":
                return next((quantity for quantity in (row.measured, row.planned) if quantity and quantity.value), None)
        return None

    @property
    def equivalents(self) -> dict[str, float]:
        """How many of each entry of Strubell's table 1 the emission equals; empty where it is not known."""
        emission = self.emission
        return {} if emission is None or emission.value is None else equivalents(emission.value)

    def values(self, column: Literal["planned", "measured"]) -> dict[str, Any]:
        """The bare numbers of one column, nested by key: `{"energy": {"kwh": 1.2}}`."""
        tree: dict[str, Any] = {}
        for row in self.rows:
            quantity = row.planned if column == "planned" else row.measured
            if quantity is None:
                continue
            *groups, leaf = row.key.split(".")
            branch = tree
            for group in groups:
                branch = branch.setdefault(group, {})
            branch[leaf] = _finite(quantity.value)
        return tree

    def to_json(self) -> dict[str, Any]:
        return {
            "title": self.title,
            "planned": self.values("planned"),
            "measured": self.values("measured"),
            "rows": [row.to_json() for row in self.rows],
            "notes": list(self.notes),
            "fit": self.fit,
            "machine": self.machine,
            "equivalents": {"source": STRUBELL, "times": self.equivalents} if self.equivalents else None,
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> PriceTag:
        """Read back what `to_json` wrote (`plan.json`, `pricetag.json`)."""

        def quantity(item: dict[str, Any] | None) -> Quantity | None:
            return Quantity(**item) if item else None

        rows = tuple(
            Row(
                row["key"],
                row["name"],
                row["unit"],
                quantity(row.get("planned")),
                quantity(row.get("measured")),
                quantity(row.get("revised")),
            )
            for row in data["rows"]
        )
        return cls(data.get("title", ""), rows, tuple(data.get("notes", ())), data.get("fit"), data.get("machine"))
