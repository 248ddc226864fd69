from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest


def hidden_of(batch):
    return batch["targets"] != -100


def check_masks(batch, original, specials):
    """Putting the targets back restores the input; special tokens and padding are never hidden."""
    hidden = hidden_of(batch)
    assert np.array_equal(np.where(hidden, batch["targets"], batch["tokens"]), original)
    assert not np.isin(original[hidden], list(specials.values())).any()


def closed(tokens, lengths, specials):
    rows = np.zeros((len(tokens), tokens.shape[1] + 2), np.int64)
    for row, length in enumerate(lengths):
        if length:
            rows[row, : length + 2] = [specials["<s>"], *tokens[row, :length], specials["</s>"]]
    return rows


def test_roberta(make, window, text, vocabulary, specials):
    objective = make(130, name="masked_lm")
    tokens = text(4000, 128)
    batch = objective.apply(window(tokens))
    check_masks(batch, closed(tokens, [128] * 4000, specials), specials)
    hidden = hidden_of(batch)
    count = hidden.sum(axis=1)
    assert set(count.tolist()) == {19, 20} and count.mean() == pytest.approx(0.15 * 128, abs=0.025)  # rounded at random
    total, changed = hidden.sum(), batch["tokens"][hidden] != batch["targets"][hidden]
    masked = batch["tokens"][hidden] == specials["<mask>"]
    for share, expected in ((masked.mean(), 0.8), ((changed & ~masked).mean(), 0.1), ((~changed).mean(), 0.1)):
        assert share == pytest.approx(expected, abs=3 * np.sqrt(expected * (1 - expected) / total) + 1e-4)
    swapped = batch["tokens"][hidden][changed & ~masked]
    assert np.isin(swapped, vocabulary.ordinary).all()
    assert len(np.unique(swapped)) > 0.98 * len(vocabulary.ordinary)
    where = hidden.mean(axis=0)[1:-1]
    assert abs(where - 0.15).max() < 4.5 * np.sqrt(0.15 * 0.85 / 4000)


def test_padding_and_short_rows(make, window, text, specials):
    lengths = np.array([0, 1, 2, 3, 5, 62])
    for keys in ({}, {"unit": "word"}, {"unit": "ngram"}, {"masks": "static"}):
        tokens = text(6, 62)
        batch = make(64, name="masked_lm", packing="padded", **keys).apply(window(tokens, lengths))
        check_masks(batch, closed(tokens, lengths, specials), specials)
        assert (batch["segments"] == 0).sum(axis=1).tolist() == [0, 3, 4, 5, 7, 64]
        if keys.get("masks") == "static":  # BERT hides at least one token
            assert hidden_of(batch).sum(axis=1).tolist() == [0, 1, 1, 1, 1, 9]


def test_dynamic_masks_change_and_static_ones_take_turns(make, window, text):
    tokens = text(8, 62)
    epoch = [replace(window(tokens, first=8 * e, n=8)) for e in range(12)]
    dynamic = [hidden_of(make(64, name="masked_lm").apply(w)) for w in epoch]
    assert not any(np.array_equal(dynamic[0], other) for other in dynamic[1:])
    static = [hidden_of(make(64, name="masked_lm", masks="static", copies=5).apply(w)) for w in epoch]
    for e in range(12):
        for other in range(12):
            assert np.array_equal(static[e], static[other]) == ((e - other) % 5 == 0)


def words(tokens, vocabulary):
    """(begin, end) of every word of a row, by the spelling alone."""
    starts = np.flatnonzero(vocabulary.word_starts(tokens[None])[0])
    return list(zip(starts, [*starts[1:], len(tokens)], strict=True))


def test_word_starts_follow_the_spelling(vocabulary):
    first = min(vocabulary.ordinary)
    base = int(first + (-first) % 10)
    # " w" " w" "c" "c" "." "." "c": a space begins a word, letters go on, a full stop is of another kind
    tokens = np.array([[base, base + 1, base + 6, base + 7, base + 9, base + 19, base + 8]])
    assert vocabulary.word_starts(tokens).tolist() == [[True, True, False, False, True, False, True]]


@pytest.mark.parametrize("unit", ["word", "ngram"])
def test_whole_words(make, window, text, vocabulary, specials, unit):
    objective = make(130, name="masked_lm", unit=unit)
    tokens = text(500, 128)
    batch = objective.apply(window(tokens))
    check_masks(batch, closed(tokens, [128] * 500, specials), specials)
    hidden = hidden_of(batch)[:, 1:-1]
    for row in range(500):
        for begin, end in words(tokens[row], vocabulary):
            assert hidden[row, begin:end].all() or not hidden[row, begin:end].any()
    count = hidden.sum(axis=1)
    assert count.max() <= 20 and count.mean() > 0.97 * 0.15 * 128


def test_ngrams_are_as_long_as_albert_wants_them(make, window, vocabulary):
    """Words of one token, few of them hidden, so that runs seldom touch: 6/11, 3/11, 2/11."""
    tokens = np.full((200, 8000), int(vocabulary.ordinary[0] + (-vocabulary.ordinary[0]) % 10))
    hidden = hidden_of(make(8002, name="masked_lm", unit="ngram", rate=0.02).apply(window(tokens)))
    edges = np.diff(hidden.astype(np.int8), axis=1)
    runs = np.nonzero(edges == -1)[1] - np.nonzero(edges == 1)[1]
    runs = runs[runs <= 3]
    for length, share in ((1, 6 / 11), (2, 3 / 11), (3, 2 / 11)):
        assert (runs == length).mean() == pytest.approx(share, abs=0.02)


