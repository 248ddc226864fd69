"""Budgets that are measured: what a run has spent of them, and how many steps they buy."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace

from trainer.books.costs import JOULES_PER_KWH, carbon_kg, facility_kwh, intensity, money, with_unmetered
from trainer.books.quantity import Quantity, estimated, exact, measured_quantity, not_stated
from trainer.books.run_length import known_steps
from trainer.config import Config, StepShape


def spending(
    config: Config, hours: Quantity, device_hours: Quantity, device_kwh: Quantity, grams_per_kwh: Quantity | None = None
) -> dict[str, Quantity]:
    """Time, devices and energy as amounts of the measured budgets, by their names; with what is not metered and with a
    PUE where these are stated. grams_per_kwh: of the hours in which energy was used, null where these are not known."""
    device_kwh = with_unmetered(device_kwh, config.meter)
    facility = device_kwh if config.site.pue is None else facility_kwh(device_kwh, config.site)
    return {
        "hours": hours,
        "kwh": facility,
        "kgco2e": carbon_kg(facility, intensity(config.site) if grams_per_kwh is None else grams_per_kwh),
        "money": money(facility, device_hours, config.site),
    }


def price_of(
    config: Config, joules: Mapping[str, float | None], grams_per_kwh: Quantity | None = None
) -> dict[str, float | None]:
    """What measured energy by component costs: kwh (with the PUE where one is stated), gco2e and, where energy has a
    price, money. What is unknown is None, and all of it where no meter read anything."""
    read = [value for value in joules.values() if value is not None]
    if not read:
        return dict.fromkeys(("kwh", "gco2e", "money"))
    nothing = not_stated("")
    spent = spending(config, nothing, nothing, measured_quantity(sum(read) / JOULES_PER_KWH, "meter"), grams_per_kwh)
    kg = spent["kgco2e"].value
    money_spent = spent["money"].value if config.site.price_per_kwh is not None else None
    return {"kwh": spent["kwh"].value, "gco2e": None if kg is None else 1000 * kg, "money": money_spent}


def shares(config: Config, spent: dict[str, Quantity]) -> dict[str, float]:
    """Which share of each stated budget is used up; what cannot be measured is left out."""
    budgets = config.budget.measured.items()
    return {name: value / most for name, most in budgets if (value := spent[name].value) is not None}


def planned_steps(config: Config, cost: Callable[[StepShape], dict[str, Quantity]]) -> Quantity:
    """Steps that the run will take: its length, or fewer where a measured budget ends it earlier.

    `cost`: shape of a step -> `spending` of one. Not stated where the length is unknown and so is a step's cost.
    """
    length = known_steps(config)
    found = [] if length is None else [exact(length)]
    missing, costs = [], {shape: cost(shape) for shape in config.curriculum.shapes}
    for name, most in config.budget.measured.items():
        step = {shape: each[name] for shape, each in costs.items()}
        unknown = [quantity.source for quantity in step.values() if not quantity.value]
        if unknown:
            missing += unknown
            continue

        def buys(ends: dict[StepShape, float], most: float = most) -> int:
            return max(1, config.curriculum.steps_within(most, ends))

        likely = buys({shape: quantity.value or 0.0 for shape, quantity in step.items()})
        fewest, many = (buys({shape: quantity.bounds[end] for shape, quantity in step.items()}) for end in (1, 0))
        found.append(estimated(likely, f"budget.{name}={most:g}", fewest, many))
    if not found:
        return not_stated("; ".join(dict.fromkeys(missing)))
    values, lows, highs = zip(*((quantity.value, *quantity.bounds) for quantity in found), strict=True)
    least = found[values.index(min(values))]
    return least if least.provenance == "exact" else replace(least, low=min(lows), high=min(highs))


def over(steps: Quantity, amount: Callable[[int], Quantity]) -> Quantity:
    """`amount` of the planned steps: the dearer a step is, the fewer a budget buys."""
    if steps.value is None:
        return not_stated(steps.source)
    likely = amount(int(steps.value))
    if likely.value is None or steps.low is None or steps.high is None:
        return likely
    ends = likely.value, amount(int(steps.low)).bounds[1], amount(int(steps.high)).bounds[0]
    source = f"{likely.source}; {steps.source}" if likely.source else steps.source
    return estimated(likely.value, source, min(ends), max(ends) if math.isfinite(max(ends)) else None)
