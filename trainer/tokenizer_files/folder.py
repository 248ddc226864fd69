"""The tokenizer of a folder as one file: its tokenizer.json, or what its older files come to with transformers' ids."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from trainer.tokenizer_files import utf8
from trainer.tokenizer_files.class_parts import by_settings
from trainer.tokenizer_files.older_files import CONVERTED, LISTED
from trainer.tokenizer_files.roles import class_of, roles_of, settings, unread
from trainer.utils.bounded import parse_json, read_bytes, whole_number
from trainer.utils.errors import UserError

JSON, SETTINGS = "tokenizer.json", "tokenizer_config.json"
SENTENCEPIECE = ("tokenizer.model", "sentencepiece.bpe.model", "spiece.model", "spm.model", "source.spm")
LISTS = ("vocab.json", "vocab.txt")
FILES = (JSON, *SENTENCEPIECE, *LISTS)


def find_tokenizer(folder: Path) -> Path | None:
    """The file of a folder that tells its tokenizer, a tokenizer.json before all others; None where none is read."""
    if unread(folder):
        return None
    found = next((folder / name for name in FILES if (folder / name).is_file()), None)
    if found is None and class_of(folder) == utf8.CLASS:
        return folder / SETTINGS  # UTF-8 itself needs no file
    return None if found is not None and found.name == "vocab.json" and not (folder / "merges.txt").is_file() else found


def content_of(file: Path) -> bytes:
    """A tokenizer as one file: a sentencepiece model or a tokenizer.json. Files that say only half of it are read with
    what lies beside them.

    Raises UserError where it cannot be read, and where the class that the folder names is not known, with the way out.
    """
    content = read_bytes(file)
    folder = file.parent
    if file.name == SETTINGS:
        return utf8.bytes_of_folder(settings(folder, SETTINGS), roles_of(folder), file)
    if file.name == JSON:
        return _completed(by_settings(content, folder), folder)
    kind = class_of(folder)
    if file.name in LISTS:
        return _built(LISTED.get(kind or ("BertTokenizer" if file.suffix == ".txt" else "GPT2Tokenizer")), kind, file)
    if kind is None:  # the model itself has the ids
        return content
    return _built(CONVERTED.get(kind), kind, file)


def _built(build: Callable[[Path], Any] | None, kind: str | None, file: Path) -> bytes:
    if build is None:
        raise UserError(
            f"{file}: the tokenizer of {kind} is read from a tokenizer.json, of which there is none; one is written by "
            "transformers.AutoTokenizer.from_pretrained(folder).save_pretrained(folder)"
        )
    try:
        tokenizer = build(file)
    except ImportError:
        raise UserError(f"tokenizer.path: {file} needs the extra: pip install 'isoflop[hub]'") from None
    except UserError:
        raise
    except Exception as error:  # the libraries raise plain Exception
        raise UserError(f"{file}: not readable as a tokenizer ({' '.join(str(error).split())[:120]})") from None
    _add_tokens(tokenizer, file.parent)
    content: str = tokenizer.to_str()
    return content.encode()


def _completed(content: bytes, folder: Path) -> bytes:
    """A tokenizer.json with the tokens that the files beside it add, if there are any; else as it is."""
    stated = _added(folder)
    if not stated:
        return content
    try:
        there = {token["content"] for token in parse_json(content).get("added_tokens") or []}
    except (ValueError, AttributeError, KeyError, TypeError):
        return content  # refused by who opens it
    if not any(piece not in there for piece in stated):
        return content
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_buffer(content)
    except Exception:
        return content
    _add_tokens(tokenizer, folder)
    whole: str = tokenizer.to_str()
    return whole.encode()


def _added(folder: Path) -> dict[str, tuple[int | None, dict[str, Any]]]:
    """Piece -> (id, how it is found in text) of the tokens that tokenizer_config.json and added_tokens.json add."""
    found: dict[str, tuple[int | None, dict[str, Any]]] = {}
    for piece, token in settings(folder, "added_tokens.json").items():
        found[piece] = (token if isinstance(token, int) else None, {})
    stated = settings(folder, "tokenizer_config.json").get("added_tokens_decoder")
    for token, keys in (stated if isinstance(stated, dict) else {}).items():
        if not isinstance(keys, dict) or not isinstance(keys.get("content"), str) or whole_number(str(token)) is None:
            raise UserError(f"{folder / 'tokenizer_config.json'}: added_tokens_decoder: {token}: {keys!r} is no token")
        how = {
            name: keys[name] for name in ("special", "lstrip", "rstrip", "normalized", "single_word") if name in keys
        }
        found[keys["content"]] = (int(token), how)
    return found


def _add_tokens(tokenizer: Any, folder: Path) -> None:
    """Add what the folder's settings add, in the order of its ids. Raises UserError where one gets another id."""
    from tokenizers import AddedToken

    roles = set(roles_of(folder).values())
    known = {token.content for token in tokenizer.get_added_tokens_decoder().values()}
    added = sorted(_added(folder).items(), key=lambda item: -1 if item[1][0] is None else item[1][0])
    for piece, (wanted, how) in added:
        if not piece or piece in known:
            continue
        token = AddedToken(piece, **{"special": piece in roles, "normalized": False, **how})
        (tokenizer.add_special_tokens if token.special else tokenizer.add_tokens)([token])
        if wanted is not None and tokenizer.token_to_id(piece) != wanted:
            raise UserError(
                f"{folder}: the added token {piece!r} shall have the id {wanted}, it would be "
                f"{tokenizer.token_to_id(piece)}; write a tokenizer.json with transformers' save_pretrained"
            )
    for piece in sorted(roles - known - set(_added(folder))):
        if tokenizer.token_to_id(piece) is not None:
            tokenizer.add_special_tokens([AddedToken(piece, special=True, normalized=False)])
