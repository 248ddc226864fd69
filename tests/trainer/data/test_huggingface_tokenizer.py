"""Tokenizers of Hugging Face, small ones of the three published kinds, trained here by their own library."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from trainer.config import Config
from trainer.data import Samples, Tokenizer, prepare
from trainer.hub.tokenizer import write_tokenizer
from trainer.tokenizer_files import ids, tokenizer_file
from trainer.utils.errors import UserError

tokenizers = pytest.importorskip("tokenizers")

TEXT = [f"def function_{k}(self, value): return value + {k * 37}  # größer als 漢字\n" for k in range(400)]
ODD = ["", " ", "\n\n\t x", "naïve 漢字 \x00 \U0001f600", "<|endoftext|> and </s> and [SEP] spelled out"]


def byte_level(path: Path) -> Path:
    """As GPT-2's: byte-level BPE, one special token."""
    made = tokenizers.Tokenizer(tokenizers.models.BPE())
    made.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator(TEXT, trainer)
    made.enable_truncation(8)
    made.save(str(path))
    return path


def word_piece(path: Path) -> Path:
    """As BERT's: WordPiece over lower-cased words."""
    made = tokenizers.Tokenizer(tokenizers.models.WordPiece(unk_token="[UNK]"))
    made.normalizer = tokenizers.normalizers.BertNormalizer()
    made.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    made.decoder = tokenizers.decoders.WordPiece()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    trainer = tokenizers.trainers.WordPieceTrainer(vocab_size=400, special_tokens=special, show_progress=False)
    made.train_from_iterator(TEXT, trainer)
    made.save(str(path))
    return path


def unigram(path: Path) -> Path:
    """As T5's: Unigram whose special tokens lie among the pieces, and sentinels."""
    made = tokenizers.Tokenizer(tokenizers.models.Unigram())
    made.pre_tokenizer = tokenizers.pre_tokenizers.Metaspace()
    made.decoder = tokenizers.decoders.Metaspace()
    special = ["<pad>", "</s>", "<unk>", *(f"<extra_id_{k}>" for k in range(50))]
    trainer = tokenizers.trainers.UnigramTrainer(
        vocab_size=300, special_tokens=special, unk_token="<unk>", show_progress=False
    )
    made.train_from_iterator(TEXT, trainer)
    made.save(str(path))
    return path


@pytest.fixture(params=[byte_level, word_piece, unigram])
def file(request, tmp_path) -> Path:
    return request.param(tmp_path / "tokenizer.json")


def test_ids_are_those_of_the_library_and_specials_never_come_out_of_text(file):
    ours, theirs = Tokenizer(file), tokenizers.Tokenizer.from_file(str(file))
    theirs.no_truncation()
    assert ours.vocabulary == theirs.get_vocab_size() == ids(file)
    marks = {id for piece, id in ours.specials.items() if piece not in ("<unk>", "[UNK]")}
    for text in [*TEXT[:20], *ODD]:
        assert marks.isdisjoint(ours.encode(text)), text
    for text in [*TEXT[:20], *ODD[:-1]]:
        assert ours.encode(text) == theirs.encode(text, add_special_tokens=False).ids
        assert ours.decode(ours.encode(text)) == theirs.decode(ours.encode(text))
    assert ours.decode([ours.specials["<s>"], *ours.encode("return value"), ours.specials["</s>"]]).strip() == (
        "return value"
    )


def test_byte_level_text_comes_back_exactly(tmp_path):
    ours = Tokenizer(byte_level(tmp_path / "tokenizer.json"))
    for text in [*TEXT[:20], *ODD]:
        assert ours.decode(ours.encode(text)) == text


@pytest.mark.parametrize("make", [byte_level, word_piece])
def test_objectives_know_where_words_begin(make, tmp_path):
    ours = Tokenizer(make(tmp_path / "tokenizer.json"))
    ids = np.array([ours.encode("return value return value")])
    starts = ours.table().word_starts(ids)
    assert starts.sum() == 4 and starts[0, 0]


def test_roles_by_their_published_names(tmp_path):
    bert = Tokenizer(word_piece(tmp_path / "tokenizer.json"))
    assert [bert.piece(bert.specials[name]) for name in ("<pad>", "<s>", "</s>", "<mask>", "<cls>", "<sep>")] == (
        ["[PAD]", "[CLS]", "[SEP]", "[MASK]", "[CLS]", "[SEP]"]
    )
    gpt = Tokenizer(byte_level(tmp_path / "tokenizer.json"))
    assert set(gpt.specials.values()) == {0} and "<mask>" not in gpt.specials


