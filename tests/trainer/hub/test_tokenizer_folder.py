"""Folders of transformers' tokenizers, old and new: the ids that AutoTokenizer gives, and its special tokens."""

from __future__ import annotations

import io
import json
import sysconfig
from functools import cache
from pathlib import Path

import pytest
import sentencepiece

pytest.importorskip("transformers")
pytest.importorskip("tokenizers")
import tokenizers
import transformers
from strings import strings

from trainer.data.tokenizer import Tokenizer
from trainer.tokenizer_files import ROLES, roles_of, tokenizer_file
from trainer.utils.errors import UserError


@cache
def lines() -> list[str]:
    files = sorted(Path(sysconfig.get_paths()["stdlib"]).glob("[a-d]*.py"))[:12]
    return [line for file in files for line in file.read_text(errors="ignore").splitlines() if line.strip()][:2500]


T5 = {"pad_id": 0, "eos_id": 1, "unk_id": 2, "bos_id": -1}
ALBERT = {"pad_id": 0, "unk_id": 1, "bos_id": -1, "eos_id": -1, "control_symbols": ["[CLS]", "[SEP]", "[MASK]"]}
XLNET = {"unk_id": 0, "bos_id": 1, "eos_id": 2}
XLNET |= {"control_symbols": ["<cls>", "<sep>", "<pad>", "<mask>", "<eod>", "<eop>"]}
DEBERTA = {"pad_id": 0, "bos_id": 1, "eos_id": 2, "unk_id": 3, "pad_piece": "[PAD]", "bos_piece": "[CLS]"}
DEBERTA |= {"eos_piece": "[SEP]", "unk_piece": "[UNK]"}
LLAMA = {"model_type": "bpe", "byte_fallback": True, "normalization_rule_name": "identity"}
LLAMA |= {"remove_extra_whitespaces": False, "vocab_size": 700}
FAIRSEQ = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
BPE = "sentencepiece.bpe.model"
# name: (model type, file, tokenizer_config.json, how it is trained)
MODELS = {
    "xlm-roberta": ("xlm-roberta", BPE, {}, {}),
    "mbart": ("mbart", BPE, {"src_lang": "de_DE"}, {}),
    "camembert": ("camembert", BPE, {"tokenizer_class": "CamembertTokenizer"}, {}),
    "t5": ("t5", "spiece.model", {}, T5),
    "mt5": ("mt5", "spiece.model", {"extra_ids": 10}, T5),
    "pegasus": ("pegasus", "spiece.model", {}, T5),
    "pegasus-stated": ("pegasus", "spiece.model", {"mask_token": "<mask_2>", "mask_token_sent": "<mask_1>"}, T5),
    "albert": ("albert", "spiece.model", {}, ALBERT),
    "albert-cased": ("albert", "spiece.model", {"do_lower_case": False, "keep_accents": True}, ALBERT),
    "xlnet": ("xlnet", "spiece.model", {}, XLNET),
    "llama": ("llama", "tokenizer.model", {"tokenizer_class": "LlamaTokenizer", "add_bos_token": True}, LLAMA),
    "gpt2": ("gpt2", "vocab.json", {}, ["<|endoftext|>"]),
    "opt": (
        "opt",
        "vocab.json",
        {"add_bos_token": True, **dict.fromkeys(("bos_token", "eos_token", "unk_token"), "</s>")},
        FAIRSEQ,
    ),
    "roberta": ("roberta", "vocab.json", {}, FAIRSEQ),
    "bart": ("bart", "vocab.json", {"add_prefix_space": True}, FAIRSEQ),
    "bert": ("bert", "vocab.txt", {}, {}),
    "deberta": ("deberta-v2", "spm.model", {}, DEBERTA),
    "deberta-lower": ("deberta-v2", "spm.model", {"do_lower_case": True, "split_by_punct": True}, DEBERTA),
    "electra": ("electra", "vocab.txt", {"do_lower_case": False, "strip_accents": False}, {}),
}


