"""Totals over runs of which not all have a figure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

QUANTITIES = {
    "hours": ("machine", "device_hours"),
    "kwh": ("energy", "kwh"),
    "kgco2e": ("carbon", "kgco2e"),
    "embodied_kgco2e": ("carbon", "embodied_kgco2e"),
    "water_l": ("water", "litres"),
    "flop": ("flop", "total"),
}
UNITS = {
    "hours": "h",
    "kwh": "kWh",
    "kgco2e": "kg CO2e",
    "embodied_kgco2e": "kg CO2e embodied",
    "water_l": "l",
    "flop": "FLOP",
}


def figure(figures: Mapping[str, Any], name: str) -> float | None:
    """One of QUANTITIES, of a price tag's column (`PriceTag.values`)."""
    group, leaf = QUANTITIES[name]
    value = (figures.get(group) or {}).get(leaf)
    return value if isinstance(value, int | float) else None


@dataclass
class Sum:
    """Total of one quantity over runs, and how many of them had a figure."""

    value: float = 0.0
    known: int = 0
    runs: int = 0

    def add(self, value: float | None, share: float = 1.0) -> None:
        self.runs += 1
        if value is not None:
            self.value, self.known = self.value + share * value, self.known + 1

    def __add__(self, other: Sum) -> Sum:
        return Sum(self.value + other.value, self.known + other.known, self.runs + other.runs)

    def to_json(self) -> dict[str, Any]:
        """A sum over runs of which none had a figure is null."""
        return {"value": self.value if self.known else None, "known": self.known, "runs": self.runs}
