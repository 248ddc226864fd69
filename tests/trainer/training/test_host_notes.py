"""What is said of hosts before step 1, of ranks whose places are given."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from trainer.training import host_notes as notes

Rank = tuple[str, int, int, list[int]]  # host, threads, cores that it may use, which ones are allowed


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> Any:
    def say(*ranks: Rank, busy: int | None = 0, rank: int = 0, cores: int = 4) -> tuple[tuple[str, ...], int | None]:
        monkeypatch.setattr(notes, "runnable", lambda: busy)
        monkeypatch.setattr(notes.os, "cpu_count", lambda: cores)
        gathered = [list(one) for one in ranks]
        world: Any = SimpleNamespace(
            is_first=rank == 0, device=torch.device("cpu"), gather=lambda mine: gathered, barrier=lambda: None
        )
        return notes.host_notes(world)

    return say


ALL = [0, 1, 2, 3]


def test_nothing_is_said_where_all_have_cores(said: Any) -> None:
    assert said(("a", 4, 4, ALL)) == ((), 0)
    assert said(("a", 2, 4, ALL), ("a", 2, 4, ALL), busy=None) == ((), None)
    assert said(("a", 2, 4, ALL), busy=1) == ((), 1)  # it has a core of its own
    assert said(("a", 4, 4, ALL), busy=9, rank=1) == ((), None)


def test_a_busy_host_is_told(said: Any) -> None:
    lines, busy = said(("a", 4, 4, ALL), busy=5)
    assert busy == 5
    assert lines == ("this host is busy: 5 runnable processes beside this run on 4 cores; tokens/s will be lower",)


def test_of_a_part_of_a_host_nobody_knows_who_wants_it(said: Any) -> None:
    assert said(("a", 2, 2, [0, 1]), busy=40, cores=64) == ((), 40)


@pytest.mark.parametrize(
    ("ranks", "says"),
    [
        (
            [("a", 2, 4, ALL)] * 3,
            "a: 3 ranks have 6 threads on 4 cores, which wait for each other; set engine.threads=1",
        ),
        ([("a", 8, 4, ALL)], "a: 1 rank has 8 threads on 4 cores, which wait for each other; set engine.threads=4"),
        ([("a", 1, 4, ALL)] * 5, "engine.threads=1 and fewer launch.processes"),
        ([("a", 3, 2, ALL)], "a: 1 rank has 3 threads on 2 cores"),  # a control group's limit
        ([("a", 4, 4, ALL), ("b", 8, 4, ALL)], "b: 1 rank has 8 threads"),
    ],
)
def test_more_threads_than_cores(said: Any, ranks: list[Rank], says: str) -> None:
    (line,), _ = said(*ranks)
    assert says in line


def test_ranks_that_are_bound_to_cores_of_their_own_have_these_together(said: Any) -> None:
    assert said(("a", 2, 2, [0, 1]), ("a", 2, 2, [2, 3])) == ((), 0)
