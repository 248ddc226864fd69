"""Held-out passages for models without a likelihood: sums over one hidden token, or one span, by hand."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from trainer.cli.main import main
from trainer.compose import change
from trainer.data import prepare
from trainer.evaluate.passages import PASSAGES, TOKENS, held_out_passages, score_passages
from trainer.generation.loaded_model import Trained
from trainer.run_folder import RunFolder


@pytest.fixture
def words(corpus, cache, small_tokenizer):
    """Overrides: a small corpus in the tokens of the untrained runs."""
    data = ["data=text", f"data.path={corpus}", "data.held_out=0.3", "data.sequence_length=64"]
    return [*data, f"run.cache={cache}", f"tokenizer.path={small_tokenizer}"]


def both(run, words):
    return Trained.load(run), prepare(change(RunFolder(run).load_config(), words))


def test_passages_are_beginnings_of_held_out_documents(untrained, words, corpus):
    trained, prepared = both(untrained("masked_lm"), words)
    [passages] = held_out_passages(trained, prepared).values()
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
    for passage in held_out_passages(trained, prepared)["text"]:
        whole = [bos, *passage, eos]
        places = range(1, len(whole) - 1)
        rows = [[mask if at == place else token for at, token in enumerate(whole)] for place in places]
        logits = trained.model.logits(torch.tensor(rows))[..., :800].double().log_softmax(-1)
        total += sum(float(logits[at, at + 1, token]) for at, token in enumerate(passage))
        tokens, size = tokens + len(passage), size + len(trained.tokenizer.decode(passage).encode())
    found = score_passages(trained, prepared).to_json()
    assert found["measure"] == "pseudo-log-likelihood" and (found["tokens"], found["bytes"]) == (tokens, size)
    assert found["nats_per_token"] == pytest.approx(total / tokens, abs=1e-5)
    assert found["nats_per_byte"] == pytest.approx(total / size, abs=1e-5)


@torch.no_grad()
def test_an_encoder_decoder_is_asked_for_the_last_quarter(untrained, words):
    trained, prepared = both(untrained("span_corruption"), words)
    gap, bos, eos = (trained.special(name) for name in ("<extra_id_0>", "<s>", "</s>"))
    total = tokens = size = 0.0
    for passage in held_out_passages(trained, prepared)["text"]:
        head, tail = passage[:45], passage[45:]
        logits = trained.model.logits(
            torch.tensor([[bos, gap, *tail[:-1]]]), source_tokens=torch.tensor([[*head, gap, eos]])
        )
        scores = logits[0, 1:, :800].double().log_softmax(-1)
        total += sum(float(scores[at, token]) for at, token in enumerate(tail))
        tokens += len(tail)
        size += len(trained.tokenizer.decode(passage).encode()) - len(trained.tokenizer.decode(head).encode())
    found = score_passages(trained, prepared).to_json()
    assert found["measure"] == "span score" and (found["tokens"], found["bytes"]) == (tokens, size)
    assert found["nats_per_token"] == pytest.approx(total / tokens, abs=1e-5)
    assert found["nats_per_byte"] == pytest.approx(total / size, abs=1e-5)


@pytest.mark.parametrize(
    ("objective", "named"),
    [("masked_lm", "pseudo-log-likelihood: "), ("bart", "span score: "), ("mass", ""), ("prefix_lm", "")],
)
def test_the_verb_names_what_it_shows(objective, named, untrained, words, capsys):
    run = str(untrained(objective))
    assert main(["eval", run, *words]) == 0
    out, err = capsys.readouterr()
    assert [line for line in err.splitlines() if "done" in line][-1].startswith(named or "held-out loss: ")
    assert named in out and "bits/byte" not in out and ("nats per byte" in out) == bool(named)
    assert main(["eval", run, *words, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["bits_per_byte"] is None and (result["passages"] is not None) == bool(named)


@pytest.fixture
def mixture(tmp_path, corpus):
    """Overrides: two languages in three sources, of which one has documents that are too short for a passage."""
    words = []
    for number, (name, language, size) in enumerate((("one", "de", None), ("two", "de", None), ("tiny", "fr", 3))):
        (tmp_path / name).mkdir()
        for file in sorted(corpus.iterdir())[number * 20 : number * 20 + 20]:
            (tmp_path / name / file.name).write_text(file.read_text()[:size])
        words += [f"+data.sources.{name}.path={tmp_path / name}", f"+data.sources.{name}.language={language}"]
    return ["data=mixture", *words, "data.held_out=0.3", "data.sequence_length=64"]


def test_sources_and_languages_add_up(untrained, mixture, cache, small_tokenizer, capsys):
    run = untrained("masked_lm")
    words = [*mixture, f"run.cache={cache}", f"tokenizer.path={small_tokenizer}"]
    assert main(["eval", str(run), *words, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    found = result["passages"]
    assert set(result["sources"]) == {"one", "two", "tiny"}
    assert set(found["sources"]) == {"one", "two"} and found["languages"].keys() == {"de"}
    for part in ("sources", "languages"):
        for name in ("passages", "tokens", "bytes"):
            assert sum(one[name] for one in found[part].values()) == found[name]
        nats = sum(one["tokens"] * one["nats_per_token"] for one in found[part].values())
        assert nats == pytest.approx(found["tokens"] * found["nats_per_token"], rel=1e-9)
    capsys.readouterr()
    assert main(["eval", str(run), *words]) == 0
    lines = {line.split()[1]: line for line in capsys.readouterr().out.splitlines() if "source " in line}
    assert lines.keys() == {"one", "two", "tiny"}
    assert [name for name, line in lines.items() if "nats per byte of" in line] == ["one", "two"]


def test_each_source_in_its_language(untrained, mixture, cache, tmp_path):
    """An mBART is asked as it was trained: the last quarter behind the rest, in the language of the source."""
    run = untrained("mbart", languages=("de", "fr"))
    words = [*mixture, f"run.cache={cache}", f"tokenizer.path={run / 'tokenizer.model'}"]
    config = change(RunFolder(run).load_config(), words)
    trained = replace(Trained.load(run), config=config)
    prepared = prepare(config)
    found = score_passages(trained, prepared)
    source = "one"
    gap, eos, de = (trained.special(name) for name in ("<mask>", "</s>", "<de>"))
    total = 0.0
    for passage in held_out_passages(trained, prepared)[source]:
        cut = len(passage) - len(passage) // 4
        head, tail = passage[:cut], passage[cut:]
        with torch.no_grad():
            read = torch.tensor([[*head, gap, eos, de]])
            logits = trained.model.logits(torch.tensor([[de, *head, *tail[:-1]]]), source_tokens=read)
        scores = logits[0, cut:, : trained.tokenizer.vocabulary].double().log_softmax(-1)
        total += sum(float(scores[at, token]) for at, token in enumerate(tail))
    assert found.sources[source].nats == pytest.approx(total, rel=1e-5)
