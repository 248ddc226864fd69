"""Averages of the weights that a run keeps beside them."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

from trainer.utils.schema import Count, Section, key

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,39}")


class AverageConfig(Section):
    """One average: over a half-life (EMA), or of the latest weights (Kaddour 2022, LAWA). State one of the two."""

    half_life: Count | None = key(
        None, "weights that are so many tokens old count half", "tokens", ge=1, le=10**18, introduced=None
    )
    latest: int | None = key(None, "the mean of so many of the latest weights", ge=2, le=1000, introduced=None)
    every_steps: int | None = key(
        None, "of latest: how often weights are taken", "steps", ge=1, le=10**12, introduced=None
    )

    @property
    def kept(self) -> int:
        """Numbers that are kept for each parameter."""
        return self.latest or 1

    @property
    def stated(self) -> dict[str, int]:
        """The keys that are given, with their values."""
        return self.model_dump(exclude_none=True)

    def step_share(self, tokens: int, all_tokens: int) -> float:
        """How far the average moves to the weights of a step of so many tokens, `all_tokens` after it began."""
        assert self.half_life is not None
        rate = -math.log(2) / self.half_life
        return math.expm1(rate * tokens) / math.expm1(rate * all_tokens)


def misfits(averages: Mapping[str, AverageConfig]) -> list[str]:
    """A line for each thing that is wrong among them."""
    wrong = []
    for name, one in averages.items():
        place = f"averages.{name}"
        if not NAME.fullmatch(name):
            wrong.append(f"averages: {name!r} is no name of an average; letters, digits, _ and - wanted, 40 at most")
        if (one.half_life is None) == (one.latest is None):
            wrong.append(f"{place}.half_life: state it or optim.{place}.latest, one of the two, e.g. half_life: 1m")
        elif one.latest is None and one.every_steps is not None:
            wrong.append(f"{place}.every_steps: an average over a half-life takes the weights of every step")
        elif one.latest is not None and one.every_steps is None:
            wrong.append(f"{place}.every_steps: state how often weights are taken, e.g. every_steps: 100")
    return wrong
