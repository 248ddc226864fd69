"""Scores against sums over the logits, one token at a time, and against each other."""

from __future__ import annotations

import math

import pytest
import torch

from trainer.evaluate.scoring import encode_pair, rolling, score
from trainer.generation.loaded_model import Trained
from trainer.generation.text import encoder_input
from trainer.utils.errors import UserError

PAIRS = [("def area(width):\n    return", " width * 2"), ("import os, ", "sys"), ("", "class Shape:"), ("x = ", "1")]


@pytest.mark.parametrize("objective", ["causal", "masked_lm", "span_corruption", "bart"])
def test_a_batch_is_its_pairs_one_by_one(objective, untrained):
    trained = Trained.load(untrained(objective))
    together = score(trained, PAIRS)
    for pair, one in zip(PAIRS, together, strict=True):
        [alone] = score(trained, [pair])
        assert one.nats == pytest.approx(alone.nats, abs=1e-4) and one.tokens == alone.tokens and one.nats < 0


@torch.no_grad()
def test_likelihood_is_the_chain_rule(untrained):
    trained = Trained.load(untrained())
    for (context, continuation), one in zip(PAIRS, score(trained, PAIRS), strict=True):
        ids = [1, *trained.tokenizer.encode(context + continuation)]
        head, tail = encode_pair(trained, context, continuation)
        assert ids == [1, *head, *tail]
        total = 0.0
        for place in range(1 + len(head), len(ids)):
            logits = trained.model.logits(torch.tensor([ids[:place]]))[0, -1, :800].double()
            total += float(logits.log_softmax(-1)[ids[place]])
        assert one.nats == pytest.approx(total, abs=1e-4)


def test_probabilities_of_all_next_tokens_sum_to_one(untrained):
    trained = Trained.load(untrained())
    from trainer.evaluate.scoring import score_tokens

    scores = [
        found.nats
        for first in range(0, 800, 100)
        for found in score_tokens(trained, [([1, 300, 301], [token]) for token in range(first, first + 100)])
    ]
    assert sum(map(math.exp, scores)) == pytest.approx(1, abs=1e-4)


@torch.no_grad()
def test_pseudo_likelihood_hides_one_token_at_a_time(untrained):
    trained = Trained.load(untrained("masked_lm"))
    mask = trained.special("<mask>")
    for (context, continuation), one in zip(PAIRS, score(trained, PAIRS), strict=True):
        head, tail = encode_pair(trained, context, continuation)
        whole = encoder_input(trained, [*head, *tail])
        total = 0.0
        for place in range(1 + len(head), 1 + len(head) + len(tail)):
            hidden = [mask if at == place else token for at, token in enumerate(whole)]
            logits = trained.model.logits(torch.tensor([hidden]))[0, place, :800].double()
            total += float(logits.log_softmax(-1)[whole[place]])
        assert one.nats == pytest.approx(total, abs=1e-4)


@pytest.mark.parametrize("objective", ["span_corruption", "bart"])
@torch.no_grad()
def test_a_span_is_scored_as_the_objective_has_it(objective, untrained):
    """T5: `text <extra_id_0>` in, `<extra_id_0> span` out. BART: `text <mask>` in, `text span` out."""
    trained = Trained.load(untrained(objective))
    bos, eos = trained.special("<s>"), trained.special("</s>")
    for (context, continuation), one in zip(PAIRS, score(trained, PAIRS), strict=True):
        head, tail = encode_pair(trained, context, continuation)
        if objective == "bart":
            source, written = [bos, *head, trained.special("<mask>"), eos], [bos, *head]
        else:
            gap = trained.special("<extra_id_0>")
            source, written = [*head, gap, eos], [bos, gap]
        total, read = 0.0, torch.tensor([source])
        for token in tail:
            logits = trained.model.logits(torch.tensor([written]), source_tokens=read)[0, -1, :800].double()
            total += float(logits.log_softmax(-1)[token])
            written.append(token)
        assert one.nats == pytest.approx(total, abs=1e-4)


def test_rolling_predicts_every_token_once(untrained):
    trained = Trained.load(untrained())
    short = "x = 1\ny = 2\n"
    [one] = score(trained, [("", short)])
    assert rolling(trained, short).nats == pytest.approx(one.nats, abs=1e-4)
    long = "".join(f"value_{number} = {number}\n" for number in range(60))
    found = rolling(trained, long)
    assert found.tokens == len(trained.tokenizer.encode(long)) > 3 * 64
    assert found.nats < 0 and math.isfinite(found.nats)


@pytest.mark.parametrize("objective", ["causal", "masked_lm", "span_corruption", "bart"])
def test_a_long_context_is_cut_on_the_left_and_counted(objective, untrained):
    trained = Trained.load(untrained(objective))
    [one] = score(trained, [("x = 1\n" * 100 + "y", " = 2")])
    [other] = score(trained, [("z = 3\n" * 40 + "x = 1\n" * 60 + "y", " = 2")])
    assert one.dropped > 100 and math.isfinite(one.nats)
    assert one.nats == pytest.approx(other.nats, abs=1e-4)  # what differs was cut off


@pytest.mark.parametrize(
    ("objective", "pair", "message"),
    [
        ("causal", ("def ", ""), "an answer of zero tokens: "),
        ("causal", ("def ", "x = 1\n" * 100), "and the model reads 64 at most"),
        ("masked_lm", ("def ", "x = 1\n" * 100), "and the model reads 62 at most"),
        ("mass", ("def ", "f"), "objective=mass trains no filling of a gap"),
    ],
)
def test_bad_input(objective, pair, message, untrained):
    with pytest.raises(UserError) as error:
        score(Trained.load(untrained(objective)), [pair])
    assert message in str(error.value) and "\n" not in str(error.value)


def test_only_decoders_have_a_likelihood_of_a_text(untrained):
    with pytest.raises(UserError, match="only decoders have a likelihood of a text"):
        rolling(Trained.load(untrained("masked_lm")), "text")
