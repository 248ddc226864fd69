from __future__ import annotations

import numpy as np
import pytest

from trainer.descriptions.objectives.span_corruption import UL2_DENOISERS, Denoiser
from trainer.objectives import Texts
from trainer.objectives.examples import in_rows
from trainer.objectives.spans import random_spans
from trainer.utils.errors import UserError


def spans_of(rows, length):
    """int64 [rows, spans, 2]: the text before each span and the span itself, as T5 corrupts texts of one length."""
    lengths, index = np.full(rows, length), np.arange(rows)
    hidden, spans = Denoiser(0.15, 3).counts(length)
    texts = Texts(np.zeros(rows * length, np.int64), lengths, index, index, index * 0, 0)
    begin, end = random_spans(texts, np.full(rows, hidden), np.full(rows, spans))
    assert (begin // length == np.arange(rows).repeat(spans)).all()  # each in its own text
    edges = np.stack([begin, end], axis=1).reshape(rows, -1) - length * index[:, None]
    assert (edges[:, -1] == length).all()  # a span ends the text
    return np.diff(edges, axis=1, prepend=0).reshape(rows, spans, 2)


@pytest.mark.parametrize(
    ("inputs", "raw", "targets"),
    [(128, 141, 29), (256, 284, 58), (512, 568, 114), (1024, 1137, 229), (2048, 2274, 456)],
)
def test_lengths_of_t5(inputs, raw, targets):
    """Raffel et al. 2020: random_spans_helper's table for 15% and mean span 3."""
    denoiser = Denoiser(0.15, 3)
    assert denoiser.text_length(inputs) == raw and denoiser.target_length(raw) == targets
    assert denoiser.source_length(raw) <= inputs < denoiser.source_length(raw + 1)


@pytest.mark.parametrize(
    ("rate", "span", "raw", "targets"),
    [
        (0.15, 3, 568, 114),
        (0.15, 8, 588, 100),
        (0.5, 3, 766, 512),
        (0.5, 8, 908, 512),
        (0.15, 64, 600, 92),
        (0.5, 64, 1006, 512),
    ],
)
def test_lengths_of_ul2(rate, span, raw, targets):
    denoiser = Denoiser(rate, span)
    assert denoiser.text_length(512) == raw and denoiser.target_length(raw) == targets


def test_the_number_of_hidden_tokens_is_a_constant_of_the_length():
    sizes = spans_of(200, 568)
    assert sizes.shape == (200, 28, 2) and (sizes > 0).all()
    assert (sizes.sum(axis=1) == [568 - 85, 85]).all()


def test_span_lengths_follow_the_law_of_random_segmentation():
    """A uniform composition of 85 into 28: P(length = k) = C(84 - k, 26) / C(84, 27); variance 5.8, P(1) = .32."""
    from math import comb

    lengths = spans_of(4000, 568)[..., 1].ravel()
    assert lengths.mean() == pytest.approx(85 / 28) and lengths.var() == pytest.approx(5.8, abs=0.2)
    for k in range(1, 8):
        p = comb(84 - k, 26) / comb(84, 27)
        assert (lengths == k).mean() == pytest.approx(p, abs=4 * np.sqrt(p / len(lengths)))


def restore(source, targets, sentinels):
    """The text, put together from what the encoder reads and the decoder writes."""
    spans, current = {}, None
    for token in targets:
        if token in sentinels:
            current = spans[token] = []
        else:
            current.append(token)
    return [token for given in source for token in (spans.get(given, [given]))]


@pytest.mark.parametrize(
    "keys", [{"name": "span_corruption"}, {"name": "span_corruption", "rate": 0.5, "mean_span": 8.0}, {"name": "ul2"}]
)
@pytest.mark.parametrize("packing", ["packed", "padded"])
def test_the_text_can_be_put_together_again(make, window, text, specials, keys, packing):
    objective = make(96, packing=packing, **keys)
    tokens = text(60, objective.length)
    lengths = (
        np.random.default_rng(0).integers(0, objective.length + 1, 60)
        if packing == "padded"
        else np.full(60, objective.length)
    )
    batch = objective.apply(window(tokens, lengths))
    sentinels = {token for name, token in specials.items() if name.startswith("<extra_id_")}
    modes = {specials[name] for name in ("<NLU>", "<NLG>", "<S2S>")}
    seen = set()
    for row, length in enumerate(lengths.tolist()):
        source = batch["source_tokens"][row][batch["source_segments"][row] == 0].tolist()
        targets = batch["targets"][row][batch["targets"][row] != -100].tolist()
        if not length:
            assert source == targets == []
            continue
        assert source[-1] == targets[-1] == specials["</s>"]
        if keys["name"] == "ul2":
            seen.add(source[0])
            assert source.pop(0) in modes
        assert restore(source[:-1], targets[:-1], sentinels) == tokens[row, :length].tolist()
        reads = batch["tokens"][row][batch["segments"][row] == 0].tolist()
        assert reads == [specials["<s>"], *targets[:-1]]
    assert seen == (modes if keys["name"] == "ul2" else set())


def test_the_worked_example_of_t5(make, window, specials, monkeypatch):
    """x0..x7, hidden {3, 4, 7}: x0 x1 x2 <0> x5 x6 <1> </s>, targets <0> x3 x4 <1> x7 </s>."""
    spans = np.array([3, 7]), np.array([5, 8])
    monkeypatch.setattr("trainer.objectives.spans.random_spans", lambda *given: spans)
    objective = make(16, name="span_corruption", rate=0.375, mean_span=1.5)
    x, index = 500 + np.arange(8), np.array([0])
    batch = in_rows(objective.examples(Texts(x, np.array([8]), index, index, index, 0)), index, specials["<pad>"])
    one, two, end = specials["<extra_id_0>"], specials["<extra_id_1>"], specials["</s>"]
    assert batch["source_tokens"][0, :8].tolist() == [x[0], x[1], x[2], one, x[5], x[6], two, end]
    assert batch["targets"][0, :6].tolist() == [one, x[3], x[4], two, x[7], end]


@pytest.mark.parametrize(
    ("length", "counts"), [(0, (0, 0)), (1, (0, 0)), (2, (1, 1)), (3, (1, 1)), (5, (1, 1)), (10, (2, 1)), (30, (4, 1))]
)
def test_counts_at_the_edges(length, counts):
    """round(4.5) is 4: halves go to the even number."""
    assert Denoiser(0.15, 3).counts(length) == counts


def test_ul2_takes_every_denoiser_equally_often(make, window, text):
    objective = make(96, name="ul2")
    batch = objective.apply(window(text(7000, objective.length)))
    mode, counts = np.unique(batch["source_tokens"][:, 0], return_counts=True)
    assert len(mode) == 3
    for count, share in zip(counts, (2 / 7, 4 / 7, 1 / 7), strict=True):
        assert count / 7000 == pytest.approx(share, abs=3 * np.sqrt(share * (1 - share) / 7000))
    assert len(UL2_DENOISERS) == 7


def test_more_spans_than_sentinels(make):
    """T5 at 2048 needs 114 of them, and has 100 by default; the vocabulary of this test has 150."""
    assert make(2048, name="span_corruption").target_width == 456
    with pytest.raises(
        UserError, match=r"needs 227 sentinels, the tokenizer has 150; train one with tokenizer.sentinels=227 or lower"
    ):
        make(4096, name="span_corruption")
