from __future__ import annotations

import numpy as np
import pytest

from trainer.objectives import Window


def packed(rows, length, specials, seed=0):
    """Random documents end to end, <s> text </s>, windows beginning anywhere."""
    rng = np.random.default_rng(seed)
    tokens = np.empty((rows, length), np.int64)
    segments = np.empty((rows, length), np.int32)
    positions = np.empty((rows, length), np.int64)
    for row in range(rows):
        at, segment = -int(rng.integers(0, 20)), 0
        while at < length:
            size = int(rng.integers(3, 40))
            document = [specials["<s>"], *rng.integers(200, 1000, size), specials["</s>"]]
            if at + len(document) > 0:
                begin = max(at, 0)
                end = min(at + len(document), length)
                tokens[row, begin:end] = document[begin - at : end - at]
                segments[row, begin:end] = segment
                positions[row, begin:end] = np.arange(end - begin)
                segment += 1
            at += len(document)
    index = np.arange(rows)
    return Window(tokens, segments, positions, index, index, index * 0, 0)


def test_prefix(make, specials):
    objective = make(64, name="prefix_lm")
    window = packed(400, objective.length, specials)
    batch = objective.apply(window)
    prefix_of_pairs = []
    for row in range(400):
        for segment in np.unique(window.segments[row]):
            inside = np.flatnonzero(window.segments[row] == segment)
            size = len(inside)
            order = batch["order"][row][inside[inside < 64]]
            # zero throughout the prefix, the position behind it
            prefix = int((order == 0).sum())
            assert np.array_equal(order, np.where(np.arange(len(order)) < prefix, 0, np.arange(len(order))))
            targets = batch["targets"][row][inside[:-1]]
            assert (targets[: prefix - 1] == -100).all()
            if size > 1 and inside[-1] < 64:
                assert 1 <= prefix < size
                assert np.array_equal(targets[prefix - 1 :], window.tokens[row][inside[prefix:]])
                prefix_of_pairs.append((prefix - 1) / (size - 1))
            if inside[-1] < 64:
                assert batch["targets"][row][inside[-1]] == -100
    assert np.mean(prefix_of_pairs) < 0.5 < np.mean(prefix_of_pairs) + 0.1  # uniform in 1..n-1


def undo(tokens, specials):
    """The text of a rearranged stretch, and its mode."""
    pre, mid, suf = (specials[f"<fim_{part}>"] for part in ("prefix", "middle", "suffix"))
    tokens = list(tokens)
    assert tokens[0] == pre and tokens.count(pre) == tokens.count(mid) == tokens.count(suf) == 1
    s, m = tokens.index(suf), tokens.index(mid)
    if s == 1:  # SPM: prefix and middle follow each other
        return tokens[m + 1 :] + tokens[s + 1 : m], "spm"
    return tokens[1:s] + tokens[m + 1 :] + tokens[s + 1 : m], "psm"


@pytest.mark.parametrize("spm_rate", [0.0, 0.3, 1.0])
def test_fill_in_the_middle(make, specials, spm_rate):
    objective = make(96, name="fim", rate=0.6, spm_rate=spm_rate)
    window = packed(500, objective.length, specials)
    batch = objective.apply(window)
    assert {name: array.shape for name, array in batch.items()} == dict.fromkeys(
        ("tokens", "targets", "segments", "positions"), (500, 96)
    )
    modes, changed, long_enough = [], 0, 0
    for row in range(500):
        for segment in np.unique(window.segments[row]):
            inside = np.flatnonzero(window.segments[row] == segment)
            if inside[-1] >= 96:
                continue
            before, after = window.tokens[row][inside], batch["tokens"][row][inside]
            # <s> and </s> stay
            edges = np.isin(before, (specials["<s>"], specials["</s>"]))
            assert np.array_equal(before[edges], after[edges])
            stretch = before[~edges]
            long_enough += len(stretch) >= 6
            if not np.array_equal(before, after):
                assert len(stretch) >= 6
                changed += 1
                restored, mode = undo(after[~edges], specials)
                assert restored == stretch[:-3].tolist()
                modes.append(mode)
    assert changed / long_enough == pytest.approx(0.6, abs=3 * np.sqrt(0.24 / long_enough))
    # an SPM example with an empty prefix part reads like PSM only when the prefix is empty: then both are the same
    assert np.mean([mode == "spm" for mode in modes]) == pytest.approx(
        spm_rate + (1 - spm_rate) * 0.09, abs=0.06 + 3 * np.sqrt(0.25 / len(modes))
    )
