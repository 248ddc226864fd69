"""A number with its provenance, a row that holds it planned and measured, and the price tag that holds the rows.

Unknown is a `Figure` without a value, never a zero; whoever reads a figure can see where it came from.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

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
class Figure:
    """One number in SI units (or the unit its row names), an interval where one is known, and where it comes from."""

    value: float | None
    provenance: Provenance
    source: str = ""
    low: float | None = None
    high: float | None = None

    def __mul__(self, other: Figure | float) -> Figure:
        return _combine(self, other, lambda a, b: a * b, " x ")

    def __truediv__(self, other: Figure | float) -> Figure:
        right = other if isinstance(other, Figure) else exact(other)
        if right.value == 0 or right.low == 0 or right.high == 0:
            return not_stated(f"division by zero: {right.source or 'no amount'}")
        flipped = Figure(
            right.value, right.provenance, right.source, right.high, right.low
        )
        return _combine(
            self,
            flipped,
            lambda a, b: a / b,
            " / ",
            plain=not isinstance(other, Figure),
        )

    def __add__(self, other: Figure) -> Figure:
        return _combine(self, other, lambda a, b: a + b, " + ")

    @property
    def bounds(self) -> tuple[float, float] | None:
        """The interval, or None for a figure without a value."""
        if self.value is None:
            return None
        return (
            self.value if self.low is None else self.low,
            self.value if self.high is None else self.high,
        )

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


def _combine(
    left: Figure,
    other: Figure | float,
    apply: Callable[[float, float], float],
    sign: str,
    plain: bool | None = None,
) -> Figure:
    plain = not isinstance(other, Figure) if plain is None else plain
    right = other if isinstance(other, Figure) else exact(other)
    if left.value is None or right.value is None:
        return not_stated(
            "; ".join(
                part.source
                for part in (left, right)
                if part.value is None and part.source
            )
        )
    provenance = max(left.provenance, right.provenance, key=_ORDER.index)
    source = (
        left.source
        if plain
        else sign.join(
            dict.fromkeys(part.source for part in (left, right) if part.source)
        )
    )
    low = high = None
    if (
        left.low is not None
        or left.high is not None
        or right.low is not None
        or right.high is not None
    ):
        (a, b), (c, d) = left.bounds or (0, 0), right.bounds or (0, 0)
        low, high = apply(a, c), apply(b, d)
    return Figure(apply(left.value, right.value), provenance, source, low, high)


def exact(value: float, source: str = "") -> Figure:
    return Figure(value, "exact", source)


def stated(value: float | None, source: str) -> Figure:
    """`value` as somebody stated it, or "not stated" where nobody did."""
    return not_stated(source) if value is None else Figure(value, "stated", source)


def measured_figure(value: float | None, source: str) -> Figure:
    return not_stated(source) if value is None else Figure(value, "measured", source)


def estimated(
    value: float, source: str, low: float | None = None, high: float | None = None
) -> Figure:
    return Figure(value, "estimated", source, low, high)


def not_stated(source: str = "") -> Figure:
    return Figure(None, "not stated", source)


@dataclass(frozen=True)
class Row:
    """One line of a price tag. `key` is its stable address in JSON, e.g. `energy.kwh`."""

    key: str
    name: str
    unit: str
    planned: Figure | None = None
    measured: Figure | None = None

    def to_json(self) -> dict[str, Any]:
        return {
            "key": self.key,
            "name": self.name,
            "unit": self.unit,
            "planned": self.planned.to_json() if self.planned else None,
            "measured": self.measured.to_json() if self.measured else None,
        }


@dataclass(frozen=True)
class PriceTag:
    """What a run costs, planned and measured."""

    title: str
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = field(default=())

    def __getitem__(self, key: str) -> Row:
        for row in self.rows:
            if row.key == key:
                return row
        raise KeyError(key)

    def beside(self, measured: PriceTag) -> PriceTag:
        """This tag's planned column next to the measured column of another."""
        theirs = {row.key: row for row in measured.rows}
        rows = [
            Row(
                row.key,
                row.name,
                row.unit,
                row.planned,
                theirs[row.key].measured if row.key in theirs else None,
            )
            for row in self.rows
        ]
        ours = {row.key for row in self.rows}
        rows += [row for row in measured.rows if row.key not in ours]
        return PriceTag(
            measured.title or self.title,
            tuple(rows),
            tuple(dict.fromkeys(self.notes + measured.notes)),
        )

    def values(self, column: Literal["planned", "measured"]) -> dict[str, Any]:
        """The bare numbers of one column, nested by key: `{"energy": {"kwh": 1.2}}`."""
        tree: dict[str, Any] = {}
        for row in self.rows:
            figure = row.planned if column == "planned" else row.measured
            if figure is None:
                continue
            *groups, leaf = row.key.split(".")
            branch = tree
            for group in groups:
                branch = branch.setdefault(group, {})
            branch[leaf] = _finite(figure.value)
        return tree

    def to_json(self) -> dict[str, Any]:
        return {
            "title": self.title,
            "planned": self.values("planned"),
            "measured": self.values("measured"),
            "rows": [row.to_json() for row in self.rows],
            "notes": list(self.notes),
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> PriceTag:
        """Read back what `to_json` wrote (`plan.json`, `pricetag.json`)."""

        def figure(item: dict[str, Any] | None) -> Figure | None:
            return Figure(**item) if item else None

        rows = tuple(
            Row(
                row["key"],
                row["name"],
                row["unit"],
                figure(row.get("planned")),
                figure(row.get("measured")),
            )
            for row in data["rows"]
        )
        return cls(data.get("title", ""), rows, tuple(data.get("notes", ())))
