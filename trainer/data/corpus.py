"""Where text comes from: a stream of documents, in an order that depends on the files alone."""

from __future__ import annotations

import os
import sysconfig
from collections.abc import Iterator
from pathlib import Path

from trainer.config import DataConfig
from trainer.data.document import DocumentPart, Source
from trainer.data.finding import Fetch, files_of, source_of
from trainer.data.parallel import PairAccounts, paired_documents, parallel_files
from trainer.data.unpacking import library
from trainer.descriptions.readers import READERS
from trainer.utils.errors import UserError

# Packages that some installations of Python lack, folders that are no library text, and generated tables: what repeats
# is learned first, and a small model trained on character maps writes character maps.
STDLIB_SKIPPED = (
    "site-packages dist-packages __pycache__ test tests idlelib tkinter turtledemo lib2to3 distutils ensurepip "
    "lib-dynload encodings pydoc_data"
)


def sources(data: DataConfig, fetch: Fetch | None = None, notes: list[str] | None = None) -> list[Source]:
    """The corpus's files, sorted by name; `fetch` brings hf://... and other URLs to this disk.

    notes: takes a line for what is not read, or not as it may be meant. Raises UserError when there are no files.
    """
    said: list[str] = [] if notes is None else notes
    found: list[Source] = []
    if data.name == "stdlib":
        found = _stdlib()
    elif data.name == "text":
        found = files_of("text", "data.path", data, fetch, said)
    else:
        found = parallel_files(data, fetch, said) if data.parallel else []
        for name in data.sources:
            found += files_of(name, f"data.sources.{name}.path", data.of_source(name), fetch, said)
    return sorted(found, key=lambda file: (file.origin, file.name))


def parts(
    data: DataConfig, files: list[Source], accounts: PairAccounts | None = None
) -> Iterator[tuple[str, DocumentPart]]:
    """(origin, part): all documents of all files, part by part. Empty documents come as one empty part.

    accounts: takes what becomes of the pairs of a parallel text.
    """
    groups = {origin: data.of_source(origin) for origin in {source.origin for source in files}}
    for source in files:
        try:
            for part in _documents(source, groups[source.origin], accounts):
                yield source.origin, part
        except OSError as error:
            raise UserError(f"data: cannot read {source.path}: {error.strerror or error}") from None


def _documents(source: Source, data: DataConfig, accounts: PairAccounts | None) -> Iterator[DocumentPart]:
    if source.origin in data.pairs:
        return paired_documents(source, data, accounts)
    reader = READERS[source.reader]
    if reader.library is not None:
        library(reader.library, source.path)
    documents: Iterator[DocumentPart] = READERS.implementation(reader.name)(source, data)
    return documents


def _stdlib() -> list[Source]:
    root = Path(sysconfig.get_path("stdlib"))
    skipped = STDLIB_SKIPPED.split()
    found = []
    for folder, folders, files in os.walk(root):
        folders[:] = [
            name for name in folders if name not in skipped and not name.startswith("config-") and "_test" not in name
        ]
        for name in files:
            path = Path(folder, name)
            if name.endswith(".py") and not name.startswith("_sysconfigdata") and not path.is_symlink():
                found.append(source_of("stdlib", path, root))
    if not found:
        raise UserError(f"data=stdlib: no standard library sources in {root}; use data=text data.path=...")
    return found
