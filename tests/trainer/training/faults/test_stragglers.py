"""Which rank is told as slower than the others. A really slow rank of a real run: test_chaos.py."""

from __future__ import annotations

import re
import socket
from typing import Any

import pytest

from trainer.config import FaultsConfig
from trainer.training.faults.stragglers import Stragglers


class Ranks:
    """Stands in for World: what this rank hands in comes back as the last of three, beside two that are given."""

    size = 3

    def __init__(self, *others: float) -> None:
        self.others = [(seconds, f"n{rank}") for rank, seconds in enumerate(others)]

    def gather(self, value: Any) -> list[Any]:
        return [*self.others, value]


@pytest.mark.parametrize(
    ("others", "mine", "told"),
    [
        ((0.100, 0.102), [0.150] * 5, "rank 2 on HERE is 48 ms a step later than the median rank's 102 ms"),
        ((0.300, 0.102), [0.100] * 5, "rank 0 on n0 is 198 ms a step later than the median rank's 102 ms"),
        ((0.100, 0.102), [0.100, 0.100, 9.0, 9.0, 0.101], None),  # hiccups
        ((0.100, 0.102), [0.120] * 5, None),  # less than 1.3 times the median rank's
        ((0.001, 0.001), [0.005] * 5, None),  # no rank waits long for that
    ],
)
def test_medians_of_ranks_are_compared(others: tuple[float, float], mine: list[float], told: str | None) -> None:
    lines: list[str] = []
    report = lambda name, step, text: lines.append(f"{name}: {text}")  # noqa: E731
    looks = Stragglers(FaultsConfig(straggler_steps=5), Ranks(*others), report)  # type: ignore[arg-type]
    for seconds in mine:
        assert lines == []
        looks.compare(seconds, 1)
    assert lines == ([f"straggler: {told.replace('HERE', socket.gethostname())}"] if told else [])


def test_every_window_is_judged_anew() -> None:
    lines: list[str] = []
    report = lambda name, step, text: lines.append(text)  # noqa: E731
    looks = Stragglers(FaultsConfig(straggler_steps=2), Ranks(0.1, 0.1), report)  # type: ignore[arg-type]
    for seconds in (0.2, 0.2, 0.1, 0.1, 0.4, 0.4):
        looks.compare(seconds, 1)
    assert [re.findall(r"is (\d+) ms", line) for line in lines] == [["100"], ["300"]]
