"""Gap sentences against ROUGE by its definition, on text put together again."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from trainer.config import Config
from trainer.objectives import Vocabulary, objective
from trainer.objectives.gap_sentences import most_hidden
from trainer.objectives.sentences import Words

FIRST = 163  # the first ordinary id of the made-up vocabulary
LENGTH = 127  # tokens of text of a sample of 128


def few_words(rows, seed=0, length=LENGTH):
    """Texts of sixty different tokens, so that sentences share words."""
    return FIRST + np.random.default_rng(seed).integers(0, 60, (rows, length))


def sentences_of(tokens, vocabulary):
    """The tokens of each sentence."""
    found = [[]]
    for token in tokens:
        found[-1].append(token)
        if vocabulary.text(token) == ".":
            found.append([])
    return [one for one in found if one]


def words_of(sentences, vocabulary):
    text = "".join(vocabulary.text(token) for sentence in sentences for token in sentence)
    return re.findall(r"\w+", text.lower())


def rouge(sentence, others, vocabulary):
    """F1 of ROUGE-1, by its definition: of the mean of precision and recall over clipped counts."""
    one, rest = Counter(words_of([sentence], vocabulary)), Counter(words_of(others, vocabulary))
    shared = sum((one & rest).values())
    if not shared:
        return Fraction(0)
    precision, recall = Fraction(shared, one.total()), Fraction(shared, rest.total())
    return 2 * precision * recall / (precision + recall)


def sides(batch, row):
    source = batch["source_tokens"][row][batch["source_segments"][row] == 0].tolist()
    return source, batch["targets"][row][batch["targets"][row] != -100].tolist()


def test_the_sentences_that_are_most_like_the_rest_are_written(make, window, vocabulary, specials):
    tokens, told_apart = few_words(60), 0
    batch = make(128, name="gap_sentences", rate=0.3).apply(window(tokens))
    for row in range(60):
        source, targets = sides(batch, row)
        assert source.pop() == targets.pop() == specials["</s>"]
        written = sentences_of(targets, vocabulary)
        put_back = [part for token in source for part in (written.pop(0) if token == specials["<mask>"] else [token])]
        assert put_back == tokens[row].tolist() and not written
        sentences = sentences_of(put_back, vocabulary)
        chosen, place = [], 0
        for number, sentence in enumerate(sentences):
            hidden = source[place] == specials["<mask>"]
            chosen += [number] if hidden else []
            place += 1 if hidden else len(sentence)
        scores = [rouge(one, sentences[:n] + sentences[n + 1 :], vocabulary) for n, one in enumerate(sentences)]
        spoken = [n for n, one in enumerate(sentences) if words_of([one], vocabulary)]
        room, best, wanted = LENGTH // 2, [], max(1, round(0.3 * len(spoken)))
        for number in sorted(spoken, key=lambda n: (-scores[n], n not in chosen)):  # of equal ones any
            if len(best) < wanted and len(sentences[number]) <= room:
                best.append(number)
                room -= len(sentences[number])
        assert chosen == sorted(best) and len(targets) <= most_hidden(LENGTH)
        told_apart += min(scores[n] for n in chosen) > min(scores[n] for n in spoken)
    assert told_apart > 40


def test_of_equal_sentences_any_is_written(make, window, specials):
    """By the sample's own noise."""
    sentence = [FIRST + 7, FIRST + 8, FIRST + 6]  # two words and a full stop
    tokens = np.array([sentence * 42 + [FIRST + 1]] * 300)
    batch = make(128, name="gap_sentences", rate=0.025).apply(window(tokens))
    places = (batch["source_tokens"] == specials["<mask>"]).argmax(axis=1) // 3
    assert (np.bincount(places, minlength=42) > 0).all()


@pytest.mark.parametrize("rate", [0.15, 0.3, 0.45])
def test_how_many_are_written(make, window, vocabulary, specials, rate):
    """The rounded share of the sentences, but for targets of half the text."""
    tokens = few_words(200)
    batch = make(128, name="gap_sentences", rate=rate).apply(window(tokens))
    for row in range(200):
        spoken = [one for one in sentences_of(tokens[row].tolist(), vocabulary) if words_of([one], vocabulary)]
        source, targets = sides(batch, row)
        wanted, got = max(1, round(rate * len(spoken))), source.count(specials["<mask>"])
        assert got <= wanted and len(targets) <= most_hidden(LENGTH) + 1
        if got < wanted:  # not one more would have fitted
            shortest = min(map(len, spoken))
            assert len(targets) - 1 + shortest > most_hidden(LENGTH) or len(targets) > LENGTH // 4


def test_a_share_of_them_stays(make, window, specials):
    tokens = few_words(2000)
    whole, some = (
        make(128, name="gap_sentences", rate=0.45, kept_share=share).apply(window(tokens)) for share in (0.0, 0.2)
    )
    assert np.array_equal(whole["targets"], some["targets"])
    all_of_them, hidden = ((one["source_tokens"] == specials["<mask>"]).sum() for one in (whole, some))
    assert hidden / all_of_them == pytest.approx(0.8, abs=3 * np.sqrt(0.16 / all_of_them))


def test_a_sentence_that_is_too_long_is_written_as_far_as_it_fits(make, window, specials):
    tokens = np.full((2, LENGTH), FIRST + 1)
    tokens[1, 1] = FIRST + 6  # ends a sentence of one word; the other one is too long
    batch = make(128, name="gap_sentences", rate=0.9).apply(window(tokens))
    assert sides(batch, 0) == ([specials["<mask>"], specials["</s>"]], [FIRST + 1] * 63)
    source, targets = sides(batch, 1)
    assert source == [specials["<mask>"], *[FIRST + 1] * 125, specials["</s>"]]
    assert targets == [FIRST + 1, FIRST + 6, specials["</s>"]]
    assert batch["tokens"].shape == (2, 64)


def test_the_mask_of_pegasus_goes_before_others(vocabulary, window, specials):
    named = {name: token for name, token in specials.items() if name != "<sep>"} | {"<mask_1>": specials["<sep>"]}
    config = Config.model_validate({"objective": {"name": "gap_sentences"}, "data": {"sequence_length": 64}})
    config = config.model_copy(
        update={
            "model": config.model.model_copy(update={"family": "encoder_decoder"}),
            "data": config.data.model_copy(update={"boundaries": False}),
        }
    )
    batch = objective(config, replace(vocabulary, specials=named)).apply(window(few_words(4, length=63)))
    assert (batch["source_tokens"] == specials["<sep>"]).any(axis=1).all()
    assert not (batch["source_tokens"] == specials["<mask>"]).any()


def test_words_are_the_same_however_they_are_cut():
    pieces = ["", " The", " th", "e", "the", " ", ".", " cat", " c", "at", "The", "C", "AT", None]
    words = Words(Vocabulary(len(pieces), {"<pad>": 0}, lambda token: pieces[token]))

    def numbers(*tokens):
        starts, found = words(np.array(tokens), np.arange(len(tokens)) == 0)
        return starts.tolist(), found.tolist()

    (_, [the]), (_, [cat]) = numbers(1), numbers(7)
    assert the != cat
    assert numbers(2, 3)[1] == numbers(4)[1] == numbers(5, 10)[1] == [the]
    assert numbers(1, 8, 9, 6, 2, 3, 5, 11, 12) == ([0, 1, 4, 7], [the, cat, the, cat])
    assert numbers(6, 6) == ([], []) and numbers(13)[1] not in ([the], [cat])
