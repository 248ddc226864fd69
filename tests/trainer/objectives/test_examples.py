"""Texts end to end against the plain way: one text at a time, one token at a time."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from trainer.objectives import NO_TARGET, PADDING, Packed, Texts, noise
from trainer.objectives.examples import Side, from_rows, in_rows

RECIPES = [
    {"name": "masked_lm"},
    {"name": "masked_lm", "unit": "ngram"},
    {"name": "masked_lm", "masks": "static"},
    {"name": "span_corruption"},
    {"name": "ul2"},
    {"name": "mass", "rate": 0.5},
    {"name": "permuted_lm"},
    {"name": "gap_sentences", "rate": 0.3, "kept_share": 0.2},
    *(
        {"name": "bart", "noises": (one,), "rate": 0.3, "random_share": 0.2}
        for one in ("sentence_permutation", "token_masking", "token_deletion", "text_infilling", "document_rotation")
    ),
    {"name": "mbart", "noises": ("sentence_permutation", "text_infilling"), "rate": 0.35, "unit": "word"},
]
FILL = {"tokens": 0, "segments": PADDING, "positions": 0, "targets": NO_TARGET, "order": 0}


def some_texts(lengths: list[int], owner: list[int], specials: dict[str, int]) -> Texts:
    rng = np.random.default_rng(1)
    tokens = rng.integers(len(specials), len(specials) + 1000, sum(lengths))
    index = rng.integers(0, 1 << 40, len(lengths))
    language = np.full(len(lengths), specials["<sep>"])
    return Texts(tokens, np.array(lengths), index, index % 1000, index // 1000, 7, np.array(owner), None, language)


def one_text(texts: Texts, number: int) -> Texts:
    end = int(texts.lengths[: number + 1].sum())
    mine = slice(number, number + 1)
    facts = {name: getattr(texts, name)[mine] for name in ("lengths", "index", "place", "epoch", "language")}
    return replace(texts, tokens=texts.tokens[end - int(texts.lengths[number]) : end], owner=np.array([0]), **facts)


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: " ".join(map(str, recipe.values())))
def test_a_batch_is_its_texts_one_by_one(recipe, make, specials):
    """Whatever shares a row or a batch with it, empty texts too: a text gives the example that it gives alone."""
    packed = make(64, boundaries=True, **recipe)
    assert isinstance(packed, Packed)
    longest = packed.length
    lengths = [longest, 20, 0, 9, 1, 2, 30, 5, 5, 0, 3, longest - 1]
    texts = some_texts(lengths, [0, 1, 1, 1, 1, 2, 2, 2, 3, 4, 5, 6], specials)
    batch = packed.pack(texts)
    wanted = {name: np.full_like(array, FILL[name.removeprefix("source_")]) for name, array in batch.items()}
    filled: dict[tuple[str, int], int] = {}
    numbers = [texts.owner[:k].tolist().count(row) for k, row in enumerate(texts.owner.tolist())]
    for number, row in enumerate(texts.owner.tolist()):
        alone = packed.pack(one_text(texts, number))
        for prefix in ("source_", "") if "source_tokens" in batch else ("",):
            at = filled.get((prefix, row), 0)
            count = int((alone[f"{prefix}segments"][0] != PADDING).sum())
            for name in alone:
                if name.startswith("source_") == bool(prefix):
                    for k in range(count):
                        value = numbers[number] if name.endswith("segments") else alone[name][0, k]
                        wanted[name][row, at + k] = value
            filled[prefix, row] = at + count
    for name, array in batch.items():
        assert np.array_equal(array, wanted[name]) and array.dtype == wanted[name].dtype, name


def test_rows_and_back():
    tokens, lengths = np.arange(100, 109), np.array([4, 0, 3, 2])
    batch = in_rows({"": Side({"tokens": tokens}, lengths, 5, lengths > 0)}, np.arange(4), 0)
    assert batch["tokens"].tolist() == [
        [100, 101, 102, 103, 0],
        [0, 0, 0, 0, 0],
        [104, 105, 106, 0, 0],
        [107, 108, 0, 0, 0],
    ]
    assert batch["positions"][2].tolist() == [0, 1, 2, 0, 0] and batch["segments"][2].tolist() == [0, 0, 0, -1, -1]
    back = from_rows(batch)[""]
    assert np.array_equal(back.arrays["tokens"], tokens) and np.array_equal(back.lengths, lengths)


def test_ends_stand_around_what_there_is():
    some, lengths = np.array([True, True, False, True]), np.array([2, 0, 0, 1])
    modes = np.array([7, 8, 9, -1])
    encoder = Side({"tokens": np.array([10, 11, 12])}, lengths, 5, some, first=modes, last=2)
    decoder = Side({"targets": np.array([10, 11, 12])}, lengths, 5, some, last=2, start=1)
    batch = in_rows({"source_": encoder, "": decoder}, np.array([0, 1, 1, 1]), 0)
    assert batch["source_tokens"].tolist() == [[7, 10, 11, 2, 0], [8, 2, 12, 2, 0]]
    assert batch["source_segments"].tolist() == [[0, 0, 0, 0, -1], [0, 0, 2, 2, -1]]
    assert batch["targets"].tolist() == [[10, 11, 2, -100, -100], [2, 12, 2, -100, -100]]
    assert batch["tokens"].tolist() == [[1, 10, 11, 0, 0], [1, 1, 12, 0, 0]]
    assert batch["positions"].tolist() == [[0, 1, 2, 0, 0], [0, 0, 1, 0, 0]]


def test_few_choices_are_the_first_distinct_ones():
    """Against a loop over the tries of each row; where they do not suffice, over all places by their random numbers."""
    rng = np.random.default_rng(0)
    bound = rng.integers(0, 60, 300)
    count = np.minimum(rng.integers(0, 30, 300), bound)
    tries = rng.integers(1, 60, 300)
    index, origin = rng.integers(0, 1 << 40, 300), bound.cumsum() - bound

    def draw(counts: np.ndarray, part: int) -> np.ndarray:
        return noise.stretches(5, "noise", index, counts, part)

    wanted: list[int] = []
    short = 0
    for row in range(300):
        places: list[int] = []
        for place in noise.below(noise.bits(5, "noise", index[row], int(tries[row]), 2), int(bound[row])).tolist():
            if place not in places and len(places) < count[row]:
                places.append(place)
        if len(places) < count[row]:
            short += 1
            numbers = noise.bits(5, "noise", index[row], int(bound[row]), 3).tolist()
            places = sorted(range(int(bound[row])), key=numbers.__getitem__)[: count[row]]
        wanted += sorted(int(origin[row]) + place for place in places)
    assert short > 20
    assert noise.choose_few(draw, 2, origin, bound, count, tries).tolist() == wanted
