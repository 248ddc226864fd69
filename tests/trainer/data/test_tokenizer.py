from __future__ import annotations

import io
from pathlib import Path

import pytest
import sentencepiece
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.config import TokenizerConfig
from trainer.data import Prepared, Samples, Tokenizer, prepare
from trainer.data.tokenizer import SPECIALS, train
from trainer.utils.errors import UserError

TEXT = [
    "def f(x):\n\treturn x + 1  # one more\n\ndef former(first, second):\n    return first or second\n" * 3,
    "Ein Satz mit Umlauten: schön, größer, 漢字. Noch ein schöner Satz, und ein größerer.\n" * 3,
]


@pytest.fixture(scope="module", params=["bpe", "unigram"])
def tokenizer(request, tmp_path_factory) -> Tokenizer:
    file = tmp_path_factory.mktemp("tokenizer") / "tokenizer.model"
    file.write_bytes(train(TEXT, TokenizerConfig(name=request.param, vocabulary=330, sentinels=10)))
    return Tokenizer(file)


SPELLED = [
    "<s>",
    "</s>",
    "<pad>",
    "<unk>",
    "<mask>",
    "<extra_id_3>",
    "<0x0A>",
    "▁",
    "▁▁ ",
    "  ",
    "\n\n",
    "\t",
    "\r\n",
    "\x00",
    "⁇",
    "漢",
]


@settings(max_examples=150, deadline=None)
@given(text=st.lists(st.one_of(st.text(max_size=8), st.sampled_from(SPELLED)), max_size=8).map("".join))
def test_text_comes_back_exactly_and_spells_no_special_token(tokenizer, text):
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert not set(ids) & set(tokenizer.specials.values())


def test_ids_are_fixed(tokenizer):
    names = (*SPECIALS, *(f"<extra_id_{k}>" for k in range(10)))
    assert tokenizer.specials == {name: number for number, name in enumerate(names)}
    assert tokenizer.encode("\n\t") == [len(names), len(names) + 1]
    assert tokenizer.vocabulary == 330


def test_special_tokens_have_no_text(tokenizer):
    assert tokenizer.decode([1, *tokenizer.encode("a b"), 4, 20, 2]) == "a b"


@pytest.mark.parametrize("kind", ["bpe", "unigram"])
def test_training_is_a_function_of_the_text(kind):
    config = TokenizerConfig(name=kind, vocabulary=330, sentinels=10)
    assert train(TEXT, config) == train(iter(TEXT), config)


def test_threads_do_not_change_the_ids(tokenizer):
    texts = [*TEXT, "▁", "", "x" * 5000] * 5
    assert tokenizer.encode_all(texts, threads=3) == [tokenizer.encode(text) for text in texts]


def test_the_largest_possible_vocabulary_is_named():
    with pytest.raises(UserError, match=r"5000 is more than this text supports; the largest possible is \d+") as caught:
        train(TEXT, TokenizerConfig(vocabulary=5000, sentinels=10))
    most = int(str(caught.value).rsplit(maxsplit=1)[1])
    assert train(TEXT, TokenizerConfig(vocabulary=most, sentinels=10))


def test_a_vocabulary_below_the_fixed_pieces():
    with pytest.raises(UserError, match="leaves no room beside 381 fixed pieces"):
        train(TEXT, TokenizerConfig(vocabulary=300, sentinels=110))


def test_a_vocabulary_below_the_characters():
    with pytest.raises(UserError, match="the smallest possible is") as caught:
        train(TEXT, TokenizerConfig(vocabulary=300, sentinels=20))
    least = int(str(caught.value).rsplit(maxsplit=1)[1])
    assert train(TEXT, TokenizerConfig(vocabulary=least, sentinels=20))


@pytest.mark.parametrize("error", [KeyboardInterrupt(), UserError("data: cannot read it")])
def test_what_the_texts_raise_is_not_taken_for_a_refusal(error):
    def texts():
        yield "some text\n" * 100
        raise error

    with pytest.raises(type(error)) as caught:
        train(texts(), TokenizerConfig())
    assert caught.value is error


def test_no_text():
    with pytest.raises(UserError, match="no text to train it on"):
        train([], TokenizerConfig())


def test_files_that_are_no_tokenizer(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        Tokenizer(tmp_path / "none.model")
    with pytest.raises(UserError, match="a folder given, a file wanted"):
        Tokenizer(tmp_path)
    (tmp_path / "text.model").write_text("not a model")
    with pytest.raises(UserError, match="neither a sentencepiece model nor"):
        Tokenizer(tmp_path / "text.model")


def foreign(path: Path, **keys) -> Path:
    """A sentencepiece model as others train them: no byte pieces, nothing fixed."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXT[0].split("\n")),
        model_writer=model,
        vocab_size=70,
        model_type="bpe",
        minloglevel=3,
        **keys,
    )
    path.write_bytes(model.getvalue())
    return path


def test_foreign_models(tmp_path: Path):
    llama = Tokenizer(foreign(tmp_path / "llama.model"))  # <unk> <s> </s>
    assert {name: llama.specials[name] for name in ("<unk>", "<s>", "</s>", "<pad>")} == dict(
        zip(("<unk>", "<s>", "</s>", "<pad>"), (0, 1, 2, 0), strict=True)
    )
    t5 = Tokenizer(foreign(tmp_path / "t5.model", pad_id=0, eos_id=1, unk_id=2, bos_id=-1))
    assert t5.specials["<s>"] == t5.specials["</s>"] == 1 and t5.specials["<pad>"] == 0
    assert t5.decode(t5.encode("return x ▁")).startswith("return x")
    with pytest.raises(UserError, match=r"has no </s>, which every document ends with"):
        Tokenizer(foreign(tmp_path / "none.model", eos_id=-1))


def test_a_foreign_model_prepares_a_corpus(folder, tmp_path, make_config):
    file = foreign(tmp_path / "llama.model")
    config = make_config(folder, tmp_path, tokenizer={"path": str(file), "vocabulary": 300})
    prepared = prepare(config)
    assert prepared.vocabulary == 70 and prepared.train.documents > 100
    batch = Samples(prepared, config, "train").batch(0, 50)
    assert batch["tokens"].max() < 70 and (batch["targets"] >= 0).any()


def test_the_prepared_folder_carries_its_tokenizer(prepared: Prepared):
    assert Tokenizer(prepared.tokenizer_file).vocabulary == prepared.vocabulary == 480
