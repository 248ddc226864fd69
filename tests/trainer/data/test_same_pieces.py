"""Pieces of two tokenizers that stand for the same text."""

from __future__ import annotations

from pathlib import Path

import pytest

from trainer.config import TokenizerConfig
from trainer.data import Tokenizer
from trainer.data.same_pieces import NONE, same_pieces
from trainer.data.tokenizer import train

tokenizers = pytest.importorskip("tokenizers")

LINES = [
    "read the class of the import and the other",
    "def self return not in",
    "une éa 中文 123",
    "the theory reads Theirs",
] * 60


def byte_level(file: Path) -> Tokenizer:
    made = tokenizers.Tokenizer(tokenizers.models.BPE())
    made.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = tokenizers.decoders.ByteLevel()
    keys = {"special_tokens": ["<|endoftext|>"], "initial_alphabet": tokenizers.pre_tokenizers.ByteLevel.alphabet()}
    made.train_from_iterator(LINES, tokenizers.trainers.BpeTrainer(vocab_size=320, show_progress=False, **keys))
    made.save(str(file))
    return Tokenizer(file)


def words(file: Path) -> Tokenizer:
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    made = tokenizers.Tokenizer(tokenizers.models.WordPiece(unk_token="[UNK]"))
    made.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    made.decoder = tokenizers.decoders.WordPiece()
    trainer = tokenizers.trainers.WordPieceTrainer(vocab_size=120, special_tokens=special, show_progress=False)
    made.train_from_iterator(LINES, trainer)
    made.save(str(file))
    return Tokenizer(file)


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> dict[str, Tokenizer]:
    folder = tmp_path_factory.mktemp("tokenizers")
    (folder / "spaces").write_bytes(train(LINES, TokenizerConfig(vocabulary=440)))
    return {
        "spaces": Tokenizer(folder / "spaces"),
        "bytes": byte_level(folder / "bytes.json"),
        "words": words(folder / "words.json"),
    }


KINDS = ("spaces", "bytes", "words")


@pytest.mark.parametrize("kind", KINDS)
def test_a_tokenizer_is_the_same_as_itself(made, kind):
    one = made[kind]
    assert same_pieces(one, one) == list(range(one.vocabulary))


@pytest.mark.parametrize(("old", "new"), [("spaces", "bytes"), ("bytes", "spaces")])
def test_what_is_the_same_decodes_to_the_same(made, old, new):
    """Whole texts: where every token has a counterpart, theirs decode to the same text."""
    theirs, ours = made[old], made[new]
    found = same_pieces(theirs, ours)
    for text in ("the class", "une \u00e9a 123", "\u4e2d\u6587 theory\n", "~ \U0001f600"):
        ids = [found[token] for token in ours.encode(text)]
        if new == "bytes":
            known = [token for token, same in zip(ours.encode(text), ids, strict=True) if same != NONE]
            assert theirs.decode(found[token] for token in known) == ours.decode(known)
        elif NONE not in ids:
            assert theirs.decode(ids) == text
    assert sum(same != NONE for same in found) > 256


def test_known_pairs(made):
    spaces, by_bytes, by_words = (made[kind] for kind in KINDS)
    found = same_pieces(by_bytes, spaces)
    for ours, theirs in (("\u2581the", "\u0120the"), ("\n", "\u010a"), ("a", "a"), ("<0xE9>", "\u00e9")):
        assert found[spaces.id_of(ours)] == by_bytes.id_of(theirs), ours
    assert found[spaces.specials["<mask>"]] == NONE
    found = same_pieces(by_words, spaces)
    for ours, theirs in (("\u2581the", "the"), ("e", "##e")):
        assert found[spaces.id_of(ours)] == by_words.id_of(theirs), ours
    roles = {"<pad>": "[PAD]", "<mask>": "[MASK]", "<sep>": "[SEP]", "</s>": "[SEP]", "<s>": "[CLS]"}
    for ours, theirs in roles.items():
        assert found[spaces.specials[ours]] == by_words.id_of(theirs)
