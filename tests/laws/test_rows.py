"""The public tables as they are: each is read, or says in one line which of its rows are one scale."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from trainer.scaling.fit import read_table
from trainer.utils.errors import UserError

LawTable = Callable[[str], Path]
pytestmark = pytest.mark.laws


@pytest.mark.parametrize(
    ("name", "rows", "places"),
    [
        ("chinchilla-245", 245, 245),
        ("farseer-404", 400, 400),  # four rows repeat others exactly
        ("moe-193", 193, 50),
        ("data-constrained-161", 161, 161),
        ("vocabulary-1080", 1080, 1080),
        ("gadre-c4", 34, 34),
        ("olmo-ladder-c4", 20, 20),
    ],
)
def test_every_row_that_is_a_run_of_its_own_is_read(name: str, rows: int, places: int, law_table: LawTable) -> None:
    table = read_table(law_table(name))
    assert (len(table.runs), int(table.places.max()) + 1) == (rows, places)


def test_copies_are_named(law_table: LawTable) -> None:
    table = read_table(law_table("farseer-404"))
    assert [why for _, why in table.left_out] == [f"the same in all columns as row {n}" for n in (181, 201, 235, 273)]


def test_of_many_learning_rates_and_batches_the_best_of_each_place_is_kept(law_table: LawTable) -> None:
    begin = time.process_time()
    table = read_table(law_table("lr-batch-2702"))
    assert time.process_time() - begin < 5  # a tenth of that on a machine that does nothing else
    assert (len(table.runs), len(table.every)) == (41, 2702)
    for run in table.runs:
        place = [other for other in table.every if (other.parameters, other.tokens) == (run.parameters, run.tokens)]
        assert run.loss == min(other.loss for other in place) and run.tried == len({(o.lr, o.batch) for o in place})
    assert "lr, batch: best of 34 to 120 settings a place (41 places)" in table.notes


def test_a_table_of_several_sources_is_refused_with_a_way_out_that_works(law_table: LawTable) -> None:
    path = law_table("isoflops-947")
    with pytest.raises(UserError, match="source: these runs differ in it") as error:
        read_table(path)
    where = str(error.value).partition("add where=")[2].partition(";")[0]
    assert where == "source=llama_3,condition=raw_loss" and len(str(error.value).splitlines()) == 1
    table = read_table(path, where=where)
    assert len(table.runs) == 116
    assert Counter(why for _, why in table.left_out)["the table marks it as an outlier (weak curvature)"] == 10
    assert len(read_table(path, where=where + ",outlier=True|False").runs) == 133


def test_rows_along_a_run_end_in_its_last(law_table: LawTable) -> None:
    table = read_table(law_table("olmo-ladder-tasks"))
    assert len(table.runs) == 16 and sum(len(run.earlier) for run in table.runs) == 1550
    assert {len(run.tasks) for run in table.runs} == {8}
    assert all(run.tokens > max(one.tokens for one in run.earlier) for run in table.runs)
    assert np.isnan(table.column("loss")).all()
