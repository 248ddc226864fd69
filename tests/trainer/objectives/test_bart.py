from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

ALL = ("sentence_permutation", "token_masking", "token_deletion", "text_infilling", "document_rotation")


def sources(batch):
    return [
        row[inside == 0].tolist() for row, inside in zip(batch["source_tokens"], batch["source_segments"], strict=True)
    ]


@pytest.mark.parametrize("noises", [(noise,) for noise in ALL] + [("text_infilling", "sentence_permutation"), ALL])
def test_the_decoder_writes_the_whole_text(make, window, text, specials, noises):
    objective = make(64, name="bart", noises=noises, rate=0.3, packing="padded")
    lengths = np.array([0, 1, 2, 3, 5, 40, 62])
    tokens = text(7, 62)
    batch = objective.apply(window(tokens, lengths))
    for row, length in enumerate(lengths.tolist()):
        inside = batch["segments"][row] == 0
        written = tokens[row, :length].tolist()
        if not length:
            assert not inside.any() and not sources(batch)[row]
            continue
        assert batch["targets"][row][inside].tolist() == [*written, specials["</s>"]]
        assert batch["tokens"][row][inside].tolist() == [specials["<s>"], *written]
        source = sources(batch)[row]
        assert source[0] == specials["<s>"] and source[-1] == specials["</s>"]
        assert set(source[1:-1]) <= {*written, specials["<mask>"]}
    assert (batch["targets"][batch["segments"] == -1] == -100).all()


def test_token_masking(make, window, text, specials):
    batch = make(514, name="bart", noises=("token_masking",), rate=0.3).apply(window(text(500, 512)))
    masks = (batch["source_tokens"] == specials["<mask>"]).sum(axis=1)
    assert set(masks.tolist()) <= {153, 154} and masks.mean() == pytest.approx(0.3 * 512, abs=0.1)
    assert (batch["source_segments"] == 0).all()


def test_token_deletion(make, window, text):
    tokens = text(500, 512)
    batch = make(514, name="bart", noises=("token_deletion",), rate=0.3).apply(window(tokens))
    kept = [source[1:-1] for source in sources(batch)]
    assert np.mean([len(row) / 512 for row in kept]) == pytest.approx(0.7, abs=0.001)
    for row, original in zip(kept, tokens.tolist(), strict=True):  # in order: a subsequence
        rest = iter(original)
        assert all(token in rest for token in row)


@pytest.mark.parametrize(("mean_span", "masks", "ratio", "removed"), [(3.0, 42, 0.817, 0.265), (3.5, 36, 0.804, 0.266)])
def test_text_infilling_against_the_reference(make, window, text, specials, mean_span, masks, ratio, removed):
    """Measured on the reference implementation at 512 tokens and 30%: masks, length ratio, share that vanishes."""
    tokens = text(1500, 512)
    batch = make(514, name="bart", noises=("text_infilling",), rate=0.3, mean_span=mean_span).apply(window(tokens))
    rows = [source[1:-1] for source in sources(batch)]
    count = np.array([row.count(specials["<mask>"]) for row in rows])
    length = np.array([len(row) for row in rows])
    assert count.mean() == pytest.approx(masks, abs=0.7)
    assert length.mean() / 512 == pytest.approx(ratio, abs=0.003)
    assert 1 - (length - count).mean() / 512 == pytest.approx(removed, abs=0.003)
    for row, original in zip(rows, tokens.tolist(), strict=True):  # what remains is in order
        rest = iter(original)
        assert all(token in rest for token in row if token != specials["<mask>"])


def test_infilling_of_words_takes_whole_words(make, window, text, vocabulary, specials):
    tokens = np.argsort(np.random.default_rng(0).random((300, 1000)), axis=1)[:, :126] + 163  # no token twice
    batch = make(128, name="bart", noises=("text_infilling",), rate=0.3, unit="word").apply(window(tokens))
    begins = vocabulary.word_starts(tokens)
    for row, source in enumerate(sources(batch)):
        kept = set(source)
        starts = np.flatnonzero(begins[row])
        for begin, end in zip(starts, [*starts[1:], 126], strict=True):
            assert len({token in kept for token in tokens[row, begin:end].tolist()}) == 1


