"""The parts of a tokenizer.json that a class of transformers 5 makes anew: there the folder's settings win over the
file."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from trainer.tokenizer_files.roles import built_by, roles_of, settings
from trainer.utils.errors import UserError

Described = dict[str, Any]  # a tokenizer.json or a part of it
SPACE = "\u2581"


def by_settings(content: bytes, folder: Path) -> bytes:
    """A tokenizer.json with the parts that the class of the folder makes; as it is where they do the same, and where
    the class makes none, or the file is none of that class. Raises UserError for a language that mBART has not."""
    kind = built_by(folder)
    if kind not in _MADE:
        return content
    model, make = _MADE[kind]
    try:
        described = json.loads(content)
        if described["model"]["type"] != model:
            return content
        wanted = make(settings(folder, "tokenizer_config.json"), described)
        if kind == "MBartTokenizer":
            wanted |= _mbart_language(folder, described)
        other = {name: part for name, part in wanted.items() if _meaning(described.get(name)) != _meaning(part)}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return content  # refused by who opens it
    return json.dumps({**described, **other}, ensure_ascii=False).encode() if other else content


def _meaning(part: Any) -> Any:
    """Equal for parts that do the same, however old the library is that wrote them."""
    if isinstance(part, list):
        return [_meaning(one) for one in part]
    if not isinstance(part, dict):
        return part
    kind = part.get("type")
    if kind == "ByteLevel":
        return kind, part.get("add_prefix_space", True), part.get("use_regex", True)
    if kind == "Metaspace":
        scheme = part.get("prepend_scheme") or ("always" if part.get("add_prefix_space", True) else "never")
        return kind, part.get("replacement"), scheme, part.get("split", True)
    if kind == "Sequence" and len(several := part.get("normalizers") or []) == 1:
        return _meaning(several[0])
    return {name: _meaning(value) for name, value in part.items()}


def _charsmap(described: Described) -> list[Described]:
    """The rules of sentencepiece in the file's normalizer, if there are any."""
    given = described.get("normalizer") or {}
    return [one for one in given.get("normalizers", [given]) if one.get("type") == "Precompiled"][:1]


def _sequence(kind: str, parts: list[Described]) -> Described | None:
    return {"type": "Sequence", kind: parts} if parts else None


def _bert(stated: Described, described: Described) -> Described:
    return {
        "normalizer": {
            "type": "BertNormalizer",
            "clean_text": True,
            "handle_chinese_chars": stated.get("tokenize_chinese_chars", True),
            "strip_accents": stated.get("strip_accents"),
            "lowercase": stated.get("do_lower_case", True),
        }
    }


# --- sentencepiece's pieces -------------------------------------------------------------------------------------------


def _words(prefix: bool, *, split: bool = True) -> Described:
    """Pre-tokenizer and decoder. prefix: whether a word has a space before it; split: whether words are cut first."""
    space = {
        "type": "Metaspace",
        "replacement": SPACE,
        "prepend_scheme": "always" if prefix else "never",
        "split": True,
    }
    cut = _sequence("pretokenizers", [{"type": "WhitespaceSplit"}, space])
    return {"pre_tokenizer": cut if split else space, "decoder": space}


def _prefixed(stated: Described) -> bool:
    return bool(stated.get("add_prefix_space", True))


def _xlmr(stated: Described, described: Described) -> Described:
    return {"normalizer": _sequence("normalizers", _charsmap(described)), **_words(_prefixed(stated))}


def _t5(stated: Described, described: Described) -> Described:
    return {"normalizer": _sequence("normalizers", _charsmap(described)), **_words(True)}


def _mbart(stated: Described, described: Described) -> Described:
    return {"normalizer": None, **_words(True)}


