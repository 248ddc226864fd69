from __future__ import annotations

import json
from pathlib import Path

import pytest

from trainer.books.run_length import run_steps
from trainer.cli.main import main
from trainer.config import Config
from trainer.data import Tokenizer, prepare
from trainer.data.summary import card, format_card, format_show, format_tokenizer, show, tokenizer
from trainer.utils.errors import UserError


def test_show_tells_what_a_step_reads(config, prepared):
    shown = show(config, 7, samples=3)
    size = config.optim.batch_size
    assert shown["reads"] == [7 * size, 8 * size] and [s["sample"] for s in shown["samples"]] == [
        7 * size + k for k in range(3)
    ]
    from trainer.data import Samples

    batch = Samples(prepared, config, "train").batch(7 * size, 7 * size + 3)
    tokenizer = Tokenizer(prepared.tokenizer_file)
    for row, sample in enumerate(shown["samples"]):
        plain = sample["text"].replace("[[<s>]]", "").replace("[[</s>]]", "")
        assert plain == tokenizer.decode(batch["tokens"][row])
        assert sample["targets"] == (batch["targets"][row] != -100).sum()
    said = format_show(shown)
    assert f"step 7 reads samples {7 * size} to {8 * size - 1}" in said and shown["samples"][2]["text"] in said
    json.dumps(shown)


@pytest.mark.parametrize(
    ("family", "keys", "marks"),
    [
        ("encoder", {"name": "masked_lm", "rate": 0.5}, ["[[<mask> -> ", "[[kept: "]),
        ("encoder", {"name": "masked_lm", "question": "sop"}, ["[[<mask> -> ", "[[</s>]]"]),
        ("encoder", {"name": "permuted_lm", "rate": 0.3}, ["[[1: ", "[[2: "]),
        ("encoder_decoder", {"name": "span_corruption", "rate": 0.5}, ["[[<extra_id_0>]]", "[[<extra_id_1>]]"]),
        ("encoder_decoder", {"name": "bart", "noises": ("text_infilling",), "rate": 0.5}, ["[[<mask>]]"]),
        ("decoder", {"name": "prefix_lm"}, [">>"]),
    ],
)
def test_noise_is_marked(config, family, keys, marks):
    changed = Config.model_validate({**config.model_dump(), "objective": keys})
    changed = changed.model_copy(update={"model": changed.model.model_copy(update={"family": family})})
    said = format_show(show(changed, 0, samples=8))
    assert all(mark in said for mark in marks)


def test_a_step_that_the_run_does_not_have(config):
    for step in (-1, run_steps(config) + config.anomalies.limit):
        with pytest.raises(
            UserError, match=f"step: {step} is not a step of this run; it has steps 0 to {run_steps(config) - 1}"
        ):
            show(config, step)


def test_card(config, prepared, folder):
    found = card(config)
    assert found["fingerprint"] == prepared.fingerprint
    assert sum(b["documents"] for b in found["document_lengths"]) == 200
    source = found["sources"][0]
    assert source["train"]["tokens"] == prepared.train.tokens and source["share_of_tokens"] == 1.0
    assert source["files"] == 200 and source["licence"] is None
    assert {"language of text", "licence of text", "consent"} <= set(found["not_stated"])
    markdown, saved = format_card(found), Path(prepared.report["card"])
    assert f"## Not stated ({len(found['not_stated'])})" in markdown and prepared.fingerprint in markdown
    assert json.loads(saved.with_suffix(".json").read_text())["sources"] == json.loads(json.dumps(found["sources"]))
    assert saved.read_text() == markdown


def test_length_histogram_against_a_count(config, prepared):
    import numpy as np

    from trainer.data.shards import TokenStream

    lengths = [
        n
        for split in ("train", "held_out")
        for s in [TokenStream(prepared, split)]
        for n in np.diff(s.starts, append=len(s))
    ]
    for b in card(config)["document_lengths"]:
        assert b["documents"] == sum(b["from_tokens"] <= n <= b["to_tokens"] for n in lengths)


def test_card_of_a_mixture(tmp_path, text, make_config):
    for name in ("de", "fr"):
        (tmp_path / name).mkdir()
        for number in range(40):
            (tmp_path / name / f"{number}.txt").write_text(text(number + 100 * (name == "fr")))
    data = {
        "name": "mixture",
        "path": (),
        "sources": {
            "de": {"path": str(tmp_path / "de"), "language": "de", "licence": "CC0-1.0", "weight": 1.0},
            "fr": {"path": str(tmp_path / "fr"), "language": "fr", "weight": 2.0},
        },
    }
    config = make_config("", tmp_path / "cache", data=data)
    found = card(config)
    assert [(s["name"], s["language"], s["licence"], s["weight"]) for s in found["sources"]] == [
        ("de", "de", "CC0-1.0", 1.0),
        ("fr", "fr", None, 2.0),
    ]
    assert "licence of fr" in found["not_stated"] and "licence of de" not in found["not_stated"]
    assert sum(s["train"]["tokens"] for s in found["sources"]) == prepare(config).train.tokens
    assert show(config, 0)["mixture"].keys() == {"de", "fr"}


def test_tokenizer_of_a_config(config, prepared, tmp_path, monkeypatch):
    monkeypatch.setattr("trainer.data.preparation.encode", None)
    facts = tokenizer(config, tmp_path / "mine.model")
    assert facts["vocabulary"] == 480 and facts["lossless"] and facts["specials"]["<extra_id_99>"] == 112
    assert Tokenizer(tmp_path / "mine.model").sha256 == facts["sha256"] == Tokenizer(prepared.tokenizer_file).sha256
    assert "and 100 sentinels" in format_tokenizer(facts)
    with pytest.raises(UserError, match="out: there is no folder"):
        tokenizer(config, tmp_path / "none" / "mine.model")
    with pytest.raises(UserError, match="is a folder; name a file"):
        tokenizer(config, tmp_path)


def test_symbols_of_your_own(folder, tmp_path, make_config):
    config = make_config(folder, tmp_path, tokenizer={"sentinels": 5, "symbols": ("<de>", "<user>")})
    file = tokenizer(config)["file"]
    opened = Tokenizer(Path(file))
    assert opened.specials["<de>"] == 18 and opened.specials["<user>"] == 19  # behind 13 built in and 5 sentinels
    assert not set(opened.encode("<de> <user>")) & {18, 19}
    for symbols in (("<s>",), ("<a>", "<a>"), ("",), ("<extra_id_2>",)):
        with pytest.raises(UserError, match="is empty, given twice or built in"):
            tokenizer(make_config(folder, tmp_path, tokenizer={"symbols": symbols}))


def test_a_misspelt_word_after_data(capsys):
    assert main(["data", "shw", "step=3"]) == 2
    assert capsys.readouterr().err == "isoflop: data: shw: there is show, card, verify, clean (did you mean 'show'?)\n"
