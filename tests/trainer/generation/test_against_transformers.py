"""Token for token what transformers generates, greedily and by beam search, from the same weights."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("transformers")

from tiny import DECODERS, ENCODER_DECODERS, converted, tiny

from trainer.generation.decoding import GREEDY, Decoding
from trainer.generation.reader import Reader
from trainer.generation.search import search, write

NEW, EOS, START = 14, 2, 2
NO_END = {"eos_token_id": None, "forced_eos_token_id": None, "min_new_tokens": NEW}


def prompts(padded: bool):
    """Three rows of six tokens, one of them with two of padding on the left if `padded`; its attention mask."""
    tokens = torch.randint(6, 96, (3, 6), generator=torch.Generator().manual_seed(4))
    mask = torch.ones_like(tokens)
    if padded:
        mask[1, :2] = 0
    return tokens.masked_fill(mask == 0, 0), mask


def reader_of(name: str, tokens, mask, **settings):
    """Our reader, and the prompt that it shall read first."""
    segments = None if bool(mask.all()) else mask - 1
    if name in DECODERS:
        return Reader(converted(name), 96, 64, **settings), tokens, segments
    reader = Reader(converted(name), 96, 64, source=tokens, source_segments=segments, **settings)
    return reader, torch.full((len(tokens), 1), START), None


def theirs(name: str, tokens, mask, **settings):
    """What transformers appends to each row, up to its end."""
    settings |= {"max_new_tokens": NEW, "do_sample": False, "pad_token_id": 0, "attention_mask": mask}
    if name in ENCODER_DECODERS:
        settings["decoder_start_token_id"] = START
    found = tiny(name).generate(tokens, **settings)[:, tokens.shape[1] if name in DECODERS else 1 :].tolist()
    return [row[: row.index(EOS)] if EOS in row and settings.get("eos_token_id") else row for row in found]


def written(steps, rows: int):
    columns = list(steps)
    return [[step[row] for step in columns if step[row] is not None] for row in range(rows)]


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("name", [*DECODERS, *ENCODER_DECODERS])
def test_greedy(name, padded):
    tokens, mask = prompts(padded)
    reader, prompt, segments = reader_of(name, tokens, mask)
    got = written(write(reader, prompt, segments, Decoding(tokens=NEW, temperature=0), ()), len(tokens))
    assert got == theirs(name, tokens, mask, num_beams=1, **NO_END)


@pytest.mark.parametrize("name", [*DECODERS, *ENCODER_DECODERS])
def test_beams(name):
    """With and without an end that a beam may reach before the others; longer and shorter ones preferred."""
    tokens, mask = prompts(False)
    for beams, penalty in ((3, 1.0), (4, 0.3)):
        reader, prompt, segments = reader_of(name, tokens, mask)
        decoding = Decoding(tokens=NEW, beams=beams, length_penalty=penalty)
        want = theirs(
            name, tokens, mask, num_beams=beams, length_penalty=penalty, eos_token_id=EOS, forced_eos_token_id=None
        )
        assert search(reader, prompt, segments, decoding, {EOS}) == want


def test_beams_that_end_early():
    """The end is made likely, so that beams end at different lengths."""
    name, tokens = "t5v1.1", prompts(False)[0]
    ends = set()
    for token in range(8, 96, 8):
        reader, prompt, _ = reader_of(name, tokens, torch.ones_like(tokens))
        got = search(reader, prompt, None, Decoding(tokens=NEW, beams=3, length_penalty=0.5), {token})
        settings = {"max_new_tokens": NEW, "num_beams": 3, "length_penalty": 0.5, "eos_token_id": token}
        rows = tiny(name).generate(tokens, pad_token_id=0, decoder_start_token_id=START, **settings)[:, 1:].tolist()
        want = [row[: row.index(token)] if token in row else row for row in rows]
        assert [row[:NEW] for row in got] == [row[: len(mine)] for row, mine in zip(want, got, strict=True)], token
        ends |= {len(row) for row in got}
    assert len(ends) > 2


@pytest.mark.parametrize("name", ["llama", "t5"])
def test_repetition_penalty(name):
    tokens, mask = prompts(False)
    for penalty in (1.3, 0.8):
        reader, prompt, _ = reader_of(name, tokens, mask)
        decoding = Decoding(tokens=NEW, temperature=0, repetition_penalty=penalty)
        want = theirs(name, tokens, mask, num_beams=1, repetition_penalty=penalty, **NO_END)
        assert written(write(reader, prompt, None, decoding, ()), len(tokens)) == want


@pytest.mark.parametrize(("top_k", "top_p"), [(5, None), (0, 0.7), (20, 0.5), (0, 0.01)])
def test_what_may_be_drawn(top_k, top_p):
    """The same logits survive top-k and top-p as in transformers."""
    from transformers import TopKLogitsWarper, TopPLogitsWarper

    logits = torch.randn(4, 96, generator=torch.Generator().manual_seed(0)) * 3
    want = TopKLogitsWarper(top_k)(None, logits) if top_k else logits
    want = TopPLogitsWarper(top_p)(None, want) if top_p else want
    assert torch.equal(Decoding(top_k=top_k, top_p=top_p).filtered(logits), want)


def test_greedy_is_temperature_zero():
    assert GREEDY.temperature == 0
