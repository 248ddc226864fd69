from __future__ import annotations

import numpy as np

from trainer.objectives.ranges import numbers, without


def test_numbers_of_stretches():
    begin, end = np.array([3, 7, 7, 20]), np.array([5, 7, 10, 21])
    assert numbers(begin, end).tolist() == [3, 4, 7, 8, 9, 20]
    assert numbers(begin[:0], end[:0]).tolist() == []


def test_what_remains_beside_holes():
    """Against sets: stretches side by side and apart, holes at their edges, in their middle and as long as they."""
    begin, end = np.array([0, 10, 20, 40]), np.array([10, 20, 25, 40])
    hole_begin, hole_end = np.array([0, 5, 10, 22, 24]), np.array([2, 6, 20, 23, 25])
    holes = set(numbers(hole_begin, hole_end).tolist())
    wanted = [k for k in numbers(begin, end).tolist() if k not in holes]
    assert numbers(*without(begin, end, hole_begin, hole_end)).tolist() == wanted
    assert numbers(*without(begin, end, hole_begin[:0], hole_end[:0])).tolist() == numbers(begin, end).tolist()
