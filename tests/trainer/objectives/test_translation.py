"""Translation language modelling: two sides in one example, hidden tokens on both."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from trainer.config import Config
from trainer.objectives import Texts, objective

LENGTH = 64


def built(vocabulary, **model):
    data = {"name": "parallel", "parallel": {"de": ["x"], "en": ["y"]}, "sequence_length": LENGTH, "packing": "padded"}
    config = Config.model_validate(
        {"objective": {"name": "tlm"}, "data": data, "model": {"family": "encoder", **model}}
    )
    return objective(config, vocabulary)


def texts(specials, rows=40, seed=0, first=0):
    """Rows `A </s> <s> B` of different lengths, every fourth a text alone and every seventh without any."""
    parts, languages = [], []
    for row in range(rows):
        sizes = (1 + (13 * row + 7 * seed + 5 * side) % (LENGTH // 2 - 3) for side in range(2))
        a, b = (200 + (np.arange(size) * 7919 + row * 104_729 + 31 * seed) % 800 for size in sizes)
        alone = row % 4 == 3
        pair = np.concatenate([a, [specials["</s>"], specials["<s>"]], b])
        parts.append(a[:0] if row % 7 == 6 else a if alone else pair)
        languages.append([row % 3, -1 if alone else (row + 1) % 3])
    index, lengths = first + np.arange(rows), np.array([len(part) for part in parts])
    return Texts(np.concatenate(parts), lengths, index, index, index * 0, 42, language=np.array(languages))


@pytest.fixture
def told(vocabulary):
    return built(vocabulary, languages=["de", "en", "fr"])


def test_both_sides_stand_in_one_row(told, specials):
    given = texts(specials)
    batch = told.apply(given.window(told.length, 0))
    bos, eos = specials["<s>"], specials["</s>"]
    whole = np.where(batch["targets"] >= 0, batch["targets"], batch["tokens"])
    begins = given.lengths.cumsum() - given.lengths
    for row, (begin, length) in enumerate(zip(begins, given.lengths, strict=True)):
        inside = batch["segments"][row] == 0
        assert inside.sum() == (length + 2 if length else 0) and (batch["segments"][row][~inside] == -1).all()
        if not length:
            assert (batch["targets"][row] == -100).all()
            continue
        assert whole[row, inside].tolist() == [bos, *given.tokens[begin : begin + length], eos]
        sides = (whole[row, inside] == bos).cumsum() - 1
        assert sides.max() == (0 if row % 4 == 3 else 1)
        assert batch["languages"][row, inside].tolist() == given.language[row][sides].tolist()
        places = [place for side in range(sides.max() + 1) for place in range((sides == side).sum())]
        assert batch["positions"][row, inside].tolist() == places
    assert not np.isin(batch["targets"], list(specials.values())).any()


def test_tokens_of_both_sides_are_hidden(told, specials):
    counts = np.zeros((2, 2))
    for part in range(20):
        given = texts(specials, seed=part, first=100 * part)
        batch = told.apply(given.window(told.length, 0))
        whole = np.where(batch["targets"] >= 0, batch["targets"], batch["tokens"])
        side = (whole == specials["<s>"]).cumsum(axis=1) - 1
        usual = (batch["segments"] == 0) & ~np.isin(whole, [specials["<s>"], specials["</s>"]])
        for which in range(2):
            here = usual & (side == which)
            counts[which] += (batch["targets"][here] >= 0).sum(), here.sum()
    for hidden, count in counts:
        assert abs(hidden / count - 0.15) < 3 * np.sqrt(0.15 * 0.85 / count)


def test_a_sample_depends_on_itself_alone(told, specials):
    given = texts(specials)
    together = told.apply(given.window(told.length, 0))
    window = given.window(told.length, 0)
    for row in (0, 3, 17):
        parts = {name: getattr(window, name)[row : row + 1] for name in
                 ("tokens", "segments", "positions", "index", "place", "epoch", "language")}  # fmt: skip
        one = told.apply(type(window)(**parts, seed=42))
        assert all(np.array_equal(one[name][0], together[name][row]) for name in together)


def test_noise_never_moves(told, specials):
    """A golden hash: a change here changes the noise of every run that is resumed."""
    digest = hashlib.sha256()
    for name, array in sorted(told.apply(texts(specials, first=10**6).window(told.length, 0)).items()):
        digest.update(name.encode() + array.astype("<i8").tobytes())
    assert digest.hexdigest()[:16] == "1239764b7021c07d"


def test_a_model_without_languages(vocabulary, specials, told):
    given = texts(specials).window(told.length, 0)
    want = told.apply(given)
    for types, wanted in ((0, set()), (1, set()), (2, {"token_types"})):
        batch = built(vocabulary, token_types=types).apply(given)
        assert set(batch) - {"tokens", "targets", "segments", "positions"} == wanted
        assert all(np.array_equal(batch[name], want[name]) for name in ("tokens", "targets", "positions"))
