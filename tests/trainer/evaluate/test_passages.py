"""Held-out passages for models without a likelihood: sums over one hidden token, or one span, by hand."""

from __future__ import annotations

import json

import pytest
import torch

from trainer.cli import main
from trainer.compose import change
from trainer.data import prepare
from trainer.evaluate.passages import PASSAGES, TOKENS, held_out_passages, score_passages
from trainer.folder import RunFolder
from trainer.trained import Trained


@pytest.fixture
def words(corpus, cache, small_tokenizer):
    """Overrides: a small corpus in the tokens of the untrained runs."""
    data = ["data=text", f"data.path={corpus}", "data.held_out=0.3", "data.sequence_length=64"]
    return [*data, f"run.cache={cache}", f"tokenizer.path={small_tokenizer}"]


def both(run, words):
    return Trained.load(run), prepare(change(RunFolder(run).load_config(), words))


def test_passages_are_beginnings_of_held_out_documents(untrained, words, corpus):
    trained, prepared = both(untrained("masked_lm"), words)
    passages = held_out_passages(trained, prepared)
    assert 1 < len(passages) == min(PASSAGES, prepared.held_out.documents)
    documents = [file.read_text() for file in corpus.iterdir()]
    for passage in passages:
        assert len(passage) == min(TOKENS, trained.config.max_length - 4)
        assert sum(text.startswith(trained.tokenizer.decode(passage)) for text in documents) == 1


@torch.no_grad()
def test_an_encoder_is_asked_for_one_token_at_a_time(untrained, words):
    trained, prepared = both(untrained("masked_lm"), words)
    bos, eos, mask = (trained.special(name) for name in ("<s>", "</s>", "<mask>"))
    total = tokens = size = 0.0
    for passage in held_out_passages(trained, prepared):
        whole = [bos, *passage, eos]
        places = range(1, len(whole) - 1)
        rows = [[mask if at == place else token for at, token in enumerate(whole)] for place in places]
        logits = trained.model.logits(torch.tensor(rows))[..., :800].double().log_softmax(-1)
        total += sum(float(logits[at, at + 1, token]) for at, token in enumerate(passage))
        tokens, size = tokens + len(passage), size + len(trained.tokenizer.decode(passage).encode())
    found = score_passages(trained, prepared)
    assert found.measure == "pseudo-log-likelihood" and (found.tokens, found.bytes) == (tokens, size)
    assert found.nats_per_token == pytest.approx(total / tokens, abs=1e-5)
    assert found.nats_per_byte == pytest.approx(total / size, abs=1e-5)


@torch.no_grad()
def test_an_encoder_decoder_is_asked_for_the_last_quarter(untrained, words):
    trained, prepared = both(untrained("span_corruption"), words)
    gap, bos, eos = (trained.special(name) for name in ("<extra_id_0>", "<s>", "</s>"))
    total = tokens = size = 0.0
    for passage in held_out_passages(trained, prepared):
        head, tail = passage[:45], passage[45:]
        logits = trained.model.decode(
            trained.model.encode(torch.tensor([[*head, gap, eos]])), torch.tensor([[bos, gap, *tail[:-1]]])
        )
        scores = logits[0, 1:, :800].double().log_softmax(-1)
        total += sum(float(scores[at, token]) for at, token in enumerate(tail))
        tokens += len(tail)
        size += len(trained.tokenizer.decode(passage).encode()) - len(trained.tokenizer.decode(head).encode())
    found = score_passages(trained, prepared)
    assert found.measure == "span score" and (found.tokens, found.bytes) == (tokens, size)
    assert found.nats_per_token == pytest.approx(total / tokens, abs=1e-5)
    assert found.nats_per_byte == pytest.approx(total / size, abs=1e-5)


@pytest.mark.parametrize(
    ("objective", "named"),
    [("masked_lm", "pseudo-log-likelihood of "), ("bart", "span score of "), ("mass", ""), ("prefix_lm", "")],
)
def test_the_verb_names_what_it_shows(objective, named, untrained, words, capsys):
    run = str(untrained(objective))
    assert main(["eval", run, *words]) == 0
    out = capsys.readouterr().out
    assert named in out and "bits/byte" not in out and ("nats per byte" in out) == bool(named)
    assert main(["eval", run, *words, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["bits_per_byte"] is None and (result["passages"] is not None) == bool(named)