def trained(file: Path, how: dict | list) -> None:
    """Write the files of a tokenizer that is trained on a few lines."""
    if file.suffix == ".model":
        model = io.BytesIO()
        keys = {"vocab_size": 500, "model_type": "unigram", "minloglevel": 2} | how
        sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter(lines()), model_writer=model, **keys)
        file.write_bytes(model.getvalue())
    elif file.suffix == ".txt":
        made = tokenizers.Tokenizer(tokenizers.models.WordPiece(unk_token="[UNK]"))
        made.normalizer = tokenizers.normalizers.BertNormalizer(lowercase=False)
        made.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
        special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
        trainer = tokenizers.trainers.WordPieceTrainer(vocab_size=400, special_tokens=special, show_progress=False)
        made.train_from_iterator(lines(), trainer)
        made.model.save(str(file.parent))
    else:
        made = tokenizers.Tokenizer(tokenizers.models.BPE())
        made.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
        alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
        keys = {"special_tokens": how, "initial_alphabet": alphabet, "show_progress": False}
        made.train_from_iterator(lines(), tokenizers.trainers.BpeTrainer(vocab_size=500, **keys))
        made.model.save(str(file.parent))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    found: dict[str, Path] = {}

    def of(name: str) -> Path:
        if name not in found:
            kind, file, stated, how = MODELS[name]
            found[name] = tmp_path_factory.mktemp(name)
            trained(found[name] / file, how)
            (found[name] / "config.json").write_text(json.dumps({"model_type": kind}))
            (found[name] / "tokenizer_config.json").write_text(json.dumps(stated))
        return found[name]

    return of


@pytest.mark.parametrize("saved", [False, True], ids=["old", "saved"])
@pytest.mark.parametrize("name", MODELS)
def test_ids_are_those_of_transformers(name, saved, folder, tmp_path):
    """From the old files, and from the tokenizer.json that transformers makes of them, which goes before all others.

    Text that spells special tokens is text here, also where transformers makes special tokens of it.
    """
    place = folder(name)
    theirs = transformers.AutoTokenizer.from_pretrained(place)
    if saved:
        theirs.save_pretrained(tmp_path)
        (tmp_path / "config.json").write_bytes((place / "config.json").read_bytes())
        if (place / MODELS[name][1]).suffix == ".model":
            (tmp_path / MODELS[name][1]).write_bytes((place / MODELS[name][1]).read_bytes())
        place = tmp_path
    ours, special, same = Tokenizer(tokenizer_file(place)), set(theirs.all_special_ids), 0
    assert ours.vocabulary == len(theirs)
    for text, ids in zip(strings(), ours.encode_all(strings()), strict=True):
        wanted = theirs(text, add_special_tokens=False, split_special_tokens=True).input_ids
        assert not set(ids) & (special - {theirs.unk_token_id})
        if not set(wanted) & (special - {theirs.unk_token_id}):
            assert ids == wanted, text
            same += 1
    assert same > 100
    template = ours._engine.template
    assert [*template.before, *ours.encode("word"), *template.behind] == theirs("word").input_ids
    roles = roles_of(place)
    assert {role: ours.id_of(roles[role]) if role in roles else None for role in ROLES} == {
        role: getattr(theirs, f"{role}_token_id") for role in ROLES
    }


CASED = [{}, {"do_lower_case": True}, {"do_lower_case": False}, {"strip_accents": False}, {"keep_accents": True}]