def test_replaced_token_detection_sees_masks_and_originals(make, window, text, specials):
    batch = make(130, name="replaced_token", mask_share=0.85, random_share=0.0).apply(window(text(3000, 128)))
    hidden = hidden_of(batch)
    masked = batch["tokens"][hidden] == specials["<mask>"]
    assert masked.mean() == pytest.approx(0.85, abs=3 * np.sqrt(0.85 * 0.15 / hidden.sum()))
    assert np.array_equal(batch["tokens"][hidden][~masked], batch["targets"][hidden][~masked])


# --- pairs -----------------------------------------------------------------------------------------------------------


def halves(batch, row, specials):
    """(A, B) with the hidden tokens put back."""
    whole = np.where(batch["targets"][row] != -100, batch["targets"][row], batch["tokens"][row])
    whole = whole[batch["segments"][row] == 0].tolist()
    assert whole[0] == specials["<s>"] and whole[-1] == specials["</s>"]
    cut = whole.index(specials["</s>"])
    types = batch["token_types"][row].tolist()
    assert types == [0] * (cut + 1) + [1] * (len(whole) - cut - 1) + [0] * (len(types) - len(whole))
    return whole[1:cut], whole[cut + 1 : -1]


def test_sentence_order(make, window, text, vocabulary, specials):
    objective = make(64, name="masked_lm", question="sop", unit="ngram", short_rate=0.0)
    tokens = text(2000, 61)
    batch = objective.apply(window(tokens))
    for row in range(2000):
        a, b = halves(batch, row, specials)
        label = batch["sentence_label"][row]
        first, second = (b, a) if label else (a, b)
        assert first + second == tokens[row].tolist()
        if vocabulary.ends_sentence[tokens[row, :-1]].any():
            assert vocabulary.ends_sentence[first[-1]]
    assert batch["sentence_label"].mean() == pytest.approx(0.5, abs=3 * 0.5 / np.sqrt(2000))


def test_next_sentence(make, window, text, specials):
    objective = make(64, name="masked_lm", question="nsp", masks="static", short_rate=0.0)
    tokens, others = text(2000, 61), text(2000, 61, seed=1)
    pair = replace(window(tokens), partner=window(others), other_document=np.arange(2000) >= 200)
    batch = objective.apply(pair)
    labels = batch["sentence_label"]
    for row in range(2000):
        a, b = halves(batch, row, specials)
        assert a == tokens[row, : len(a)].tolist() and len(a) + len(b) == 61
        whole = tokens[row].tolist() if not labels[row] else others[row].tolist()
        begin = len(a) if not labels[row] else next(k for k in range(61) if whole[k : k + len(b)] == b)
        assert whole[begin : begin + len(b)] == b
    assert not labels[:200].any()  # a corpus of one document has nothing random to offer
    assert labels[200:].mean() == pytest.approx(0.5, abs=3 * 0.5 / np.sqrt(1800))


def test_some_pairs_are_short(make, window, text):
    objective = make(64, name="masked_lm", question="sop", short_rate=0.1)
    lengths = (objective.apply(window(text(4000, 61)))["segments"] == 0).sum(axis=1)
    assert (lengths < 64).mean() == pytest.approx(0.1 * 60 / 61, abs=3 * np.sqrt(0.09 / 4000))
    assert lengths.min() >= 5 and np.median(lengths[lengths < 64]) == pytest.approx(34, abs=4)


@pytest.mark.parametrize("question", ["nsp", "sop"])
def test_pairs_of_short_documents(make, window, text, specials, question):
    objective = make(16, name="masked_lm", question=question, short_rate=0.0)
    lengths = np.array([0, 1, 2, 3, 5])
    pair = window(text(5, 13), lengths)
    batch = objective.apply(replace(pair, partner=window(text(5, 13, seed=1)), other_document=np.ones(5, bool)))
    assert (batch["segments"][0] == -1).all() and batch["sentence_label"][0] == -100
    assert batch["sentence_label"][1] == (1 if question == "nsp" else -100)
    assert set(batch["sentence_label"][2:].tolist()) <= {0, 1}


@pytest.mark.parametrize("keys", [{"name": "masked_lm", "question": "sop"}, {"name": "unilm"}], ids=str)
def test_a_vocabulary_without_types_changes_nothing_else(keys, make, window, text, monkeypatch):
    """As tokenizers are that give the second text no token type of its own."""
    objective, pair = make(64, **keys), window(text(20, 61))
    typed = objective.apply(pair)
    monkeypatch.setattr(objective, "vocabulary", replace(objective.vocabulary, second_type=0))
    plain = objective.apply(pair)
    assert typed["token_types"].any() and not plain["token_types"].any()
    assert all(np.array_equal(plain[name], typed[name]) for name in typed if name != "token_types")


# --- UniLM -----------------------------------------------------------------------------------------------------------


def test_unilm(make, window, text, specials):
    objective = make(64, name="unilm")
    tokens = text(6000, 61)
    batch = objective.apply(window(tokens))
    kinds = []
    for row in range(600):
        a, b = halves(batch, row, specials)
        assert a + b == tokens[row].tolist()
    order, types, columns = batch["order"], batch["token_types"], np.arange(64)
    both = (order == 0).all(axis=1)
    left = (order == columns).all(axis=1)
    right = (np.diff(order, axis=1) == -1).all(axis=1)
    sequence = (order == np.where(types == 1, columns, 0)).all(axis=1)
    assert (both.astype(int) + left + right + sequence == 1).all()
    for kind, share in ((both, 1 / 3), (sequence, 1 / 3), (left, 1 / 6), (right, 1 / 6)):
        kinds.append(kind.mean())
        assert kinds[-1] == pytest.approx(share, abs=3 * np.sqrt(share / 6000))
    hidden = (batch["targets"] != -100).sum(axis=1)
    assert hidden.mean() == pytest.approx(0.15 * 61, abs=0.1)
