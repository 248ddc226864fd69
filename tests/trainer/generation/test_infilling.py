"""Filling undoes what the objectives do: with the targets of training as the model's answer, the text comes back."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from trainer.data import Tokenizer
from trainer.errors import UserError
from trainer.generation import Decoding, fill_texts
from trainer.objectives import noise
from trainer.objectives.causal import FillInTheMiddle
from trainer.objectives.spans import Denoiser, SpanCorruption
from trainer.trained import Trained

TEXT = "def area(width, height):\n    return width * height  # of a rectangle, in square metres\n"
GREEDY = Decoding(temperature=0)


def fake(monkeypatch, answer):
    """What the model reads is recorded, and `answer` is what it writes."""
    read = []
    monkeypatch.setattr(
        "trainer.generation.infilling.generate", lambda trained, rows, decoding: read.append(rows[0]) or [answer]
    )
    return read


@pytest.mark.parametrize("objective", ["span_corruption", "ul2"])
def test_sentinels(objective, untrained, small_tokenizer, monkeypatch):
    tokenizer = Tokenizer(small_tokenizer)
    ids = np.array([tokenizer.encode(TEXT)])
    mode = "<NLU>" if objective == "ul2" else None
    corruption = SpanCorruption(objective, 64, tokenizer.table(), (Denoiser(0.3, 3, mode),), layout="text")
    trained = Trained.load(untrained(objective))
    for index in range(12):
        source, target = corruption.corrupt(ids, partial(noise.rows, 0, "noise", np.array([index])), 0)
        # The prompt: each run of text decoded by itself, so the pieces between the sentinels must survive that.
        pieces, run = [], []
        for token in source[0].tolist():
            if token in corruption.sentinels:
                pieces, run = [*pieces, tokenizer.decode(run)], []
            elif token not in (tokenizer.specials["</s>"], tokenizer.specials["<NLU>"]):
                run.append(token)
        prompt = "<mask>".join([*pieces, tokenizer.decode(run)])
        read = fake(monkeypatch, target[0, :-1].tolist())
        [filled] = fill_texts(trained, [prompt], GREEDY)
        assert filled.text == TEXT
        assert [t for t in read[0] if t in tokenizer.specials.values()] == [
            t for t in source[0].tolist() if t in tokenizer.specials.values()
        ]


def test_the_middle(untrained, small_tokenizer, monkeypatch):
    tokenizer = Tokenizer(small_tokenizer)
    objective = FillInTheMiddle(64, tokenizer.table(), rate=1.0, spm_rate=0.0)
    read = fake(monkeypatch, tokenizer.encode("width * height"))
    prompt = TEXT.replace("width * height", "<mask>")
    [filled] = fill_texts(Trained.load(untrained("fim")), [prompt], GREEDY)
    assert filled.text == TEXT
    special = [token for token in read[0] if token in tokenizer.specials.values()]
    order = objective.rearrange(np.arange(1000, 1012), 0.9, 0.3, 0.6)
    assert special == [tokenizer.specials["<s>"], *(token for token in order.tolist() if token < 1000)]


def test_the_whole_text_anew(untrained, small_tokenizer, monkeypatch):
    tokenizer = Tokenizer(small_tokenizer)
    read = fake(monkeypatch, tokenizer.encode(TEXT))
    [filled] = fill_texts(Trained.load(untrained("bart")), [TEXT.replace("width", "<mask>")], GREEDY)
    assert filled.text == TEXT
    assert read[0][0] == tokenizer.specials["<s>"] and read[0][-1] == tokenizer.specials["</s>"]
    assert read[0].count(tokenizer.specials["<mask>"]) == 2


def test_an_encoder_fills_the_surest_place_first(untrained, monkeypatch):
    import torch

    trained = Trained.load(untrained("masked_lm"))
    seen = []

    def predictions(trained, tokens, hidden):
        seen.append(list(hidden))
        logits = torch.zeros(len(hidden), 832)
        for row, place in enumerate(hidden):
            logits[row, 500 + place] = float(place)  # the later, the surer
        return logits

    monkeypatch.setattr("trainer.generation.infilling.predictions", predictions)
    [filled] = fill_texts(trained, ["<mask> and <mask>"], GREEDY)
    assert [len(places) for places in seen] == [2, 1] and seen[1] == seen[0][:1] and filled.tokens == 2


def test_an_encoder_fills_with_tokens_of_text(untrained):
    trained = Trained.load(untrained("masked_lm"))
    [filled] = fill_texts(trained, ["def <mask>(self):<mask>"], GREEDY)
    assert filled.text.startswith("def ") and "(self):" in filled.text and len(filled.text) > len("def (self):")
    assert fill_texts(trained, ["def <mask>(self):<mask>"], GREEDY) == [filled]


@pytest.mark.parametrize(
    ("objective", "prompt", "decoding", "message"),
    [
        ("causal", "a <mask>", GREEDY, "objective=causal trains no filling of <mask>"),
        ("masked_lm", "nothing to fill", GREEDY, "'nothing to fill': has no <mask> to be filled"),
        ("masked_lm", "a <mask>", Decoding(beams=3), "beams=3: an encoder fills one <mask> after the other"),
        ("masked_lm", "a <mask>" * 40, GREEDY, "reads 64 at most"),
        ("fim", "a <mask> b <mask>", GREEDY, "a decoder fills one <mask> of a prompt, 2 given"),
    ],
)
def test_bad_input(objective, prompt, decoding, message, untrained):
    with pytest.raises(UserError) as error:
        fill_texts(Trained.load(untrained(objective)), [prompt], decoding)
    assert message in str(error.value) and "\n" not in str(error.value)
