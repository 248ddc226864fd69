"""What a tokenizer cannot spell is counted, and said beside every number that it moves."""

from __future__ import annotations

import io

import pytest
import sentencepiece

from trainer.data import prepare, said_unknown, unknown_share
from trainer.data.card import card, format_card


@pytest.fixture
def without_bytes(tmp_path, text):
    """A tokenizer that knows the letters of the corpus's words alone."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(
            ["mo del re ads ev ry to ken of this cor pus once and then ag ain end 0 1 2 3 4 5"] * 50
        ),
        model_writer=model,
        model_type="char",
        vocab_size=30,
        hard_vocab_limit=False,
        minloglevel=3,
    )
    file = tmp_path / "small.model"
    file.write_bytes(model.getvalue())
    return file


def test_the_share_of_unk_is_in_the_card(folder, without_bytes, tmp_path, make_config):
    config = make_config(folder, tmp_path / "cache", tokenizer={"path": str(without_bytes)})
    prepared = prepare(config)
    read = sentencepiece.SentencePieceProcessor(model_file=str(without_bytes))
    ids = [read.encode(path.read_bytes().decode()) for path in sorted(folder.iterdir())]
    unknown, tokens = sum(one.count(read.unk_id()) for one in ids), sum(len(one) + 2 for one in ids)
    sizes = {"train": prepared.train.tokens, "held_out": prepared.held_out.tokens}
    assert unknown and sum(sizes.values()) == tokens
    assert sum(unknown_share(prepared, split) * size for split, size in sizes.items()) == pytest.approx(unknown)
    found = card(config, prepared)
    share = found["tokenizer"]["unknown_share"]["held_out"]
    assert share > 0.001 and f"{share:.4%} of held_out" in format_card(found)
    assert f"{share:.2%} of held-out tokens are <unk>" in said_unknown(share, "held-out")


def test_a_lossless_tokenizer_hides_nothing(prepared):
    assert unknown_share(prepared, "held_out") == 0
    assert said_unknown(0.0009, "held-out") is None and said_unknown(None, "held-out") is None