@pytest.mark.parametrize(
    ("make", "family", "name"),
    [(byte_level, "decoder", "causal"), (word_piece, "encoder", "masked_lm"), (unigram, "encoder_decoder", "ul2")],
)
def test_a_corpus_is_prepared_with_it(folder, tmp_path, make_config, make, family, name):
    make(tmp_path / "tokenizer.json")
    groups = {"tokenizer": {"path": str(tmp_path)}, "model": {"family": family, "vocabulary": 640}}
    config: Config = make_config(folder, tmp_path / "cache", objective={"name": name}, **groups)
    prepared = prepare(config)
    reopened = Tokenizer(prepared.tokenizer_file)
    assert reopened.sha256 == Tokenizer(tmp_path / "tokenizer.json").sha256
    assert prepared.vocabulary == reopened.vocabulary
    if name == "ul2":  # its modes are tokens that T5's tokenizer does not have
        with pytest.raises(UserError, match="the tokenizer has no <NL"):
            Samples(prepared, config, "train")
    else:
        batch = Samples(prepared, config, "train").batch(0, 4)
        assert batch["tokens"].max() < prepared.vocabulary and (batch["targets"] >= 0).any()


def test_it_leaves_as_it_came(file, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    write_tokenizer(out, file)
    transformers = pytest.importorskip("transformers")
    theirs, ours = transformers.AutoTokenizer.from_pretrained(out), Tokenizer(file)
    assert theirs.eos_token_id == ours.specials["</s>"] and len(theirs) == ours.vocabulary
    for text in TEXT[:20]:
        assert theirs.encode(text, add_special_tokens=False) == ours.encode(text)


def test_files_that_are_none(tmp_path):
    with pytest.raises(UserError, match="holds none of"):
        tokenizer_file(tmp_path)
    (tmp_path / "torn.json").write_text('{"version": "1.0", "model"')
    with pytest.raises(UserError, match=r"is no tokenizer[.]json of Hugging Face: "):
        Tokenizer(tmp_path / "torn.json")
    described = json.loads(byte_level(tmp_path / "tokenizer.json").read_text())
    described["added_tokens"] = []
    del described["model"]["vocab"]["<|endoftext|>"]
    (tmp_path / "endless.json").write_text(json.dumps(described))
    with pytest.raises(UserError, match="no token that ends a document"):
        Tokenizer(tmp_path / "endless.json")


def bytes_and(path: Path, specials: list[tuple[str, int]], more: dict[str, int]) -> Tokenizer:
    """256 byte pieces, other pieces, and special tokens of these ids."""
    alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    made = tokenizers.Tokenizer(tokenizers.models.BPE({piece: k for k, piece in enumerate(alphabet)}, []))
    made.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = tokenizers.decoders.ByteLevel()
    described = json.loads(made.to_str())
    described["model"]["vocab"] |= more
    how = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    described["added_tokens"] = [{"id": k, "content": name, **how, "special": True} for name, k in specials]
    path.write_text(json.dumps(described))
    return Tokenizer(path)


def test_a_special_token_of_one_character_and_one_of_none(tmp_path):
    """The character that a byte piece stands for is text: nothing else could be written for it."""
    alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    dollar = alphabet.index("$")
    specials = [("$", dollar), ("", 300), ("<|endoftext|>", 256)]
    made = bytes_and(tmp_path / "tokenizer.json", specials, {"<|endoftext|>": 256})
    assert made.decode(made.encode("it is $5 <|endoftext|>")) == "it is $5 <|endoftext|>"
    assert dollar in made.encode("$5") and 256 not in made.encode("<|endoftext|>" * 3)


def test_an_ordinary_piece_named_like_a_special_one_ends_nothing(tmp_path):
    specials = [("<|begin_of_text|>", 259), ("<|end_of_text|>", 260)]
    more = {"<s>": 257, "</s>": 258, "<|begin_of_text|>": 259, "<|end_of_text|>": 260, "</": 256}
    made = bytes_and(tmp_path / "tokenizer.json", specials, more)
    assert (made.specials["<s>"], made.specials["</s>"]) == (259, 260)


def test_any_number_of_special_tokens_spelled_in_text(tmp_path):
    """Also where the pieces of text hold them: each is text, whatever stands around it."""
    made = Tokenizer(unigram(tmp_path / "tokenizer.json"))
    special = set(made.specials.values()) - {made.specials["<unk>"]}
    once, often = made.encode("value </s>"), made.encode("value </s> " * 5000)
    assert not special & set(often) and often[: len(once)] == once and len(often) == 5000 * len(once) + 1


def test_a_long_document_has_one_space_before_it(tmp_path):
    """Parts in which a file is read leave no trace in the tokens."""
    file = unigram(tmp_path / "tokenizer.json")
    text = TEXT[0] * 20_000  # more than a part
    (tmp_path / "text").mkdir()
    for name in ("long", "short"):
        (tmp_path / "text" / f"{name}.txt").write_text(text if name == "long" else TEXT[1])
    config = Config.model_validate(
        {
            "data": {"name": "text", "path": str(tmp_path / "text"), "held_out": 0.01},
            "tokenizer": {"path": str(file)},
            "run": {"cache": str(tmp_path / "cache")},
        }
    )
    prepared, made = prepare(config), Tokenizer(file)
    sizes = sum(prepared.manifest["splits"][split]["info"]["tokens"] for split in ("train", "held_out"))
    assert len(text) > 1 << 20 and sizes == len(made.encode(text)) + len(made.encode(TEXT[1])) + 4
