"""Pairwise covering arrays: few rows in which any two values of any two factors stand together, if they may at all."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from itertools import combinations

Value = str | int | None
Row = dict[str, Value]
Factors = Mapping[str, Sequence[Value]]
Pair = tuple[tuple[str, Value], tuple[str, Value]]
Refused = Callable[[Pair], bool]  # of two (factor, value), the first of the factor that comes first

TRIED = 16  # beginnings of each row, of which the best is taken


def pairs(factors: Factors) -> list[Pair]:
    """All pairs of values of two factors, in the order of the factors."""
    return [
        ((one, a), (other, b)) for one, other in combinations(factors, 2) for a in factors[one] for b in factors[other]
    ]


def of_row(row: Row) -> list[Pair]:
    """The pairs of a row, whose keys are in the order of the factors."""
    return list(combinations(row.items(), 2))


def covering(factors: Factors, refused: Refused) -> list[Row]:
    """Rows without refused pairs that cover all others, greedily: each covers the most of what is left, so that the
    first few cover as much as few can. A function of its arguments alone.

    Where values cover as much as each other the first one of its factor is taken. What is refused must be said by
    pairs, and for any values that are allowed together every other factor must have one that goes with them. Raises
    ValueError where it has none.
    """
    allowed = dict.fromkeys(pair for pair in pairs(factors) if not refused(pair))
    left, rows = dict(allowed), []
    while left:
        tried = list(left)[:: -(-len(left) // TRIED)]
        best = max((_row(pair, factors, allowed, left) for pair in tried), key=lambda row: _gain(row, left))
        rows.append(best)
        for pair in of_row(best):
            left.pop(pair, None)
    return rows


def _gain(row: Row, left: Container[Pair]) -> int:
    return sum(pair in left for pair in of_row(row))


def _row(begun: Pair, factors: Factors, allowed: Container[Pair], left: Container[Pair]) -> Row:
    """A row with this pair: the other factors, those with the most values first, take what covers most."""
    row: Row = dict(begun)
    for name in sorted(factors, key=lambda name: -len(factors[name])):
        if name not in row:
            tries = [_ordered({**row, name: value}, factors) for value in factors[name]]
            fitting = [one for one in tries if all(pair in allowed for pair in of_row(one))]
            if not fitting:
                raise ValueError(f"no {name} goes with {row}")
            row = max(fitting, key=lambda one: _gain(one, left))
    return _ordered(row, factors)


def _ordered(row: Row, factors: Factors) -> Row:
    return {name: row[name] for name in factors if name in row}
