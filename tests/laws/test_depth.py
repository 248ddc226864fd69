"""The transfer report on a public sweep of learning rates and batches at 41 places."""

from __future__ import annotations

import pytest

from tests.laws.conftest import LawTable
from trainer.scaling.transfer import read_points, transfer

pytestmark = pytest.mark.laws

# Exponents over N and D as they were published with the table (arXiv 2503.04715, equation 1).
PUBLISHED = {"optim.lr": {"parameters": -0.713, "tokens": 0.307}, "optim.batch_size": {"tokens": 0.571}}


@pytest.mark.parametrize("setting", PUBLISHED)
def test_the_drift_is_the_published_one(law_table: LawTable, setting: str) -> None:
    [series] = transfer(read_points(law_table("lr-batch-2702"), setting, {})).series
    assert len(series.optima) == 41 and sum(bool(one.profile.edge) for one in series.optima) <= 1
    drifts = {one.axis: one for one in series.drifts}
    for axis, exponent in PUBLISHED[setting].items():
        low, high = drifts[axis].interval or (0.0, 0.0)
        assert low < exponent < high and abs(drifts[axis].exponent - exponent) < 0.05, (axis, drifts[axis])


def test_a_rate_of_the_cheapest_place_costs_most_where_tokens_are_fewest(law_table: LawTable) -> None:
    """More tokens bring the best rate back up, so that it is the largest model on few tokens that pays."""
    [series] = transfer(read_points(law_table("lr-batch-2702"), "optim.lr", {})).series
    known = [
        (one.value, at.profile) for one, at in zip(series.lost, series.optima, strict=True) if one.value is not None
    ]
    worst = max(known, key=lambda pair: pair[0])[1]
    assert worst.parameters > 1e9 and worst.tokens == min(at.profile.tokens for at in series.optima)
