"""A file of a corpus, and the parts in which its documents arrive."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class Source:
    """One file of the corpus. `name` does not depend on where the corpus lies; `origin` is its part of a mixture.

    reader: name of what reads it. encoding: of its bytes; utf-8-sig, utf-16 and utf-32 begin with a byte order mark.
    partner: the file of the other language where it is one of two that hold the same text.
    """

    origin: str
    name: str
    path: Path
    size: int
    mtime_ns: int
    reader: str = "text"
    encoding: str = "utf-8"
    partner: Source | None = None


@dataclass(frozen=True)
class DocumentPart:
    """A piece of a document. `first` and `last` mark the document's edges; `read` is how many file bytes it took.

    tokens: int64, of a document that came tokenised; its text is read out of them later. joins: the next document is
    the same text in another language: both are kept or neither is, on one side of the split.
    """

    name: str
    text: str
    first: bool
    last: bool
    read: int
    tokens: np.ndarray | None = None
    joins: bool = False
