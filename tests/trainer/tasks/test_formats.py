"""What a model reads of a record."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from trainer.data import Tokenizer
from trainer.tasks import Examples, open_task


def examples(config, which="train"):
    return Examples(open_task(config), config, which)


def rows(config, which="train", count=None):
    found = examples(config, which)
    order = found.order
    found.order = None  # in the order of the file
    batch = found.batch(0, count or len(found))
    found.order = order
    return batch


SEQUENCE = {"kind": "sequence", "labels": ["no", "yes"]}


def test_a_pair_is_one_row(configured, records, tokenizer_file):
    file = records({"a": "the cat", "b": "a dog sees", "label": "yes"})
    config = configured("encoder", text=["a", "b"], train=[str(file)], held_out=[str(file)], **SEQUENCE)
    config = config.model_copy(update={"model": config.model.model_copy(update={"token_types": 2})})
    own = Tokenizer(tokenizer_file)
    first, second = own.encode("the cat"), own.encode("a dog sees")
    bos, eos = own.specials["<s>"], own.specials["</s>"]
    batch = rows(config)
    size = len(first) + len(second) + 3
    assert batch["tokens"][0, :size].tolist() == [bos, *first, eos, *second, eos]
    assert batch["token_types"][0].tolist() == [0] * (len(first) + 2) + [1] * (len(second) + 1) + [0] * (32 - size)
    assert (batch["segments"][0] == np.where(np.arange(32) < size, 0, -1)).all()
    assert batch["targets"].tolist() == [1]


def test_an_encoder_decoder_reads_it_on_both_sides(configured, records, tokenizer_file):
    file = records({"text": "the cat", "label": "no"})
    batch = rows(configured("encoder_decoder", train=[str(file)], held_out=[str(file)], **SEQUENCE))
    size = int((batch["source_segments"] >= 0).sum())
    assert batch["tokens"][0, 1:size].tolist() == batch["source_tokens"][0, : size - 1].tolist()
    assert batch["tokens"][0, 0] == Tokenizer(tokenizer_file).specials["<s>"]


def test_too_long_a_pair_loses_the_longer_text_and_is_counted(configured, records, tokenizer_file):
    file = records({"a": "the cat", "b": "the dogs " * 40, "label": "no"}, {"a": "the cat", "b": "dog", "label": "no"})
    config = configured(text=["a", "b"], train=[str(file)], held_out=[str(file)], **SEQUENCE)
    found = examples(config)
    assert found.cut == 1 and found.records == 2
    own = Tokenizer(tokenizer_file)
    row = rows(config)["tokens"][0].tolist()
    first = own.encode("the cat")
    assert row[1 : len(first) + 1] == first and own.specials["<pad>"] not in row


def test_words_are_marked_at_their_first_token(configured, records, tokenizer_file):
    words, tags = ["the", "unheard-of", "cat"], ["O", "B-X", "O"]
    file = records({"words": words, "tags": tags})
    config = configured(
        "encoder", kind="token", text=["words"], answer=["tags"], labels=["B-X", "O"], train=[str(file)],
        held_out=[str(file)],
    )  # fmt: skip
    batch = rows(config)
    places = np.flatnonzero(batch["targets"][0] >= 0)
    assert batch["targets"][0, places].tolist() == [1, 0, 1]
    own = Tokenizer(tokenizer_file)
    assert all(
        f"^{' ' * (number > 0)}{word}".startswith(f"^{own.decode(batch['tokens'][0, [place]].tolist())}")
        for number, (word, place) in enumerate(zip(words, places, strict=True))
    )


@pytest.mark.parametrize("context", ["the old cat sees it", "été 日本 the cat sees 日本 dogs"])
def test_a_span_comes_back_as_its_text(configured, records, tokenizer_file, context):
    begin = context.index("cat")
    answers = {"text": ["cat"], "answer_start": [begin]}
    file = records({"question": "who sees", "context": context, "answers": answers})
    config = configured(
        "encoder", 64, kind="span", text=["question", "context"], answer=["answers"], train=[str(file)],
        held_out=[str(file)],
    )  # fmt: skip
    batch, own = rows(config), Tokenizer(tokenizer_file)
    first, last = batch["targets"][0]
    assert "cat" in own.decode(batch["tokens"][0, first : last + 1].tolist())
    start = int(np.flatnonzero(batch["inside"][0])[1])
    places = own.places(context)
    assert places[first - start][0] <= begin and places[last - start][1] >= begin + 3
    assert places[first - start][1] > begin and places[last - start][0] < begin + 3
    assert batch["inside"][0].sum() == len(places) + 1


def test_places_cover_the_text(tokenizer_file):
    own, text = Tokenizer(tokenizer_file), "  été 日本\tdef f(a, b): 🐈\n"
    places = own.places(text)
    assert len(places) == len(own.encode(text))
    assert places[0][0] == 0 and places[-1][1] == len(text)
    assert all(begin < end for begin, end in places)
    assert all(after <= before for (_, before), (after, _) in pairwise(places))


def test_preferences_mark_the_answers_alone(configured, records, tokenizer_file):
    file = records({"prompt": "the cat", "good": " sees", "bad": " sleep near it"})
    config = configured(
        kind="preference", text=["prompt"], answer=["good", "bad"], parent="x", train=[str(file)], held_out=[str(file)]
    )
    batch, own = rows(config), Tokenizer(tokenizer_file)
    for row, answer in zip(batch["answers"][0], (" sees", " sleep near it"), strict=True):
        marked = row[row >= 0].tolist()
        assert marked == [*own.encode(answer), own.specials["</s>"]]
    # Every marked target is the next token.
    tokens, answers = batch["tokens"][0], batch["answers"][0]
    for row, wanted in zip(tokens, answers, strict=True):
        inner = np.flatnonzero(wanted[:-1] >= 0)
        here = inner[row[inner + 1] != own.specials["<pad>"]]
        assert (row[here + 1] == wanted[here]).all()
    assert own.specials["<sep>"] in tokens[0]


def test_past_the_end_of_the_held_out_records_is_padding(configured, records):
    file = records(*({"text": f"the cat {n}", "label": "no"} for n in range(3)))
    found = examples(configured(train=[str(file)], held_out=[str(file)], **SEQUENCE), "held_out")
    batch = found.batch(2, 5)
    assert batch["targets"].tolist() == [0, -100, -100] and (batch["segments"][1:] == -1).all()


def test_samples_are_a_function_of_their_number(configured, records):
    file = records(*({"text": f"the cat {n}", "label": "no"} for n in range(7)))
    config = configured(train=[str(file)], held_out=[str(file)], **SEQUENCE)
    whole, other = examples(config).batch(0, 21), examples(config)
    for start, stop in ((0, 4), (5, 9), (13, 21)):
        part = other.batch(start, stop)
        assert all((part[name] == whole[name][start:stop]).all() for name in whole)
    for epoch in range(3):
        assert len({row.tobytes() for row in whole["tokens"][7 * epoch : 7 * epoch + 7]}) == 7
