from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError

from trainer.config import Config
from trainer.data import Prepared, Samples
from trainer.data.layouts import chunk_layout
from trainer.data.shards import TokenStream
from trainer.utils.errors import UserError


def documents_of(prepared: Prepared, split: str) -> list[np.ndarray]:
    """The text of every document, without <s> and </s>."""
    stream = TokenStream(prepared, split)
    tokens = np.zeros((1, len(stream)), np.int64)
    stream.read(np.array([0]), tokens)
    return [document[1:-1] for document in np.split(tokens[0], stream.starts[1:])]


@pytest.mark.parametrize("length", [5, 40, 137, 1000])
def test_text_is_read_end_to_end(prepared, length):
    """Windows longer and shorter than documents: together they are the text, in order, once."""
    cut = chunk_layout("text", TokenStream(prepared, "train"), length, length, prepared.pad)
    whole = np.concatenate(documents_of(prepared, "train"))
    n = cut.count(whole=False)
    assert cut.count(whole=True) == len(whole) // length
    read = cut.cut(np.arange(n + 2))
    assert np.array_equal(read.tokens[read.segments == 0], whole)
    assert (read.tokens[read.segments == -1] == prepared.pad).all()
    inside = read.segments == 0
    assert (inside[:, 1:] <= inside[:, :-1]).all()
    owners = np.repeat(np.arange(prepared.train.documents), [len(d) for d in documents_of(prepared, "train")])
    assert np.array_equal(cut.document(np.arange(n)), owners[np.arange(n) * length])


@pytest.mark.parametrize("length", [5, 40, 1000])
def test_pieces_are_of_one_document_each(prepared, length):
    cut = chunk_layout("pieces", TokenStream(prepared, "train"), length, length, prepared.pad)
    read = cut.cut(np.arange(cut.count(whole=True) + 1))
    row = 0
    for number, document in enumerate(documents_of(prepared, "train")):
        for begin in range(0, len(document), length):
            piece = document[begin : begin + length]
            assert read.tokens[row][read.segments[row] == 0].tolist() == piece.tolist()
            assert cut.document(np.array([row])) == number
            row += 1
    assert row == len(read.tokens) - 1 and (read.segments[row] == -1).all()


def test_documents_keep_their_edges_and_predict_every_token_once(config, prepared):
    padded = config.model_copy(update={"data": config.data.model_copy(update={"packing": "padded"})})
    for split in ("train", "held_out"):
        samples = Samples(prepared, padded, split)
        batch = samples.batch(0, len(samples))
        predicted = np.sort(batch["targets"][batch["targets"] != -100])
        expected = [
            *np.concatenate(documents_of(prepared, split)).tolist(),
            *[prepared.eos] * getattr(prepared, split).documents,
        ]
        assert predicted.tolist() == sorted(expected)
        assert (batch["segments"] <= 0).all()


def test_samples_longer_than_any_document(config, prepared):
    data = config.data.model_copy(update={"packing": "padded", "sequence_length": 100_000})
    with pytest.raises(
        UserError, match=r"longest document has \d+ tokens.*=100000 would be padded.*data.packing=packed"
    ):
        Samples(prepared, config.model_copy(update={"data": data}), "train")


def encoder(config: Config, **objective: object) -> Config:
    changed = Config.model_validate({**config.model_dump(), "objective": objective})
    return changed.model_copy(update={"model": changed.model.model_copy(update={"family": "encoder"})})


def test_next_sentences_come_from_other_documents(config, prepared):
    samples = Samples(prepared, encoder(config, name="masked_lm", question="nsp", masks="static"), "train")
    window = samples.window(0, 3 * len(samples))
    assert window.other_document.all() and window.partner is not None
    own, other = (samples.sample_range(0).chunker.parts[0].chunks.document(w.place) for w in (window, window.partner))
    assert (own != other).all()
    labels = samples.batch(0, 3 * len(samples))["sentence_label"]
    assert labels.mean() == pytest.approx(0.5, abs=4 * 0.5 / np.sqrt(len(labels)))


def test_a_sample_of_any_objective_does_not_depend_on_its_batch(config, prepared):
    samples = Samples(prepared, encoder(config, name="masked_lm", question="nsp"), "train")
    together = samples.batch(3, 40)
    for number in (3, 17, 39):
        for name, array in samples.batch(number, number + 1).items():
            assert np.array_equal(array[0], together[name][number - 3])


def test_static_masks_return_with_their_copy(config, prepared):
    samples = Samples(prepared, encoder(config, name="masked_lm", masks="static", copies=2), "train")
    n = len(samples)
    masks = []
    for epoch in range(4):
        window = samples.window(epoch * n, (epoch + 1) * n)
        order = np.argsort(window.place[np.searchsorted(window.owner, np.arange(n))])  # by each sample's first piece
        masks.append(samples.batch(epoch * n, (epoch + 1) * n)["targets"][order])
    assert np.array_equal(masks[0], masks[2]) and np.array_equal(masks[1], masks[3])
    assert not np.array_equal(masks[0], masks[1])


def test_memory_overlaps_so_that_every_token_is_a_candidate_once(config, prepared):
    given = config.model_dump() | {"objective": {"name": "permuted_lm", "memory": 10}}
    given["model"] |= {"family": "encoder", "two_stream": True}
    given["data"] |= {"boundaries": False}
    samples = Samples(prepared, Config.model_validate(given), "train")
    window = samples.window(0, len(samples))
    rows = window.tokens[np.argsort(window.place)]
    assert np.array_equal(rows[1:, :10], rows[:-1, -10:])  # what the sample before ends with
    whole = np.concatenate(documents_of(prepared, "train"))
    assert np.array_equal(rows[:, 10:].ravel(), whole[10 : 10 + rows[:, 10:].size])


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"objective": {"name": "permuted_lm", "memory": 30}}, "30 of 32 tokens leaves nothing to predict"),
        ({"data": {"packing": "padded"}}, "only data.packing=packed has"),
    ],
)
def test_memory_that_cannot_be(config, changed, message):
    given = config.model_dump() | {"objective": {"name": "permuted_lm", "memory": 10}}
    given["model"] |= {"family": "encoder", "two_stream": True}
    for name, keys in changed.items():
        given[name] |= keys
    with pytest.raises(ValidationError, match=message):
        Config.model_validate(given)
