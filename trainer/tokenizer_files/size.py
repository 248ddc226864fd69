"""The file of an existing tokenizer, and how many ids it has: read without the libraries that encode with it."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from trainer.tokenizer_files.folder import FILES, content_of, find_tokenizer
from trainer.tokenizer_files.roles import unread
from trainer.tokenizer_files.utf8 import OFFSET, names_of_bytes
from trainer.utils.bounded import parse_json
from trainer.utils.errors import UserError
from trainer.utils.home import expanded

PIECE = 0x0A  # the key of ModelProto.pieces: field 1, with a length (sentencepiece_model.proto)
FIXED = {1: 8, 5: 4}  # bytes of a value, by its wire type (protobuf's encoding)


def tokenizer_file(path: str | Path) -> Path:
    """The file itself, or the one in a folder that holds a tokenizer. Raises UserError when it holds none."""
    given = expanded(path)
    if not given.is_dir():
        return given
    found = find_tokenizer(given)
    if found is None:
        if why := unread(given):
            raise UserError(f"tokenizer.path: {why}")
        raise UserError(f"tokenizer.path: {given} holds none of {', '.join(FILES)}")
    return found


def read_file(file: Path) -> bytes:
    """A tokenizer as one file, see `content_of`. Raises UserError."""
    if not file.exists():
        raise UserError(f"tokenizer.path: no such file: {file}")
    try:
        return content_of(file)
    except UserError as error:
        raise UserError(f"tokenizer.path: {str(error).removeprefix('tokenizer.path: ')}") from None


def is_json(content: bytes) -> bool:
    """Whether it is a tokenizer.json of Hugging Face, if it is a tokenizer."""
    return content.lstrip()[:1] == b"{"


def ids(path: str | Path) -> int:
    """The largest id of a tokenizer and one: the rows that it needs. Raises UserError where it is none."""
    file = tokenizer_file(path)
    try:
        status, folder = file.stat(), file.parent.stat()  # of files beside it, the folder's time
    except OSError:
        return _ids(file, None)
    return _ids(file, (status.st_size, status.st_mtime_ns, folder.st_mtime_ns))


@lru_cache(maxsize=64)
def _ids(file: Path, version: tuple[int, int, int] | None) -> int:
    """Read anew where the file's size or time is another."""
    content = read_file(file)
    try:
        found = _of_json(content) if is_json(content) else _of_sentencepiece(content)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, OverflowError):
        found = 0
    if found < 1:
        raise UserError(f"tokenizer.path: {file} is neither a sentencepiece model nor a tokenizer.json of Hugging Face")
    return found


def _of_json(content: bytes) -> int:
    described = parse_json(content)
    if (names := names_of_bytes(content)) is not None:
        return OFFSET + 256 + len(names)
    pieces = described["model"]["vocab"]  # piece -> id, or of Unigram a list
    highest = len(pieces) - 1 if isinstance(pieces, list) else max(pieces.values(), default=-1)
    return int(max([highest, *(token["id"] for token in described.get("added_tokens") or [])])) + 1


def _of_sentencepiece(content: bytes) -> int:
    count = at = 0
    while at < len(content):
        key, at = _varint(content, at)
        kind = key & 7
        if kind == 0:
            _, at = _varint(content, at)
        elif kind == 2:
            size, at = _varint(content, at)
            at += size
        else:
            at += FIXED[kind]
        count += key == PIECE
    if at > len(content):
        raise ValueError("cut short")
    return count


def _varint(content: bytes, at: int) -> tuple[int, int]:
    """(the number that begins here, where it ends)."""
    value = shift = 0
    while True:
        byte = content[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at
