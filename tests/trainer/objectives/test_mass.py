from __future__ import annotations

import numpy as np
import pytest


def test_the_decoder_writes_what_the_encoder_misses(make, window, text, specials):
    objective = make(130, name="mass", rate=0.5)
    tokens = text(800, 128)
    batch = objective.apply(window(tokens))
    assert batch["targets"].shape == (800, 64) and (batch["targets"] != -100).all()
    columns = batch["positions"]
    assert np.array_equal(batch["targets"], np.take_along_axis(tokens, columns, axis=1))
    before = np.concatenate([np.full((800, 1), specials["<s>"]), tokens], axis=1)
    assert np.array_equal(batch["tokens"], np.take_along_axis(before, columns, axis=1))
    # one run of 32 in each block of 64
    for half in (columns[:, :32], columns[:, 32:] - 64):
        assert (np.diff(half, axis=1) == 1).all() and half.min() == 0 and half.max() == 63
        assert np.unique(half[:, 0]).tolist() == list(range(33))
    inner = batch["source_tokens"][:, 1:-1]
    shown = np.ones(tokens.shape, bool)
    np.put_along_axis(shown, columns, False, axis=1)
    assert np.array_equal(inner[shown], tokens[shown])
    replaced = inner[~shown]
    masked, same = (replaced == specials["<mask>"]).mean(), (replaced == tokens[~shown]).mean()
    assert masked == pytest.approx(0.8, abs=0.006) and same == pytest.approx(0.1, abs=0.005)


@pytest.mark.parametrize("length", [1, 2, 3, 5, 64, 65, 66, 100])
def test_no_text_is_without_targets(make, window, text, length):
    batch = make(130, name="mass", rate=0.5, packing="padded").apply(window(text(50, 128), np.full(50, length)))
    count = (batch["targets"] != -100).sum(axis=1)
    expected = sum(max(1, min(64, length - begin) // 2) for begin in range(0, length, 64))
    assert (count == expected).all() and ((batch["segments"] == 0).sum(axis=1) == expected).all()


def test_nothing_comes_of_nothing(make, window, text):
    batch = make(34, name="mass", rate=0.5, packing="padded").apply(window(text(2, 32), np.array([0, 32])))
    assert (batch["targets"][0] == -100).all() and (batch["segments"][0] == -1).all()
