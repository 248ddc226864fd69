"""The file of a tokenizer that is UTF-8 itself (ByT5, Xue et al. 2022, section 3.1): what says that it is one."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from trainer.utils.bounded import parse_json
from trainer.utils.errors import UserError

CLASS = "ByT5Tokenizer"  # of transformers
SPECIALS = ("<pad>", "</s>", "<unk>")  # the first ids; the bytes follow
OFFSET = len(SPECIALS)
EXTRA_IDS = 125  # behind the bytes: 384 ids in all
SENTINELS = tuple(range(OFFSET + 255, OFFSET + 155, -1))  # ids of the last hundred bytes, downwards
KIND = {"type": "bytes"}


def file_of_bytes(symbols: Sequence[str] = (), extra_ids: int = EXTRA_IDS) -> bytes:
    """The file. symbols: special tokens in place of the first extra ids. Raises UserError where those are too few."""
    if len(symbols) > extra_ids:
        raise UserError(
            f"tokenizer.symbols: {len(symbols)} given; of bytes, {extra_ids} ids are free for special tokens"
        )
    return json.dumps({**KIND, "extra_ids": extra_ids, "symbols": list(symbols)}).encode()


def names_of_bytes(content: bytes) -> list[str] | None:
    """The names of the ids behind the bytes; None where the file is another tokenizer's."""
    if b'"type": "bytes"' not in content[:40]:
        return None
    try:
        described = parse_json(content)
        names = [*described["symbols"]]
        return names + [f"<extra_id_{number}>" for number in range(len(names), described["extra_ids"])]
    except (ValueError, TypeError, KeyError):
        return None


def bytes_of_folder(stated: dict[str, Any], roles: dict[str, str], file: Path) -> bytes:
    """The file of a folder whose tokenizer is transformers' ByT5Tokenizer. stated: its tokenizer_config.json; roles:
    role -> piece. Raises UserError where its special tokens are others than ByT5's."""
    names = dict(zip(("pad", "eos", "unk"), SPECIALS, strict=True))
    if wrong := [role for role, piece in names.items() if roles.get(role) != piece]:
        raise UserError(f"{file}: {wrong[0]}_token={roles.get(wrong[0])!r} is not supported; {names[wrong[0]]!r} is")
    added = stated.get("added_tokens_decoder")
    if not isinstance(added, dict):
        count = stated.get("extra_ids", EXTRA_IDS)
        if not isinstance(count, int) or not 0 <= count <= 10_000:
            raise UserError(f"{file}: extra_ids: {count!r} is no number of ids")
        return file_of_bytes(extra_ids=count)
    behind = {int(token): one for token, one in added.items() if token.isdigit() and int(token) >= OFFSET}
    pieces: list[Any] = [one.get("content") if isinstance(one, dict) else None for _, one in sorted(behind.items())]
    if sorted(behind) != list(range(OFFSET + 256, OFFSET + 256 + len(behind))) or None in pieces:
        raise UserError(f"{file}: added_tokens_decoder: ids from {OFFSET + 256} on, without gaps, wanted")
    own = [one for number, one in enumerate(pieces) if one != f"<extra_id_{number}>"]
    if pieces[: len(own)] != own:
        raise UserError(f"{file}: added_tokens_decoder: {own[0]!r} stands among <extra_id_...>; those go last")
    return file_of_bytes(own, len(pieces))
