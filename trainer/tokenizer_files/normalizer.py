"""The normalizer of a tokenizer.json as transformers 5 has it: where its class makes one of the folder's settings,
these win over what the file says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from trainer.tokenizer_files.roles import class_of, settings

Described = dict[str, Any]  # a tokenizer.json or a part of it


def by_settings(content: bytes, folder: Path) -> bytes:
    """A tokenizer.json with the normalizer that the class of the folder makes; as it is where that is the same, and
    where the class makes none, or the file is none of that class."""
    kind = class_of(folder)
    made = {"BertTokenizer": _bert, "ElectraTokenizer": _bert, "DistilBertTokenizer": _bert, "AlbertTokenizer": _albert}
    if kind not in made:
        return content
    try:
        described = json.loads(content)
        model, wanted = described["model"]["type"], made[kind](settings(folder, "tokenizer_config.json"), described)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return content  # refused by who opens it
    if model != ("Unigram" if made[kind] is _albert else "WordPiece") or described.get("normalizer") == wanted:
        return content
    return json.dumps({**described, "normalizer": wanted}, ensure_ascii=False).encode()


def _bert(stated: Described, described: Described) -> Described:
    return {
        "type": "BertNormalizer",
        "clean_text": True,
        "handle_chinese_chars": stated.get("tokenize_chinese_chars", True),
        "strip_accents": stated.get("strip_accents"),
        "lowercase": stated.get("do_lower_case", True),
    }


def _albert(stated: Described, described: Described) -> Described:
    given = described.get("normalizer") or {}
    steps: list[Described] = [{"type": "Replace", "pattern": {"String": one}, "content": '"'} for one in ("``", "''")]
    if not stated.get("keep_accents", False):
        steps += [{"type": "NFKD"}, {"type": "StripAccents"}]
    if stated.get("do_lower_case", True):
        steps.append({"type": "Lowercase"})
    steps += [one for one in given.get("normalizers", [given]) if one.get("type") == "Precompiled"][:1]
    return {"type": "Sequence", "normalizers": steps}
