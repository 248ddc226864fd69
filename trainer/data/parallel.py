"""Parallel text: pages in two languages, paired text by text, or records that hold a text in each.

Pages are matched by their names, their paragraphs (or lines) by their numbers, where both pages have as many. A pair
becomes two documents, one behind the other, in the order of the languages' names.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from trainer.config import DataConfig
from trainer.data.document import DocumentPart, Source
from trainer.data.files import lines
from trainer.data.finding import Fetch, files_of
from trainer.data.readers import check_characters, value_at
from trainer.descriptions.readers import DEFAULT, suffix_of
from trainer.utils.errors import UserError, nearest

RECORDS, TABLE = "jsonl", ".tsv"  # the reader of records, and the suffix of a table with a line of names
SHOWN = 3  # pages that a note names


@dataclass
class PairAccount:
    """What became of the text of two languages: pages and pairs that are read, texts without one on the other side, and
    pages that are left out, as they have unequal numbers of texts."""

    pages: int = 0
    paired: int = 0
    blank: int = 0
    unequal: int = 0
    examples: list[str] = field(default_factory=list)  # of the pages that are left out

    def leave_out(self, page: str) -> None:
        """One more page, described."""
        self.unequal += 1
        if len(self.examples) < SHOWN:
            self.examples.append(page)

    def text(self, origin: str, what: str) -> str:
        """One line."""
        said = f"data.parallel: {origin}: {self.paired:,} pairs of {what} from {self.pages:,} pages or files"
        if self.blank:
            said += f"; {self.blank:,} are left out, as one side is empty"
        if self.unequal:
            said += f"; {self.unequal:,} pages are left out, as their {what} are not equally many: "
            said += ", ".join(self.examples) + (" ..." if self.unequal > len(self.examples) else "")
        return said

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


PairAccounts = dict[str, PairAccount]  # by the name of the two languages


# --- files -----------------------------------------------------------------------------------------------------------


def parallel_files(data: DataConfig, fetch: Fetch | None, notes: list[str]) -> list[Source]:
    """The files of `data.parallel`: of every pair of languages those that hold both, or are a page of the first with
    its partner. notes: takes a line for pages that are in one language alone.

    Raises UserError where two languages have nothing in common.
    """
    found: dict[str, list[Source]] = {}
    for language, paths in data.parallel.items():
        found[language] = files_of(
            language, f"data.parallel.{language}", data.model_copy(update={"path": paths}), fetch, notes
        )
    pairs: list[Source] = []
    for origin, (first, second) in data.pairs.items():
        if data.parallel[first] == data.parallel[second]:
            pairs += [_of_records(origin, source, data) for source in found[first]]
        else:
            pairs += _of_pages(origin, {name: found[name] for name in (first, second)}, notes)
    return pairs


def _of_records(origin: str, source: Source, data: DataConfig) -> Source:
    """A file that holds both languages."""
    if source.reader != RECORDS and suffix_of(source.name) != TABLE:
        raise UserError(
            f"data.parallel: {source.path} is given for both languages of {origin}, and is no file of records: name "
            f"JSON lines with a field for each language, a {TABLE} with a column for each, or a folder for each"
        )
    return replace(source, origin=origin)


def _of_pages(origin: str, files: dict[str, list[Source]], notes: list[str]) -> list[Source]:
    """The pages of the first language that the second one has, too."""
    (first, _), (second, _) = files.items()
    for one in (source for sources in files.values() for source in sources):
        if one.reader != DEFAULT:
            raise UserError(
                f"data.parallel: {one.path} is read as {one.reader}, pages are text; a file of records "
                f"that hold both languages is named for {first} and for {second}"
            )
    pages = {language: _by_page(language, sources) for language, sources in files.items()}
    if all(len(sources) == 1 for sources in files.values()):  # whatever they are called
        pages = {language: {"": sources[0]} for language, sources in files.items()}
    common = sorted(pages[first].keys() & pages[second].keys())
    if not common:
        seen = {language: ", ".join(sorted(named)[:SHOWN]) for language, named in pages.items()}
        raise UserError(
            f"data.parallel: {first} and {second} have no page of the same name; {first} has {seen[first]}, {second} "
            f"has {seen[second]}"
        )
    for language, other in ((first, second), (second, first)):
        if alone := sorted(pages[language].keys() - pages[other].keys()):
            more = " ..." if len(alone) > SHOWN else ""
            notes.append(
                f"data.parallel: {len(alone):,} pages are in {language} and not in {other}, and are not read: "
                f"{', '.join(alone[:SHOWN])}{more}"
            )
    return [
        replace(pages[first][page], origin=origin, partner=replace(pages[second][page], origin=origin))
        for page in common
    ]


def _by_page(language: str, sources: list[Source]) -> dict[str, Source]:
    """The files of a language by the names of their pages. Raises UserError where two have one name."""
    pages: dict[str, Source] = {}
    for one in sources:
        other = pages.setdefault(_page(one.name, language), one)
        if other is not one:
            raise UserError(
                f"data.parallel.{language}: {other.path} and {one.path} are both the page {_page(one.name, language)}: "
                "name the folder that their folders lie in, or call them otherwise"
            )
    return pages


def _page(name: str, language: str) -> str:
    """The name of a page without its language: ls.1 of ls.1, of ls.de.1 and of ls.1.de."""
    begin, *parts = name.split(".")
    return ".".join([begin, *(part for part in parts if part != language)])


# --- texts -----------------------------------------------------------------------------------------------------------


def paired_documents(source: Source, data: DataConfig, accounts: PairAccounts | None = None) -> Iterator[DocumentPart]:
    """The documents of a file that `parallel_files` gave: the two texts of each pair, one behind the other.

    accounts: takes what becomes of the file's texts.
    """
    account = (accounts if accounts is not None else {}).setdefault(source.origin, PairAccount())
    pairs = _records(source, data) if source.partner is None else _pages(source, source.partner, data, account)
    some = False
    for number, first, second, size in pairs:
        if not first.strip() or not second.strip():
            account.blank += 1
            continue
        name, some = f"{source.name}:{number}", True
        account.paired += 1
        yield DocumentPart(name, first, True, True, size, joins=True)
        yield DocumentPart(name, second, True, True, 0)
    account.pages += some


Pair = tuple[int, str, str, int]  # number, a text in either language, bytes that were read for it


def _pages(source: Source, partner: Source, data: DataConfig, account: PairAccount) -> Iterator[Pair]:
    """The texts of two pages by number, if both have as many."""
    counts = [sum(1 for _ in _texts(one, data)) for one in (source, partner)]
    first, second = data.pairs[source.origin]
    if counts[0] != counts[1]:
        account.leave_out(f"{source.name} ({counts[0]:,} in {first}, {counts[1]:,} in {second})")
        return
    size = (source.size + partner.size) // max(1, counts[0])
    for number, (a, b) in enumerate(zip(_texts(source, data), _texts(partner, data), strict=True), start=1):
        yield number, a, b, size


def _texts(source: Source, data: DataConfig) -> Iterator[str]:
    """The texts of a page: its paragraphs, its lines with the empty ones, or the whole."""
    gathered: list[str] = []
    for _, line, _ in lines(source):
        if data.document == "line":
            yield line.rstrip("\r\n")
        elif data.document == "file" or line.strip():
            gathered.append(line)
        elif gathered:
            yield "".join(gathered).rstrip("\r\n")
            gathered = []
    if gathered:
        yield "".join(gathered).rstrip("\r\n")


def _records(source: Source, data: DataConfig) -> Iterator[Pair]:
    """A pair for each line. Raises UserError for a line that lacks a language."""
    languages = data.pairs[source.origin]
    if suffix_of(source.name) == TABLE:
        yield from _rows(source, languages)
        return
    fields = [name if data.field == "text" else f"{data.field}.{name}" for name in languages]
    for number, line, size in lines(source):
        if not line.strip():
            continue
        where = f"{source.path} line {number}"
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise UserError(f"data: {where} is no JSON that can be read: {error}") from None
        if not isinstance(record, dict):
            raise UserError(f"data: {where} is a JSON {type(record).__name__}, not an object with a field a language")
        first, second = (_text_of(record, field, where) for field in fields)
        yield number, first, second, size


def _text_of(record: dict[str, Any], field: str, where: str) -> str:
    if field not in record and "." not in field:
        raise UserError(
            f"data.parallel: {where} has no language {field!r}{nearest(field, record)}; it has {', '.join(record)}"
        )
    text = value_at(record, field, where)
    if text is None:
        return ""
    if not isinstance(text, str):
        raise UserError(f"data: {where}: the field {field!r} holds no text but {json.dumps(text)[:40]}")
    check_characters(text, f"data: {where}: {field}")
    return text


def _rows(source: Source, languages: tuple[str, str]) -> Iterator[Pair]:
    """Lines with a column for each language, which the first line names."""
    names: list[str] = []
    for number, line, size in lines(source):
        cells = line.rstrip("\r\n").split("\t")
        if not names:
            names = [cell.strip() for cell in cells]
            if missing := [one for one in languages if one not in names]:
                raise UserError(
                    f"data.parallel: {source.path}: its first line names no column {missing[0]!r}"
                    f"{nearest(missing[0], names)}; it names {', '.join(names)[:80]}"
                )
            continue
        if cells == [""]:  # an empty line
            continue
        if len(cells) != len(names):
            raise UserError(f"data.parallel: {source.path} line {number} has {len(cells)} columns, not {len(names)}")
        first, second = (cells[names.index(one)] for one in languages)
        yield number, first, second, size


def texts_are(data: DataConfig) -> str:
    """What the texts of a pair are, for a person."""
    return {"file": "pages", "paragraph": "paragraphs", "line": "lines"}[data.document]


def nothing_paired(accounts: PairAccounts, data: DataConfig) -> str | None:
    """A line where a pair of languages has no pair of texts at all."""
    for origin in data.pairs:
        account = accounts.get(origin)
        if account is not None and not account.paired:
            return account.text(origin, texts_are(data)) + "; nothing is left to read"
    return None
