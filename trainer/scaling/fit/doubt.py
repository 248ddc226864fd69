"""What speaks against a fit, in words and numbers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Doubt:
    """One reason to trust a law less. text: a line with its number; numbers: the same as plain data."""

    kind: str
    text: str
    numbers: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind, "text": self.text, "numbers": self.numbers}


def number(value: float) -> str:
    """Three significant digits, without an exponent where it is about 1."""
    return f"{value:.3f}" if 0.01 <= abs(value) < 100 else f"{value:.3g}"


def percent(log: float) -> str:
    """A difference of log losses as a share of the loss, with its sign."""
    return f"{100 * log:+.2g}%" if abs(log) < 0.995 else f"{log:+.0%}"
