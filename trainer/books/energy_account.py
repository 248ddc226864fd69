"""The energy of a run as it is told: by component, with how much of the time was covered, and what bounds it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from trainer.books.quantity import Provenance, Quantity, not_stated

NOT_MEASURED = "not measured"
WHOLE = 0.995  # coverage from which on a component counts as measured in full


class Taken(NamedTuple):
    """What one process read of one device."""

    component: str
    method: str
    provenance: Provenance
    key: str
    joules: float
    low: float  # factors on the joules
    high: float
    seconds: float  # without a gap
    asked: float  # seconds that it was to cover
    shared: str  # who else had the device, so that the joules are an upper bound; empty: nobody


def components(taken: Sequence[Taken]) -> tuple[dict[str, Quantity], dict[str, float], list[str]]:
    """Joules and coverage by component, and lines on what others had a part in."""
    quantities: dict[str, Quantity] = {}
    covered: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
    for one in taken:
        quantities[one.component] = plus(quantities.get(one.component), _quantity(one))
        covered[one.component][0] += one.seconds
        covered[one.component][1] += one.asked
    coverage = {name: min(1.0, seconds / asked) if asked else 0.0 for name, (seconds, asked) in covered.items()}
    for name, share in coverage.items():
        quantity = quantities[name]
        if quantity.value is not None and share < WHOLE:
            source = f"{quantity.source}, {share:.0%} of the time"
            quantities[name] = Quantity(quantity.value, quantity.provenance, source, quantity.bounds[0], None)
    said = [f"{one.shared}: an upper bound of this work's" for one in taken if one.shared]
    return quantities, coverage, list(dict.fromkeys(said))


def _quantity(one: Taken) -> Quantity:
    if one.method == NOT_MEASURED:
        return not_stated(f"{one.key} has no counter that can be read")
    if one.provenance == "measured" and not one.seconds and one.asked > 0:
        return not_stated(f"{one.key}: its counter told nothing")
    source = f"{one.method}, shared" if one.shared else one.method
    if one.low == one.high == 1.0:
        return Quantity(one.joules, one.provenance, source)
    return Quantity(one.joules, one.provenance, source, one.joules * one.low, one.joules * one.high)


def plus(left: Quantity | None, right: Quantity) -> Quantity:
    """The sum of what is known: where one of two was not measured it is at least the other."""
    if left is None:
        return right
    if left.value is None or right.value is None:
        known, missing = (right, left) if left.value is None else (left, right)
        if known.value is None:
            return known
        return Quantity(known.value, known.provenance, f"{known.source}; {missing.source}", known.bounds[0], None)
    return left + right


@dataclass(frozen=True)
class EnergyAccount:
    """Energy of a run in joules."""

    components: dict[str, Quantity]
    phases: dict[str, float]
    wasted: float  # of steps that were trained again
    shared_devices: int  # read by several ranks at once, counted once
    gaps: tuple[str, ...]  # intervals that no counter covers, and why
    notes: tuple[str, ...]
    rank_coverage: float  # share of ranks that wrote readings
    segments: dict[str, float]
    coverage: dict[str, float] = field(default_factory=dict)  # share of the time that was read, by component
    cpu_seconds: float = 0.0  # of the processes that wrote readings
    timeline: dict[int, float] = field(default_factory=dict)  # joules by when: seconds since the epoch // BUCKET

    def total(self) -> Quantity:
        """All components together; without a value where nothing was read."""
        total: Quantity | None = None
        for quantity in self.components.values():
            total = plus(total, quantity)
        if total is None or total.value is None:
            return not_stated("no energy counter was read")
        if self.rank_coverage < 1:
            total = _at_least(total, f"only {self.rank_coverage:.0%} of the ranks were read")
        if self.gaps:
            total = _at_least(total, f"{len(self.gaps)} gaps ({self.gaps[0]})")
        return total

    def covered(self) -> Quantity:
        """Share of the time that was read, of the component that was read least; names those that were not at all."""
        read = {name: share for name, share in self.coverage.items() if self.components[name].value is not None}
        if not read:
            return not_stated("no energy counter was read")
        missing = [name for name in self.coverage if name not in read]
        source = f"time that {', '.join(read)} were read" + (f"; not {', '.join(missing)}" if missing else "")
        return Quantity(min(read.values()) * self.rank_coverage, "measured", source)


def _at_least(total: Quantity, why: str) -> Quantity:
    return replace(total, source=f"{total.source}; {why}", low=total.bounds[0], high=None)
