"""Sentencepiece models that change text before they cut it, against what AutoTokenizer makes of their export."""

from __future__ import annotations

import io
import unicodedata

import pytest

pytest.importorskip("tokenizers")
pytest.importorskip("transformers")

import sentencepiece
import transformers
from strings import strings
from test_tokenizer_folder import lines

from trainer.hub.normalization import MULTIPLE, table_entries
from trainer.hub.tokenizer import write_tokenizer
from trainer.utils.errors import UserError

# Full width, ligatures, marks, jamo, white space of all kinds, what the rules drop, ends of a text.
HARD = [
    *("ｆｕｌｌ　ｗｉｄｔｈ，１２３！", "ﬁne ﬂow ½ ² ™ ① ㎏ Ⅳ ℡", "カ゛ｶﾞ ﾊﾟ か\u3099", "각 \u1100\u1161\u11a8"),
    *("\u0301 a\u0323\u0301 ª\u0300 À\u0301 Ⅰ\u0301", " \t\u00a0\u2003\u3000 a \u200b\u200d\ufeff b\u3000"),
    *("a\r\nb\rc\x00d\x07e", "İSTANBUL ẞ ŒUVRE ΣΑΣ", "▁", "▁▁ a ▁", "a▁", "क्षि ไทย"),
    *("👩\u200d👩\u200d👧 ✌🏽 🇩🇪", "\ufe0f", "\u200b", "\x07", "\x07a"),
    *(unicodedata.normalize("NFD", text) for text in ("Việt Nam", "Ångström", "été — ñandú", "Ελλάδα ή", "ガギグ")),
]
KINDS = {
    "nmt_nfkc": {},
    "nfkc, bpe": {"normalization_rule_name": "nfkc", "model_type": "bpe", "byte_fallback": True},
    "spaces kept": {"remove_extra_whitespaces": False},
    "no prefix": {"add_dummy_prefix": False, "byte_fallback": True},
    "suffix": {"treat_whitespace_as_suffix": True},
    "folded": {"normalization_rule_name": "nmt_nfkc_cf"},
    "identity": {"normalization_rule_name": "identity", "model_type": "bpe"},
    "symbols": {"user_defined_symbols": ["import", "<sep>", "数"], "control_symbols": ["<cls>"]},
}
RULES = "0041\t0061\n0031 0032\t0033\n00E4\t0061 0065\n"  # A -> a, 12 -> 3, ä -> ae


def made(file, **how):
    model = io.BytesIO()
    keys = {"vocab_size": 400, "model_type": "unigram", "minloglevel": 3, "pad_id": 3, "hard_vocab_limit": False} | how
    sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter(lines()), model_writer=model, **keys)
    file.write_bytes(model.getvalue())
    return sentencepiece.SentencePieceProcessor(model_file=str(file))


@pytest.mark.parametrize("kind", KINDS)
def test_ids_and_text_are_those_of_sentencepiece(kind, tmp_path):
    """Unigram may cut equally likely: its libraries break such ties differently."""
    own = made(tmp_path / "tokenizer.model", **KINDS[kind])
    write_tokenizer(tmp_path, tmp_path / "tokenizer.model")
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    ties = 0
    for text in [*strings(), *HARD]:
        wanted = own.encode(text)
        found = theirs(text, add_special_tokens=False, split_special_tokens=True).input_ids
        if found != wanted and "bpe" not in KINDS[kind].values():
            scores = [sum(map(own.get_score, ids)) for ids in (found, wanted)]
            ties += abs(scores[0] - scores[1]) < 1e-3 and own.decode(found) == own.decode(wanted)
        else:
            assert found == wanted, text
        if own.unk_id() not in wanted and "▁" not in text:  # it stands for a space
            assert theirs.decode(wanted) == own.decode(wanted)
    assert ties <= 3
    assert theirs("<s> x", add_special_tokens=False).input_ids[0] == own.bos_id()


def test_rules_of_the_users_own(tmp_path):
    """Whose table composes nothing: text is not composed either."""
    (tmp_path / "rules.tsv").write_text(RULES)
    own = made(tmp_path / "tokenizer.model", normalization_rule_tsv=str(tmp_path / "rules.tsv"))
    described = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "tokenizer.model"))
    with pytest.raises(UserError, match=r"normalization rules [(]user_defined[)], 1 of 3 come out otherwise"):
        write_tokenizer(tmp_path, tmp_path / "tokenizer.model")
    (tmp_path / "rules.tsv").write_text(RULES.replace("0031 0032\t0033\n", ""))
    own = made(tmp_path / "tokenizer.model", normalization_rule_tsv=str(tmp_path / "rules.tsv"))
    assert own.encode("Aä12") != described.encode("Aä12")
    write_tokenizer(tmp_path, tmp_path / "tokenizer.model")
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    for text in ["A1 12 aÄä", "e\u0301 A\u0301", *HARD]:
        assert theirs(text, add_special_tokens=False).input_ids == own.encode(text), text


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"user_defined_symbols": ["①"]}, "would change the user_defined_symbols '①'"),
        (
            {"model_type": "bpe", "user_defined_symbols": ["import"]},
            "user_defined_symbols in a bpe that adds or removes",
        ),
        ({"model_type": "char"}, "neither unigram nor bpe"),
    ],
)
def test_what_no_tokenizer_json_can_say_is_refused(how, said, tmp_path):
    made(tmp_path / "tokenizer.model", **how)
    with pytest.raises(UserError, match=said):
        write_tokenizer(tmp_path, tmp_path / "tokenizer.model")


def test_entries_of_a_table(tmp_path):
    """All of a small one, and of a large one those that are followed: each of them changes text."""
    from sentencepiece import sentencepiece_model_pb2 as schema

    file, proto = tmp_path / "tokenizer.model", schema.ModelProto()
    (tmp_path / "rules.tsv").write_text(RULES)
    for how in ({"normalization_rule_tsv": str(tmp_path / "rules.tsv")}, {}):
        own = made(file, **how)
        proto.ParseFromString(file.read_bytes())
        found = list(table_entries(proto.normalizer_spec.precompiled_charsmap, 300))
        assert all(own.normalize(f"x{one}y") != f"▁x{one}y" for one in found)
        assert sorted(found) == ["12", "A", "ä"] if how else 300 < len(found) < 3000


def test_graphemes_are_set_apart_and_plain_text_is_not():
    from tokenizers import Regex, normalizers

    cut = normalizers.Replace(Regex(MULTIPLE), "#").normalize_str
    assert [cut(text) for text in ("plain text\n", "a\r\nb", "e\u0301", "日本", "aä b")] == [
        *("plain text\n", "a\r#\nb", "e#\u0301", "日#本", "a#ä# b")
    ]
