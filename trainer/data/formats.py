"""What a file is: told by its first bytes, then by its name."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from trainer.config import DataConfig
from trainer.data.files import LOOK_BYTES
from trainer.data.unpacking import compression_of, unpacked
from trainer.descriptions.readers import (
    COMPRESSED,
    DEFAULT,
    JSON_LINES,
    READERS,
    reader_by_magic,
    readers_by_suffix,
    suffix_of,
)
from trainer.utils.errors import UserError

# The longer ones first: the mark of UTF-32 begins with that of UTF-16.
MARKS = {
    b"\xff\xfe\x00\x00": "utf-32",
    b"\x00\x00\xfe\xff": "utf-32",
    b"\xef\xbb\xbf": "utf-8-sig",
    b"\xff\xfe": "utf-16",
    b"\xfe\xff": "utf-16",
}
# First bytes of what holds no text that we read -> what it is, and the way out.
FOREIGN = {
    b"PK\x03\x04": ("a zip archive", "unzip it into a folder and name that"),
    b"PK\x05\x06": ("an empty zip archive", "name what holds the text"),
    b"7z\xbc\xaf\x27\x1c": ("a 7z archive", "unpack it into a folder and name that"),
    b"Rar!\x1a\x07": ("a rar archive", "unpack it into a folder and name that"),
    b"\x04\x22\x4d\x18": ("packed with lz4", "unpack it with lz4 -d, or pack it with zstd"),
    b"\x1f\x9d": ("packed with compress", "unpack it with gzip -d"),
    b"LZIP": ("packed with lzip", "unpack it with lzip -d, or pack it with xz"),
    b"%PDF-": ("a PDF", "give its text, e.g. by pdftotext"),
    b"ARROW1\x00\x00": ("an Arrow file", "write it as Parquet"),
    b"Obj\x01": ("an Avro file", "write it as Parquet or JSON Lines"),
    b"ORC": ("an ORC file", "write it as Parquet or JSON Lines"),
    b"SQLite format 3\x00": ("an SQLite database", "write its text as JSON Lines"),
    b"\x89HDF\r\n\x1a\n": ("an HDF5 file", "write its text as JSON Lines"),
    b"\x93NUMPY": ("a NumPy array", "give the text, or the .idx and .bin that Megatron-LM's preprocessing makes of it"),
}
OF_THE_SYSTEM = ("proc", "sys", "dev")  # folders of views and devices
TAR_MARK = (257, b"ustar")
Shape = Literal["lines", "array", "object"]


@dataclass(frozen=True)
class Kind:
    """What a file is.

    records: its content alone tells that it holds documents. json_lines: so it looks, whatever reads it.
    refusal: a line that says why it is not read, with the way out.
    """

    reader: str
    encoding: str = "utf-8"
    records: bool = False
    json_lines: bool = False
    refusal: str | None = None


def kind_of(path: Path, data: DataConfig) -> Kind:
    """Look at a file. data: as it holds for its source.

    Raises UserError, with the way out, for what cannot be text: archives, numbers, half of a pair; and OSError.
    """
    raw = first_bytes(path)
    head, compressions = _content(path, raw)
    claimed = reader_by_magic(head)
    own = readers_by_suffix().get(suffix_of(path.name))
    reader = READERS[data.format] if data.format else claimed or own
    if reader is not None and compressions and not reader.unpacks:
        packed = compressions[0]
        raise UserError(f"data: {path} is {reader.name} packed with {packed}; unpack it, it is packed inside already")
    if (claimed and not data.format) or (reader is not None and not reader.unpacks):
        assert reader is not None
        return Kind(reader.name, records=claimed is not None)
    if not data.format:
        _refuse_foreign(path, head)
    encoding = next((name for mark, name in MARKS.items() if head.startswith(mark)), data.encoding)
    if encoding == "utf-8":
        _refuse_wide(path, head)
    text, whole = head.decode(encoding, errors="ignore"), len(head) < LOOK_BYTES
    shape = json_shape(text, whole)
    if reader is not None and reader.name != JSON_LINES:
        return Kind(reader.name, encoding, json_lines=shape == "lines")
    named = reader is not None or suffix_of(path.name) == ".json"
    lines = shape == "lines" or (named and shape is None and text.lstrip().startswith("{"))
    found = reader or READERS[JSON_LINES if lines else DEFAULT]
    records = (lines and _several(text)) or (shape is not None and f'"{data.field.partition(".")[0]}"' in text)
    return Kind(found.name, encoding, records, shape == "lines", _json_refusal(path, shape, named, compressions))


def first_bytes(path: Path) -> bytes:
    """The first bytes of a file. Raises UserError for what is none of a disk, and does not wait for it; OSError."""
    where = path.resolve()
    if where.parts[1:2] and where.parts[1] in OF_THE_SYSTEM and where.parts[:3] != ("/", "dev", "shm"):
        raise UserError(f"data: {path} is a view into the system, no file; copy what is wanted of it into one")
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb") as file:
        return file.read(LOOK_BYTES) or b""


def json_shape(text: str, whole: bool) -> Shape | None:
    """What of JSON a text begins with: an object a line, one array, one object over several lines; null: none of it.

    whole: the text is all there is; otherwise it is the beginning.
    """
    text = text.lstrip()
    if re.match(r'\[\s*(\{\s*["}]|\[|"|-?\d|true|false|null|\])', text):
        return "array" if not whole or _parsed(text) is not None else None
    if not re.match(r'\{\s*["}]', text):
        return None
    first, newline, _ = text.partition("\n")
    if not newline and not whole:
        return "lines"
    if isinstance(_parsed(first), dict):
        return "lines"
    try:
        return "object" if "\n" in text[: json.JSONDecoder().raw_decode(text)[1]] else None
    except (ValueError, RecursionError):
        return "object" if not whole and re.search(r"[{,\[]\s*$", first) else None


def _parsed(text: str) -> object | None:
    try:
        return json.loads(text)  # type: ignore[no-any-return]
    except (ValueError, RecursionError):
        return None


def _content(path: Path, raw: bytes) -> tuple[bytes, tuple[str, ...]]:
    """The first bytes below the compressions, and these. Raises UserError for tar archives and torn files."""
    head, compressions = raw, tuple[str, ...]()
    if compression_of(raw) or path.suffix.lower() in COMPRESSED:
        with path.open("rb") as file:
            _, head, compressions = unpacked(file, path, raw, LOOK_BYTES)
    at, mark = TAR_MARK
    if head[at : at + len(mark)] == mark:
        raise UserError(f"data: {path} is a tar archive; unpack it with tar -xf into a folder and name that")
    return head, compressions


def _refuse_foreign(path: Path, head: bytes) -> None:
    for beginning, (what, way_out) in FOREIGN.items():
        if head.startswith(beginning) and (b"\0" in head or not _is_utf8(head)):
            raise UserError(f"data: {path} is {what}; {way_out}")
    if path.suffix.lower() in {one.beside for one in READERS.values()}:
        raise UserError(
            f"data: {path} holds tokens or other numbers, and no {path.stem}.idx beside it says where documents "
            "begin; give the text that it was made of, or the pair that Megatron-LM's preprocessing makes"
        )


def _is_utf8(head: bytes) -> bool:
    """Whether a beginning can be text. Characters that only a program writes count as none."""
    try:
        text = head[: len(head) - 3].decode() if len(head) >= LOOK_BYTES else head.decode()
    except UnicodeDecodeError as error:
        return len(head) >= LOOK_BYTES and error.start >= len(head) - 6
    return not re.search(r"[\x00-\x08\x0e-\x1a]", text)


def _refuse_wide(path: Path, head: bytes) -> None:
    """UTF-16 without a mark reads as UTF-8 full of NUL characters."""
    if b"\0" not in head:
        return
    pairs = len(head) // 2
    for offset, name in ((1, "utf-16-le"), (0, "utf-16-be")):
        nuls, others = head[offset : 2 * pairs : 2].count(0), head[1 - offset : 2 * pairs : 2].count(0)
        if pairs >= 4 and nuls > 0.6 * pairs and others < 0.05 * pairs:
            raise UserError(f"data: {path} looks like UTF-16 without a byte order mark; say data.encoding={name}")


def _json_refusal(path: Path, shape: Shape | None, named: bool, compressions: tuple[str, ...]) -> str | None:
    """named: the name says that it is JSON; otherwise one object may be text of any kind."""
    if shape == "array":
        what, program = "one JSON array", "'.[]'"
    elif shape == "object" and named:
        what, program = "one JSON object over several lines", "."
    else:
        return None
    lines = f"{path.name.partition('.')[0] or path.name}.lines.jsonl"
    command = f"jq -c {program} {path.name}"
    if compressions:
        command = f"{compressions[0]} -dc {path.name} | jq -c {program}"
    return (
        f"data: {path} is {what}, not an object a line; {command} > {lines} makes it so "
        "(data.format=text reads it as it is)"
    )


def _several(text: str) -> bool:
    return text.lstrip().partition("\n")[2].lstrip().startswith("{")