def test_random_replacements(make, window, text, specials):
    rates = []
    for share in (0.0, 0.1):
        batch = make(514, name="bart", noises=("token_masking",), rate=0.3, random_share=share).apply(
            window(text(200, 512))
        )
        rates.append((batch["source_tokens"] == specials["<mask>"]).mean() / (0.3 * 512 / 514))
    assert rates[0] == pytest.approx(1, abs=0.002) and rates[1] == pytest.approx(0.9, abs=0.006)


def test_sentences_stay_whole_and_nothing_is_lost(make, window, text, vocabulary):
    tokens = text(300, 62)
    batch = make(64, name="bart", noises=("sentence_permutation",), rate=0.3).apply(window(tokens))
    moved = 0
    for source, original in zip(sources(batch), tokens, strict=True):
        cuts = np.flatnonzero(vocabulary.ends_sentence[original[:-1]]) + 1
        sentences = Counter(tuple(part) for part in np.split(original, cuts))
        shuffled, rest = source[1:-1], 0
        while rest < len(shuffled):
            found = next(
                s
                for s in sorted(sentences, key=len, reverse=True)
                if tuple(shuffled[rest : rest + len(s)]) == s and sentences[s]
            )
            sentences[found] -= 1
            rest += len(found)
        assert not +sentences
        moved += shuffled != original.tolist()
    assert moved > 250


def test_every_order_of_three_sentences_is_equally_likely(make, window, vocabulary):
    word = int(vocabulary.ordinary[0] + (-vocabulary.ordinary[0]) % 10)
    stop = word + 9
    tokens = np.tile([word, stop, word + 1, stop, word + 2, stop], (6000, 1))
    batch = make(8, name="bart", noises=("sentence_permutation",), rate=0.3).apply(window(tokens))
    orders = Counter(tuple(row[1:-1:2]) for row in batch["source_tokens"].tolist())
    assert len(orders) == 6 and all(abs(count - 1000) < 4 * np.sqrt(1000 * 5 / 6) for count in orders.values())


def test_rotation(make, window, text, vocabulary):
    tokens = np.tile(np.arange(500, 562), (6000, 1))
    batch = make(64, name="bart", noises=("document_rotation",), rate=0.3).apply(window(tokens))
    first = batch["source_tokens"][:, 1] - 500
    for row, offset in zip(batch["source_tokens"], first, strict=True):
        assert np.array_equal(row[1:-1], np.roll(tokens[0], -offset))
    counts = np.bincount(first, minlength=62)
    assert ((counts - 6000 / 62) ** 2 / (6000 / 62)).sum() < 105  # 61 degrees of freedom: 0.04%


def test_noises_come_in_one_order(make, window, text):
    tokens = window(text(20, 62))
    one = make(64, name="bart", noises=("text_infilling", "sentence_permutation"), rate=0.3).apply(tokens)
    other = make(64, name="bart", noises=("sentence_permutation", "text_infilling"), rate=0.3).apply(tokens)
    assert np.array_equal(one["source_tokens"], other["source_tokens"])


def test_the_window_is_not_edited(make, window, text):
    given = window(text(5, 62))
    before = given.tokens.copy()
    make(64, name="bart", noises=ALL, rate=0.3).apply(given)
    assert np.array_equal(given.tokens, before)


def test_languages_take_the_place_of_the_beginning(make, window, text, specials):
    keys = {"noises": ("sentence_permutation", "text_infilling"), "rate": 0.35, "mean_span": 3.5, "packing": "padded"}
    lengths = np.array([0, 1, 2, 3, 5, 40, 62])
    given = replace(window(text(7, 62), lengths), language=np.arange(20, 27))
    plain, spoken = make(64, name="bart", **keys).apply(given), make(64, name="mbart", **keys).apply(given)
    for row, (before, after) in enumerate(zip(sources(plain), sources(spoken), strict=True)):
        if lengths[row]:
            assert after == [*before[1:], 20 + row] and after[-2] == specials["</s>"]
            assert spoken["tokens"][row, 0] == 20 + row
    assert np.array_equal(spoken["tokens"][:, 1:], plain["tokens"][:, 1:])
    assert all(np.array_equal(spoken[k], plain[k]) for k in ("targets", "segments", "source_segments", "positions"))