def _pegasus(stated: Described, described: Described) -> Described:
    line = {"type": "Replace", "pattern": {"Regex": "\\n"}, "content": " "}
    spaces = {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "}
    rules = _sequence("normalizers", [*(_charsmap(described) or [line]), spaces])
    return {"normalizer": rules, **_words(True, split=False)}


def _xglm(stated: Described, described: Described) -> Described:
    spaces = {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "}
    rules = _sequence("normalizers", [*_charsmap(described), spaces])
    return {"normalizer": rules, **_words(_prefixed(stated), split=False)}


def _quoted(described: Described, *, accents: bool, lower: bool) -> Described | None:
    steps: list[Described] = [{"type": "Replace", "pattern": {"String": one}, "content": '"'} for one in ("``", "''")]
    steps += [] if accents else [{"type": "NFKD"}, {"type": "StripAccents"}]
    steps += [{"type": "Lowercase"}] if lower else []
    return _sequence("normalizers", [*steps, *_charsmap(described)])


def _albert(stated: Described, described: Described) -> Described:
    accents, lower = bool(stated.get("keep_accents", False)), bool(stated.get("do_lower_case", True))
    return {"normalizer": _quoted(described, accents=accents, lower=lower), **_words(_prefixed(stated))}


def _xlnet(stated: Described, described: Described) -> Described:
    lower = bool(stated.get("do_lower_case", False))
    return {"normalizer": _quoted(described, accents=False, lower=lower), **_words(True)}


def _deberta(stated: Described, described: Described) -> Described:
    scheme = "always" if _prefixed(stated) else "first"
    space = {"type": "Metaspace", "replacement": SPACE, "prepend_scheme": scheme, "split": True}
    blanks = {"type": "Replace", "pattern": {"Regex": "\\s{2,}|[\\n\\r\\t]"}, "content": " "}
    strip = {"type": "Strip", "strip_left": False, "strip_right": True}
    steps: list[Described] = [{"type": "Lowercase"}] if stated.get("do_lower_case", False) else []
    cuts: list[Described] = [{"type": "Punctuation", "behavior": "Isolated"}] if stated.get("split_by_punct") else []
    return {
        "normalizer": _sequence("normalizers", [*steps, blanks, {"type": "NFC"}, strip]),
        "pre_tokenizer": _sequence("pretokenizers", [*cuts, space]),
        "decoder": space,
    }


def _mbart_language(folder: Path, described: Described) -> Described:
    """What stands behind a text: </s> and the language of `src_lang`."""
    own, ids = settings(folder, "tokenizer_config.json").get("src_lang") or "en_XX", dict[str, int]()
    for token, (piece, _) in enumerate(described["model"]["vocab"]):
        ids[piece] = token
    ids |= {token["content"]: token["id"] for token in described.get("added_tokens") or ()}
    if own not in ids:
        raise UserError(f"{folder / 'tokenizer_config.json'}: src_lang: {own!r} is no piece of the tokenizer.json")
    behind = [roles_of(folder)["eos"], own]
    first, second = ({"Sequence": {"id": name, "type_id": 0}} for name in "AB")
    marks = [{"SpecialToken": {"id": piece, "type_id": 0}} for piece in behind]
    special = {piece: {"id": piece, "ids": [ids[piece]], "tokens": [piece]} for piece in behind}
    return {
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [first, *marks],
            "pair": [first, second, *marks],
            "special_tokens": special,
        }
    }


# --- BPE --------------------------------------------------------------------------------------------------------------


def _byte_level(stated: Described, described: Described) -> Described:
    prefix = bool(stated.get("add_prefix_space", False))
    cut = {"type": "ByteLevel", "add_prefix_space": prefix, "trim_offsets": True, "use_regex": True}
    return {"normalizer": None, "pre_tokenizer": cut}


def _neox(stated: Described, described: Described) -> Described:
    return {**_byte_level(stated, described), "normalizer": {"type": "NFC"}}


def _llama(stated: Described, described: Described) -> Described:
    """Nothing where the file's pieces are bytes: then transformers takes the file as it is."""
    parts = [described.get(name) or {} for name in ("pre_tokenizer", "decoder")]
    inside = [one for part in parts for one in (part, *part.get("pretokenizers", ()), *part.get("decoders", ()))]
    if any(one.get("type") == "ByteLevel" for one in inside):
        return {}
    prefix = stated.get("add_prefix_space") is not False
    scheme = ("always" if stated.get("legacy", False) else "first") if prefix else "never"
    space = {"type": "Replace", "pattern": {"String": SPACE}, "content": " "}
    strip = [{"type": "Strip", "content": " ", "start": 1, "stop": 0}] if prefix else []
    return {
        "normalizer": None,
        "pre_tokenizer": {"type": "Metaspace", "replacement": SPACE, "prepend_scheme": scheme, "split": False},
        "decoder": _sequence("decoders", [space, {"type": "ByteFallback"}, {"type": "Fuse"}, *strip]),
    }


# class: (type of its model, what it makes of the settings and the file)
_MADE: dict[str, tuple[str, Callable[[Described, Described], Described]]] = {
    **dict.fromkeys(("BertTokenizer", "ElectraTokenizer", "DistilBertTokenizer"), ("WordPiece", _bert)),
    **dict.fromkeys(("XLMRobertaTokenizer", "CamembertTokenizer"), ("Unigram", _xlmr)),
    "T5Tokenizer": ("Unigram", _t5),
    "PegasusTokenizer": ("Unigram", _pegasus),
    "MBartTokenizer": ("Unigram", _mbart),
    "XGLMTokenizer": ("Unigram", _xglm),
    "AlbertTokenizer": ("Unigram", _albert),
    "XLNetTokenizer": ("Unigram", _xlnet),
    "DebertaV2Tokenizer": ("Unigram", _deberta),
    **dict.fromkeys(("GPT2Tokenizer", "RobertaTokenizer", "BartTokenizer"), ("BPE", _byte_level)),
    "GPTNeoXTokenizer": ("BPE", _neox),
    "LlamaTokenizer": ("BPE", _llama),
}
