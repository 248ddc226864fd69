"""Documents of text files and of JSON Lines, plain or compressed.

A document arrives in parts of about a mebibyte, so that a file of any size is read in little memory. An empty one comes
as one empty part.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from trainer.config import DataConfig
from trainer.data.document import DocumentPart, Source
from trainer.data.files import blocks, decoded, lines
from trainer.utils.errors import UserError, nearest


def text_documents(source: Source, data: DataConfig) -> Iterator[DocumentPart]:
    """A text file as `data.document` has it: one document, or one for every paragraph or line."""
    return _whole_file(source) if data.document == "file" else _pieces_of_file(source, data.document)


def _whole_file(source: Source) -> Iterator[DocumentPart]:
    offset = 0
    previous: DocumentPart | None = None
    for block in blocks(source):
        text = decoded(source, block, offset)
        if previous:
            yield previous
        previous = DocumentPart(source.name, text, first=offset == 0, last=False, read=len(block))
        offset += len(block)
    if previous:
        yield DocumentPart(previous.name, previous.text, previous.first, True, previous.read)
    else:
        yield DocumentPart(source.name, "", True, True, 0)


def _pieces_of_file(source: Source, document: str) -> Iterator[DocumentPart]:
    """Every line, or every run of lines between blank ones, as a document of its own."""
    gathered: list[str] = []
    read, empty = 0, True
    for number, line, size in lines(source):
        read += size
        blank = not line.strip()
        if not blank:
            gathered.append(line)
        if gathered and (blank or document == "line"):
            yield DocumentPart(f"{source.name}:{number}", "".join(gathered).rstrip("\r\n"), True, True, read)
            gathered, read, empty = [], 0, False
    if gathered or empty:
        yield DocumentPart(source.name, "".join(gathered).rstrip("\r\n"), True, True, read)


def json_documents(source: Source, data: DataConfig) -> Iterator[DocumentPart]:
    """Of every line's object the field `data.field`."""
    field, empty = data.field, True
    for number, line, size in lines(source):
        if not line.strip():
            continue
        empty = False
        where = f"{source.path} line {number}"
        try:
            record = json.loads(line)
        except json.JSONDecodeError as error:
            raise UserError(f"data: {where} is not whole JSON: {error.msg} at column {error.colno}") from None
        except (ValueError, RecursionError) as error:  # a number of thousands of digits, brackets thousands deep
            raise UserError(f"data: {where} is JSON that cannot be read: {error}") from None
        if not isinstance(record, dict):
            raise UserError(f"data: {where} is a JSON {type(record).__name__}, not an object with a field {field!r}")
        text = value_at(record, field, where)
        if not isinstance(text, str):
            raise UserError(f"data: {where}: the field {field!r} holds no text but {json.dumps(text)[:40]}")
        check_characters(text, f"data: {where}")
        yield DocumentPart(f"{source.name}:{number}", text, True, True, size)
    if empty:
        yield DocumentPart(source.name, "", True, True, source.size)


def check_characters(text: str, where: str) -> None:
    """Raise UserError where the text has no UTF-8: JSON can spell half a surrogate pair."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise UserError(f"{where}: half a surrogate pair at character {error.start} is no text") from None


def value_at(record: dict[str, Any], field: str, where: str) -> Any:
    """The field of a record; `a.b` is the field b of what a holds, unless a field is called so.

    Raises UserError with the fields that are there.
    """
    if field in record:
        return record[field]
    found: Any = record
    names = field.split(".")
    for depth, name in enumerate(names):
        if not isinstance(found, dict) or name not in found:
            known = [".".join([*names[:depth], one]) for one in found] if isinstance(found, dict) else [*record]
            raise UserError(
                f"data: {where} has no field {field!r}{nearest(field, known)}; "
                f"set data.field to one of {', '.join(known)}"
            )
        found = found[name]
    return found