@pytest.mark.parametrize("stated", [*CASED, {"do_lower_case": False, "tokenize_chinese_chars": False}], ids=str)
@pytest.mark.parametrize("lower", [True, False], ids=["lower", "cased"])
@pytest.mark.parametrize("name", ["bert", "albert"])
def test_settings_win_over_tokenizer_json_as_in_transformers(name, lower, stated, folder, tmp_path):
    """Where the file was written with other ones: the class of transformers 5 makes its own normalizer."""
    (tmp_path / "made").mkdir()
    for file in folder(name).iterdir():
        (tmp_path / "made" / file.name).write_bytes(file.read_bytes())
    (tmp_path / "made" / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": lower}))
    transformers.AutoTokenizer.from_pretrained(tmp_path / "made").save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": name}))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(stated))
    theirs, ours = transformers.AutoTokenizer.from_pretrained(tmp_path), Tokenizer(tokenizer_file(tmp_path))
    for text in ("Import OS Self", "naïve ÄÖÜ é", "数x数", "plain ``quoted''", "x = 1"):
        assert ours.encode(text) == theirs(text, add_special_tokens=False).input_ids, text
    if stated == {"do_lower_case": lower}:  # then the file stays as it is
        assert ours.model == (tmp_path / "tokenizer.json").read_bytes()


PREFIX, NO_PREFIX = {"add_prefix_space": True}, {"add_prefix_space": False}
STATED = [
    *(("gpt2", PREFIX), ("opt", PREFIX), ("roberta", PREFIX), ("bart", NO_PREFIX), ("xlm-roberta", NO_PREFIX)),
    *(("camembert", NO_PREFIX), ("albert", NO_PREFIX), ("llama", NO_PREFIX), ("llama", {"legacy": True})),
    *(("xlnet", {"do_lower_case": True}), ("mbart", {"src_lang": "fr_XX"}), ("xlm-roberta", {"do_lower_case": True})),
    *((name, {"add_eos_token": True}) for name in ("gpt2", "llama", "albert", "roberta", "t5")),
    *(("opt", {"add_bos_token": False}), ("albert", {"add_bos_token": True}), ("gpt2", {"legacy": True})),
    *((name, {"clean_up_tokenization_spaces": True}) for name in ("gpt2", "bert")),
    *(("roberta", {"strip_accents": True}), ("gpt2", {"do_lower_case": True})),
]
ODD = ["Hello World  two", "na\u00efve \u00c9", " lead", "a\nb ``x''", "don't", "x = 1", ""]


def same_as_transformers(place: Path) -> Tokenizer:
    """Ids, and what stands around one text and between two."""
    theirs, ours = transformers.AutoTokenizer.from_pretrained(place), Tokenizer(tokenizer_file(place))
    for text in ODD:
        assert ours.encode(text) == theirs(text, add_special_tokens=False).input_ids, text
    around, word = ours._engine.template, ours.encode("word")
    assert [*around.before, *word, *around.behind] == theirs("word").input_ids
    assert [*around.before, *word, *around.between, *word, *around.behind] == theirs("word", "word").input_ids
    return ours


@pytest.mark.parametrize("saved", [False, True], ids=["old", "saved"])
@pytest.mark.parametrize(("name", "stated"), STATED, ids=str)
def test_every_setting_does_what_it_does_in_transformers(name, stated, saved, folder, tmp_path):
    """Also where the tokenizer.json was written with another value: most classes of transformers 5 make theirs anew."""
    given = {**MODELS[name][2], **stated}
    if saved:
        transformers.AutoTokenizer.from_pretrained(folder(name)).save_pretrained(tmp_path)
        given = json.loads((tmp_path / "tokenizer_config.json").read_text()) | stated
    for file in folder(name).iterdir():
        if file.name == "config.json" or not saved:
            (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(given))
    same_as_transformers(tmp_path)


@pytest.mark.parametrize("kind", ["gpt2", "gpt_neox", "olmo2", "bloom", "llama"])
def test_parts_of_the_file_that_a_class_would_make_otherwise(kind, folder, tmp_path):
    """GPT-2's class cuts words in its own way, whatever the file says; beside olmo2 and bloom the file alone counts."""
    transformers.AutoTokenizer.from_pretrained(folder("gpt2")).save_pretrained(tmp_path)
    described = json.loads((tmp_path / "tokenizer.json").read_text())
    digits = {"type": "Split", "pattern": {"Regex": "[a-z]"}, "behavior": "Isolated", "invert": False}
    described["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [digits, described["pre_tokenizer"]]}
    described["normalizer"] = {"type": "Lowercase"}
    (tmp_path / "tokenizer.json").write_text(json.dumps(described))
    names = {"gpt_neox": "GPTNeoXTokenizer", "bloom": "BloomTokenizerFast", "llama": "LlamaTokenizerFast"}
    stated = PREFIX | {"tokenizer_class": names.get(kind, "GPT2Tokenizer"), "eos_token": "<|endoftext|>"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(stated))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": kind}))
    ours = same_as_transformers(tmp_path)
    assert (ours.model == (tmp_path / "tokenizer.json").read_bytes()) == (kind not in ("gpt2", "gpt_neox"))


@pytest.mark.parametrize("named", ["LlamaTokenizer", None])
def test_a_llama_that_puts_a_space_before_every_text(named, folder, tmp_path):
    """As the tokenizer.json of Llama 2 does; the class puts none before a text that begins with one."""
    transformers.AutoTokenizer.from_pretrained(folder("llama")).save_pretrained(tmp_path)
    described = json.loads((tmp_path / "tokenizer.json").read_text())
    spaces = {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"}
    steps = [{"type": "Prepend", "prepend": "\u2581"}, spaces]
    described |= {"normalizer": {"type": "Sequence", "normalizers": steps}, "pre_tokenizer": None}
    (tmp_path / "tokenizer.json").write_text(json.dumps(described))
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    stated = {"tokenizer_class": named, "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({key: one for key, one in stated.items() if one}))
    same_as_transformers(tmp_path)


def test_xglm_ids_are_one_more_than_sentencepieces(tmp_path):
    """transformers 5 reads no model of sentencepiece for XGLM; this is what its published vocabulary is."""
    trained(tmp_path / BPE, {})
    (tmp_path / "config.json").write_text('{"model_type": "xglm"}')
    ours = Tokenizer(tokenizer_file(tmp_path))
    own = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / BPE))
    assert ours.encode("import os, sys") == [token + 1 for token in own.encode("import os, sys")]
    assert ours.vocabulary == own.get_piece_size() + 1 + 7
    assert [ours.id_of(piece) for piece in ("<s>", "<pad>", "</s>", "<unk>")] == [0, 1, 2, 3]


@pytest.mark.parametrize("name", ["pegasus", "roberta", "bert"])
def test_a_long_text_that_spells_special_tokens_is_text(name, folder):
    """300 kB of them come out as one does, as often as it stands there."""
    ours = Tokenizer(tokenizer_file(folder(name)))
    unit = "a <mask_1> <mask_2> <unk_2> <s> </s> <mask> [MASK] [SEP] "
    one, many = ours.encode(unit), ours.encode(unit * (300_000 // len(unit)))
    assert len(one) > 10 and many.count(one[-2]) == one.count(one[-2]) * (300_000 // len(unit))
    assert not set(many) & (set(ours.specials.values()) - {ours.specials["<unk>"]})


@pytest.mark.parametrize(
    ("stated", "how", "said"),
    [
        ({"offset": "x"}, T5, "offset: 'x' is no number of reserved ids"),
        ({"mask_token_sent": None}, T5, "mask_token='<mask_1>' and mask_token_sent=None: two pieces wanted"),
        ({"mask_token": "<mask_2>"}, T5, "mask_token='<mask_2>' and mask_token_sent='<mask_2>': two pieces wanted"),
        ({}, XLNET, "<unk> wanted as its third piece, '</s>' found: not Pegasus's"),
    ],
)
def test_a_pegasus_that_is_none(stated, how, said, tmp_path):
    trained(tmp_path / "spiece.model", how)
    (tmp_path / "config.json").write_text('{"model_type": "pegasus"}')
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(stated))
    with pytest.raises(UserError, match=said):
        Tokenizer(tokenizer_file(tmp_path))


def test_added_tokens_of_the_settings(folder, tmp_path):
    """Those that the model's own file lacks get the ids that are stated, and are found in text unless special."""
    for file in folder("gpt2").iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    added = {"500": {"content": "<|user|>", "special": True}, "501": {"content": "xyzzy", "special": False}}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"added_tokens_decoder": added}))
    ours = Tokenizer(tokenizer_file(tmp_path))
    assert ours.encode("xyzzy") == [501] and 500 not in ours.encode("<|user|>")
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"added_tokens_decoder": {"700": added["500"]}}))
    with pytest.raises(UserError, match=r"'<\|user\|>' shall have the id 700, it would be 500"):
        Tokenizer(tokenizer_file(tmp_path))


def test_a_class_that_is_not_known_is_refused_with_the_way_out(tmp_path):
    trained(tmp_path / "spiece.model", T5)
    (tmp_path / "config.json").write_text('{"model_type": "roberta"}')
    with pytest.raises(UserError, match=r"RobertaTokenizer is read from a tokenizer[.]json.*save_pretrained"):
        Tokenizer(tokenizer_file(tmp_path))


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("tokenizer_config.json", "[1]", "a JSON object wanted, list found"),
        ("tokenizer_config.json", '{"bos_token": 5}', "bos_token: a piece wanted, 5 found"),
        ("tokenizer_config.json", '{"added_tokens_decoder": {"x": 1}}', "added_tokens_decoder: x: 1 is no token"),
        ("tokenizer_config.json", "[" * 100_000, "not readable as JSON"),
        ("merges.txt", "one\n", "two pieces a line wanted, 'one' found"),
        ("vocab.json", '{"a": "b"}', "not readable as a tokenizer"),
    ],
)
def test_hostile_settings(name, content, said, folder, tmp_path):
    for file in folder("gpt2").iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / name).write_text(content)
    with pytest.raises(UserError, match=said):
        Tokenizer(tokenizer_file(tmp_path))
        roles_of(tmp_path)
