"""The law of settings on the 2,702 runs of Li et al. 2025 (the step law)."""

from __future__ import annotations

import numpy as np
import pytest

from trainer.scaling.fit.csv_table import read_csv
from trainer.scaling.settings.findings import find_settings
from trainer.scaling.settings.law import fit_law, possible_terms

pytestmark = pytest.mark.laws


@pytest.fixture(scope="module")
def found(law_table):
    return find_settings(read_csv(law_table("lr-batch-2702")), ("lr", "batch"), sequence_length=2048)


def test_four_of_the_five_most_expensive_places(found):
    """Left out alone, and with all that are not cheaper: within one step of the grid of the best run."""
    for misses in (found.held_out, found.from_cheaper):
        assert len(misses) == 5
        assert sum(miss.within_one for miss in misses) >= 4
        assert np.mean([miss.cost for miss in misses]) < 2e-4  # 0.02% of the loss


def test_exponents_beside_the_published(found):
    """lr 1.79 N^-.713 D^.307, batch .58 D^.571 tokens, N without embeddings."""
    powers = found.law.powers()
    assert powers["lr"].a.low < -0.713 < powers["lr"].a.high
    assert powers["lr"].b.low < 0.307 < powers["lr"].b.high
    assert powers["batch"].b.low < 0.571 < powers["batch"].b.high
    at = found.law.at(1073741824, 1e11)
    assert np.exp(at) == pytest.approx([1.79 * 1073741824**-0.713 * 1e11**0.307, 0.58 * 1e11**0.571], rel=0.3)


def test_far_beyond_what_was_fitted(found):
    """Of runs below a tenth of the largest, places up to six times beyond: optima within a quarter, on average."""
    points = found.points
    small = points.parameters * points.tokens < 1e19
    terms = possible_terms(points)[0]
    law, _ = fit_law(points.only(small), terms, replicates=2)
    beyond = [place for place in found.places if place.cost >= 1e19]
    away = np.array([law.at(place.parameters, place.tokens) - place.own for place in beyond])
    assert len(beyond) >= 10
    assert np.sqrt((away**2).mean(axis=0)).max() < 0.25


def test_the_critical_batch_follows_the_tokens(found):
    """Zhang et al. 2024: about D^0.47, hardly on N."""
    assert found.critical.b.low < 0.47 < found.critical.b.high + 0.05
    assert found.critical.a.low < 0 < found.critical.a.high
