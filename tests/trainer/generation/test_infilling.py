"""Filling undoes what the objectives do: with the targets of training as the model's answer, the text comes back."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from trainer.data import Tokenizer
from trainer.descriptions.objectives.span_corruption import Denoiser
from trainer.generation import Decoding, fill_texts
from trainer.generation.loaded_model import Trained
from trainer.generation.text import reader_of
from trainer.objectives.bart import MultilingualDenoising
from trainer.objectives.base import Texts, Window
from trainer.objectives.causal import FillInTheMiddle
from trainer.objectives.examples import in_rows
from trainer.objectives.masking import Masking
from trainer.objectives.mass import MaskedSequence
from trainer.objectives.spans import SpanCorruption
from trainer.utils.errors import UserError

TEXT = "def area(width, height):\n    return width * height  # of a rectangle, in square metres\n"
SENTENCE = "a dog sees the old cat\n"
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
    ids = np.array(tokenizer.encode(TEXT))
    mode = "<NLU>" if objective == "ul2" else None
    corruption = SpanCorruption(objective, 64, tokenizer.table(), (Denoiser(0.3, 3, mode),), layout="text")
    trained = Trained.load(untrained(objective))
    for index in range(12):
        number = np.array([index])
        batch = in_rows(
            corruption.examples(Texts(ids, np.array([len(ids)]), number, number, number, 0)), np.array([0]), 0
        )
        source = batch["source_tokens"][batch["source_segments"] == 0]
        target = batch["targets"][batch["segments"] == 0]
        # The prompt: each run of text decoded by itself, so the pieces between the sentinels must survive that.
        pieces, run = [], []
        for token in source.tolist():
            if token in corruption.sentinels:
                pieces, run = [*pieces, tokenizer.decode(run)], []
            elif token not in (tokenizer.specials["</s>"], tokenizer.specials["<NLU>"]):
                run.append(token)
        prompt = "<mask>".join([*pieces, tokenizer.decode(run)])
        read = fake(monkeypatch, target[:-1].tolist())
        [filled] = fill_texts(trained, [prompt], GREEDY)
        assert filled.text == TEXT
        assert [t for t in read[0] if t in tokenizer.specials.values()] == [
            t for t in source.tolist() if t in tokenizer.specials.values()
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
    trained = Trained.load(untrained("masked_lm"))
    seen = []

    def predictions(trained, tokens, hidden):
        seen.append(hidden[0].nonzero()[:, 0].tolist())
        logits = torch.zeros(len(seen[-1]), 832)
        for row, place in enumerate(seen[-1]):
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
        ("masked_lm", "a <mask>", Decoding(beams=3), "beams=3: run fills one <mask> after the other"),
        ("mass", "a <mask>", Decoding(beams=3), "beams=3: run fills one <mask> after the other"),
        ("mass", "a <mask>" * 40, GREEDY, "reads 64 at most"),
        ("masked_lm", "a <mask>" * 40, GREEDY, "reads 64 at most"),
        ("fim", "a <mask> b <mask>", GREEDY, "a decoder fills one <mask> of a prompt, 2 given"),
    ],
)
def test_bad_input(objective, prompt, decoding, message, untrained):
    with pytest.raises(UserError) as error:
        fill_texts(Trained.load(untrained(objective)), [prompt], decoding)
    assert message in str(error.value) and "\n" not in str(error.value)


MASKS_ONLY = {"rate": 0.5, "unit": "token", "longest": 1, "mask_share": 1.0, "random_share": 0.0, "at_least_one": False}


def test_mass_reads_what_it_was_trained_to_read(untrained, small_tokenizer):
    """With the hidden tokens as its answers the decoder has read the batch of training."""
    tokenizer = Tokenizer(small_tokenizer)
    ids = np.array([tokenizer.encode(TEXT)])
    table = tokenizer.table()
    objective = MaskedSequence(64, table, Masking("mass", table, **MASKS_ONLY), layout="text", rate=0.5)
    zeros = np.zeros_like(ids)
    batch = objective.apply(Window(ids, zeros, zeros, np.array([0]), np.array([0]), np.array([0]), 0))
    source = batch["source_tokens"][0][batch["source_segments"][0] >= 0].tolist()
    mask = tokenizer.specials["<mask>"]
    pieces = "".join("<mask>" if token == mask else tokenizer.decode([token]) for token in source[1:-1])
    assert "<mask><mask>" in pieces
    trained = Trained.load(untrained("mass"))
    hidden = batch["targets"][0][batch["targets"][0] >= 0].tolist()
    read = []

    def decode(source, tokens, positions, cache):
        read.append((int(tokens), int(positions)))
        return torch.nn.functional.one_hot(torch.tensor([[hidden[len(read) - 1]]]), 832).float()

    trained.model.backbone.decode, trained.model.head.logits = decode, lambda scores: scores
    [filled] = fill_texts(trained, [pieces], GREEDY)
    assert filled.text == TEXT and filled.tokens == len(hidden)
    count = len(hidden)
    assert read == list(zip(batch["tokens"][0][:count].tolist(), batch["positions"][0][:count].tolist(), strict=True))


@torch.no_grad()
def test_mass_fills_each_mask_with_its_likeliest_token(untrained):
    trained = Trained.load(untrained("mass"))
    prompt = "def <mask><mask>(self):\n    return <mask>\n"
    parts = [trained.tokenizer.encode(part) for part in prompt.split("<mask>")]
    mask, bos, eos = (trained.special(name) for name in ("<mask>", "<s>", "</s>"))
    special = sorted(set(trained.tokenizer.specials.values()))
    source = [bos, *parts[0], mask, *parts[1], mask, *parts[2], mask, *parts[3], eos]
    whole = list(source)
    places = [place for place, token in enumerate(source) if token == mask]
    for count in range(1, len(places) + 1):  # all that was written is read anew
        tokens = torch.tensor([[whole[place - 1] for place in places[:count]]])
        positions = torch.tensor([places[:count]]) - 1
        logits = trained.model.logits(tokens, positions, source_tokens=torch.tensor([source]))[0, -1, :800]
        logits[special] = float("-inf")
        whole[places[count - 1]] = int(logits.argmax())
    [filled] = fill_texts(trained, [prompt], GREEDY)
    assert filled.text == trained.tokenizer.decode(whole)


def test_many_languages(untrained, monkeypatch):
    """mBART reads the text as in training, and begins to write with the language."""
    run = untrained("mbart", languages=("de", "fr"))
    trained = Trained.load(run)
    table = trained.tokenizer.table()
    ids = np.array([trained.tokenizer.encode(SENTENCE)])
    noise = {"noises": (), "rate": 0.3, "mean_span": 3.0, "random_share": 0.0, "whole_words": False}
    zeros, fr = np.zeros_like(ids), trained.special("<fr>")
    window = Window(ids, zeros, zeros, *(np.array([0]) for _ in range(3)), 0, language=np.array([fr]))
    batch = MultilingualDenoising(64, table, layout="text", **noise).apply(window)
    source = batch["source_tokens"][0][batch["source_segments"][0] >= 0].tolist()

    read = fake(monkeypatch, ids[0].tolist())
    [filled] = fill_texts(trained.for_language("fr"), [SENTENCE.replace("old", "<mask>")], GREEDY)
    assert filled.text == SENTENCE and read[0][-2:] == source[-2:] and read[0][0] == source[0]
    _, begin, _ = reader_of(trained.for_language("fr"), [source])
    assert begin.tolist() == batch["tokens"][:, :1].tolist() == [[fr]]
