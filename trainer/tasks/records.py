"""Records from files: JSON Lines, JSON (also SQuAD's), CSV and TSV, each record knowing where it stands."""

from __future__ import annotations

import csv
import glob
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from trainer.data.finding import globbed
from trainer.data.readers import check_characters
from trainer.utils.bounded import no_file, parse_json
from trainer.utils.errors import UserError, nearest
from trainer.utils.home import expanded

SUFFIXES = (".jsonl", ".json", ".csv", ".tsv")


@dataclass(frozen=True)
class Record:
    """One example as it was written."""

    fields: dict[str, Any]
    where: str  # file and line, for a person

    def get(self, name: str) -> Any:
        """The value of a field. Raises UserError naming file, line and field where it is missing or null."""
        if name in self.fields and self.fields[name] is None:
            raise UserError(f"{self.where}: {name}: nothing stands there, a value wanted")
        if name not in self.fields:
            has = ", ".join(map(str, self.fields)) or "none"
            raise UserError(f"{self.where}: no field {name!r}{nearest(name, map(str, self.fields))}; it has {has}")
        return self.fields[name]

    def text(self, name: str) -> str:
        """A field as text. Raises UserError also where it is empty, no text or half a character."""
        value = self.get(name)
        if isinstance(value, int | float) and not isinstance(value, bool):
            value = str(value)
        if not isinstance(value, str):
            raise UserError(f"{self.where}: {name}: {type(value).__name__} found, a text wanted")
        if not value.strip():
            raise UserError(f"{self.where}: {name}: the text is empty")
        check_characters(value, f"{self.where}: {name}")
        return value


def read_records(paths: Iterable[str], key: str, columns: Sequence[str] | None = None) -> list[Record]:
    """All records of files or globs, in order. key: who named them, for errors.

    columns: of CSV and TSV files whose first line is a record already."""
    records: list[Record] = []
    for given in paths:
        pattern = str(expanded(given))
        files = sorted(globbed(key, pattern)) if glob.has_magic(pattern) else [pattern]
        if not files:
            raise UserError(f"{key}: nothing matches {given}")
        for file in map(Path, files):
            if file.suffix not in SUFFIXES:
                raise UserError(f"{key}: {file}: records are read from {', '.join(SUFFIXES)} files")
            if wrong := no_file(file):
                raise UserError(f"{key}: cannot read {file}: {wrong}")
            try:
                records += _read(file, columns)
            except OSError as error:
                raise UserError(f"{key}: cannot read {file}: {error.strerror or error}") from None
            except UnicodeDecodeError:
                raise UserError(f"{key}: {file}: not UTF-8 text") from None
            except csv.Error as error:
                raise UserError(f"{key}: {file}: {error}") from None
    if not records:
        raise UserError(f"{key}: {', '.join(paths)}: there are no records")
    return records


def split(records: list[Record], held_out: Iterable[str], share: float, key: str) -> tuple[list[Record], list[Record]]:
    """Training and held-out records; where no held-out files are named, a share of all, chosen by their hash."""
    files = list(held_out)
    if files:
        return records, read_records(files, key)
    texts = [json.dumps(one.fields, sort_keys=True, default=str) for one in records]
    places = np.array([int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) / 2**64 for text in texts])
    held = (places < share) | (places == places.min())
    if held.all():
        raise UserError(f"{key}: one record cannot be divided; give held-out files too")
    return [records[i] for i in np.flatnonzero(~held)], [records[i] for i in np.flatnonzero(held)]


Given = TypeVar("Given")
Made = TypeVar("Made")


def each(make: Callable[[Given], Made], given: Iterable[Given]) -> list[Made]:
    """make(one) of all. Raises UserError with what is wrong with the first eight that are, and how many more are."""
    made, wrong = [], []
    for one in given:
        try:
            made.append(make(one))
        except UserError as error:
            wrong.append(str(error))
    if wrong:
        more = [f"... and {len(wrong) - 8} more"] if len(wrong) > 8 else []
        raise UserError("\n".join([*wrong[:8], *more]))
    return made


def _read(file: Path, columns: Sequence[str] | None) -> Iterator[Record]:
    if file.suffix in (".csv", ".tsv"):
        with file.open(newline="", encoding="utf-8-sig") as lines:
            # GLUE's TSV files do not quote.
            rules: dict[str, Any] = {"delimiter": "\t", "quoting": csv.QUOTE_NONE} if file.suffix == ".tsv" else {}
            reader = csv.DictReader(lines, columns, restval=None if columns is None else "", **rules)
            for row in reader:
                if None in row:
                    wanted = "the first line names" if columns is None else f"{' and '.join(columns)}"
                    raise UserError(f"{file}:{reader.line_num}: more columns than {wanted}")
                yield Record(row, f"{file}:{reader.line_num}")
    elif file.suffix == ".jsonl":
        # Not splitlines(), which also parts a text at characters that JSON leaves within it, like U+2028.
        for number, line in enumerate(file.read_text(encoding="utf-8-sig").split("\n"), 1):
            if line.strip():
                yield Record(_object(_parsed(line, f"{file}:{number}"), f"{file}:{number}"), f"{file}:{number}")
    else:
        content = _parsed(file.read_text(encoding="utf-8-sig"), str(file))
        try:
            found = _squad(content["data"]) if isinstance(content, dict) and "data" in content else content
        except (AttributeError, TypeError):
            raise UserError(f"{file}: 'data' is not of SQuAD's form: articles with paragraphs with qas") from None
        if not isinstance(found, list):
            raise UserError(f"{file}: a list of records wanted, or SQuAD's form with 'data'")
        for number, one in enumerate(found, 1):
            yield Record(_object(one, f"{file}: record {number}"), f"{file}: record {number}")


def _parsed(text: str, where: str) -> Any:
    try:
        return parse_json(text)
    except ValueError as error:
        raise UserError(f"{where}: not JSON ({error})") from None


def _object(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise UserError(f"{where}: an object with fields wanted, {type(value).__name__} found")
    return value


def _squad(articles: Any) -> list[dict[str, Any]]:
    """One record for every question (Rajpurkar et al. 2016), as the hub's copies have them."""
    return [
        {"context": paragraph.get("context"), **question}
        for article in articles
        for paragraph in (article.get("paragraphs", [article]) if isinstance(article, dict) else [])
        for question in paragraph.get("qas", [{}])
    ]
