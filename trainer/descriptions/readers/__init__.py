"""Kinds of files that a corpus is read from."""

from __future__ import annotations

from functools import cache
from pathlib import PurePath
from typing import Any, ClassVar

from trainer.descriptions.registry import Description, Registry
from trainer.utils.errors import UserError
from trainer.utils.schema import key

COMPRESSED = (".gz", ".gzip", ".zst", ".zstd", ".xz", ".lzma", ".bz2")  # what a file of any kind may be packed with
DEFAULT = "text"  # reads files of other suffixes, where they are named one by one
JSON_LINES = "jsonl"  # reads them where their content says so and their suffix does not


class ReaderDescription(Description):
    """What must be known of a kind of files before one is opened.

    `implementation` gives the documents of a file: (`trainer.data.document.Source`, `DataConfig`) -> iterator of
    `trainer.data.document.DocumentPart`. All readers take part in a run; a file's first bytes choose among them, then
    its suffix.
    """

    suffixes: ClassVar[tuple[str, ...]]  # in small letters, without that of a compression
    magic: ClassVar[tuple[bytes, ...]] = ()  # first bytes of its files, whatever they are named
    unpacks: ClassVar[bool] = True  # reads by trainer.data.files, which opens compressed files
    library: ClassVar[str | None] = None  # package that must be installed
    beside: ClassVar[str | None] = None  # suffix of a second file that belongs to each; both are named by their prefix

    def takes_part(self, group: Any) -> bool:
        """Whether the group `data` names files of this kind; those in a folder that it names are not seen here."""
        named = self.name in (group.format, *(source.format for source in group.sources.values()))
        return super().takes_part(group) or named or any(suffix_of(path) in self.suffixes for path in group.places)


READERS = Registry("reader", "trainer.descriptions.readers", ReaderDescription)


class FieldKeys(ReaderDescription.Keys):
    """Of files whose documents have fields."""

    field: str = key("text", "JSONL field or Parquet column that holds a document's text; a.b: field b of a")


def suffix_of(name: str) -> str:
    """What tells the kind of a file, below its compression: `.jsonl` of `a.jsonl.gz`."""
    path = PurePath(name.lower())
    return PurePath(path.stem).suffix if path.suffix in COMPRESSED else path.suffix


def reader_of(name: str) -> ReaderDescription:
    """The reader of a file of this name. Raises UserError where two readers claim a suffix."""
    return readers_by_suffix().get(suffix_of(name), READERS[DEFAULT])


def readers_by_suffix() -> dict[str, ReaderDescription]:
    """Files of these suffixes are read wherever they are in a folder. Raises UserError where two readers claim one."""
    return _by_suffix(tuple(READERS.values()))


def reader_by_magic(head: bytes) -> ReaderDescription | None:
    """The reader whose files begin so; the longest beginning wins."""
    claims = ((len(magic), one) for one in READERS.values() for magic in one.magic if head.startswith(magic))
    return max(claims, key=lambda claim: claim[0], default=(0, None))[1]


@cache
def _by_suffix(readers: tuple[ReaderDescription, ...]) -> dict[str, ReaderDescription]:
    found: dict[str, ReaderDescription] = {}
    for reader in readers:
        for suffix in reader.suffixes:
            other = found.setdefault(suffix, reader)
            if other is not reader:
                raise UserError(f"reader {reader.name}: {suffix} files are read by {other.name}; take other suffixes")
    return found
