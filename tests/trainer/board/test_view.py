"""Few points of many: none of what an eye would see is lost."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.board.view import plain, running_mean, thinned, visible

VALUES = st.lists(st.floats(-1e6, 1e6) | st.just(math.nan), min_size=1, max_size=400)


@settings(deadline=None, max_examples=60)
@given(values=VALUES, most=st.integers(4, 100))
def test_thinning_keeps_ends_and_extremes_and_adds_nothing(values: list[float], most: int) -> None:
    x, y = np.arange(len(values), dtype=float), np.array(values)
    few_x, few_y = thinned(x, y, most)
    assert len(few_x) <= max(most, 4) or len(few_x) == len(values) <= max(most, 4)
    assert few_x[0] == 0 and few_x[-1] == len(values) - 1 and (np.diff(few_x) > 0).all()
    np.testing.assert_array_equal(few_y, y[few_x.astype(int)])
    if not np.isnan(y).all():
        assert np.nanmin(few_y) == np.nanmin(y) and np.nanmax(few_y) == np.nanmax(y)


@settings(deadline=None, max_examples=60)
@given(values=VALUES, window=st.integers(1, 50))
def test_the_mean_is_that_of_the_last_values(values: list[float], window: int) -> None:
    found = running_mean(np.array(values), window)
    for place in range(len(values)):
        last = [one for one in values[max(0, place + 1 - window) : place + 1] if not math.isnan(one)]
        expected = sum(last) / len(last) if last else math.nan
        assert found[place] == pytest.approx(expected, rel=1e-9, abs=1e-6, nan_ok=True)


def test_a_view_reaches_over_its_edges() -> None:
    x = np.arange(10.0)
    assert visible(x, 2.5, 4.5) == slice(2, 6)
    assert visible(x, None, None) == slice(0, 10)
    assert visible(x, 20, 30) == slice(9, 10)


def test_numbers_go_out_as_short_as_they_are_known() -> None:
    assert plain(np.array([0.1, 3.0, math.nan, 4.1827, 1e-7], np.float32)) == [0.1, 3, None, 4.1827, 1e-7]
    assert plain(np.array([307200.0, 1e15, math.inf])) == [307200, 10**15, None]
