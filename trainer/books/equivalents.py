"""Comparisons beside a price: what an emission equals, and the best result that so many runs may expect."""

from __future__ import annotations

from collections.abc import Sequence
from math import comb, log
from typing import Literal

KG_PER_POUND = 0.45359237
STRUBELL = "Strubell et al. 2019, table 1"
# In pounds of CO2e, as printed there: what people do, and what training one model took.
EQUIVALENTS_LB = {
    "one passenger's flight New York - San Francisco and back": 1984,
    "one year of an average human life": 11_023,
    "one year of an average American life": 36_156,
    "one car's lifetime, fuel included": 126_000,
    "training an NLP pipeline (parsing, SRL)": 39,
    "training an NLP pipeline with tuning and experimentation": 78_468,
    "training a Transformer (big)": 192,
    "training a Transformer (big) with neural architecture search": 626_155,
}


def equivalents(kg_co2e: float) -> dict[str, float]:
    """How many of Strubell et al. 2019's table 1 equal this emission."""
    return {name: kg_co2e / (pounds * KG_PER_POUND) for name, pounds in EQUIVALENTS_LB.items()}


def nearest_equivalents(kg_co2e: float, count: int = 2) -> dict[str, float]:
    """The equivalents whose own emission is nearest to this one, which is more than 0."""
    every = equivalents(kg_co2e)
    return {name: every[name] for name in sorted(every, key=lambda name: abs(log(every[name])))[:count]}


def expected_best(scores: Sequence[float], n: int, method: Literal["biased", "unbiased"] = "unbiased") -> float:
    """Expected best of `n` runs, out of the N observed scores (higher is better).

    Biased: as if drawn with replacement (Dodge et al. 2019, equation 7). Unbiased: without replacement (Dodge et al.
    2021). Raises ValueError where n is not in 1..N.
    """
    total = len(scores)
    if not 1 <= n <= total:
        raise ValueError(f"n: {n} is not between 1 and the number of runs, {total}")
    ordered = sorted(scores)
    if method == "biased":
        return sum(v * ((i / total) ** n - ((i - 1) / total) ** n) for i, v in enumerate(ordered, 1))
    return sum(v * comb(i - 1, n - 1) for i, v in enumerate(ordered, 1)) / comb(total, n)
