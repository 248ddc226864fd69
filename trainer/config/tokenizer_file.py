"""The file of an existing tokenizer, and how many ids it has: read without the libraries that encode with it."""

from __future__ import annotations

import json
import os
from functools import lru_cache
from pathlib import Path

from trainer.config.whole import Config
from trainer.utils.errors import UserError

FILES = ("tokenizer.model", "spiece.model", "sentencepiece.bpe.model", "spm.model", "tokenizer.json")
PIECE = 0x0A  # the key of ModelProto.pieces: field 1, with a length (sentencepiece_model.proto)
FIXED = {1: 8, 5: 4}  # bytes of a value, by its wire type (protobuf's encoding)
FEW = 0.1  # share of the embedding that may be without a piece before it is said


def tokenizer_file(path: str | Path) -> Path:
    """The file itself, or the one in a folder that holds a tokenizer. Raises UserError when it holds none."""
    given = Path(path).expanduser()
    if not given.is_dir():
        return given
    found = next((given / name for name in FILES if (given / name).is_file()), None)
    if found is None:
        raise UserError(f"tokenizer.path: {given} holds none of {', '.join(FILES)}")
    return found


def read_file(file: Path) -> bytes:
    """Its content. Raises UserError."""
    try:
        return file.read_bytes()
    except FileNotFoundError:
        raise UserError(f"tokenizer.path: no such file: {file}") from None
    except OSError as error:
        raise UserError(f"tokenizer.path: cannot read {file}: {error.strerror}") from None


def is_json(content: bytes) -> bool:
    """Whether it is a tokenizer.json of Hugging Face, if it is a tokenizer."""
    return content.lstrip()[:1] == b"{"


def ids(path: str | Path) -> int:
    """The largest id of a tokenizer and one: the rows that it needs. Raises UserError where it is none."""
    file = tokenizer_file(path)
    try:
        status = os.stat(file)
    except OSError:
        status = None
    return _ids(file, status and (status.st_size, status.st_mtime_ns))


@lru_cache(maxsize=64)
def _ids(file: Path, version: tuple[int, int] | None) -> int:
    """Read anew where the file's size or time is another."""
    content = read_file(file)
    try:
        found = _of_json(content) if is_json(content) else _of_sentencepiece(content)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError):
        found = 0
    if found < 1:
        raise UserError(f"tokenizer.path: {file} is neither a sentencepiece model nor a tokenizer.json of Hugging Face")
    return found


def _of_json(content: bytes) -> int:
    described = json.loads(content)
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


def with_rows(config: Config) -> Config:
    """The same run with the rows that its `tokenizer.path` needs, where `model.vocabulary` leaves them open.

    It stays null where that comes to the same. Raises UserError where the tokenizer cannot be read, or has more pieces
    than there are rows.
    """
    rows, path = config.model.vocabulary, config.tokenizer.path
    if path is None or (rows is not None and not tokenizer_file(path).exists()):  # what needs it will tell
        return config
    found = ids(path)
    wanted = -(-found // 64) * 64
    if rows is None:
        if wanted == config.vocabulary:
            return config
        return config.model_copy(update={"model": config.model.model_copy(update={"vocabulary": wanted})})
    if rows < found:
        raise UserError(
            f"model.vocabulary: {rows} is smaller than the {found} pieces of tokenizer.path={path}; "
            f"set model.vocabulary={wanted}, or null"
        )
    return config


def unused_rows(config: Config) -> str | None:
    """A line that tells of rows of the embedding that no piece has, where they are many; None where they are few."""
    rows, path = config.vocabulary, config.tokenizer.path
    try:
        used = config.tokenizer.vocabulary if path is None else ids(path)
    except UserError:  # it lies elsewhere, and the run has been made
        return None
    if rows - used <= FEW * rows:
        return None
    return (
        f"{rows - used:,} of {rows:,} rows of the embedding are unused: the tokenizer has {used:,} pieces; "
        f"model.vocabulary=null has {-(-used // 64) * 64:,} rows"
    )
