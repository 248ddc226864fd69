"""The cleaning that everyone needs, and no more: one form of Unicode, no text twice, no text too short or too long.

Every step is off by default, and says what it did.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from trainer.config import DataConfig
from trainer.data.document import DocumentPart

# Why a document is left out.
EMPTY, DUPLICATE, SHORT, LONG = "empty", "duplicate", "short", "long"


def normalised(parts: Iterator[tuple[str, DocumentPart]], data: DataConfig) -> Iterator[tuple[str, DocumentPart]]:
    """The same (origin, part)s in one Unicode form. A part ends behind a newline, which no form joins to anything."""
    if data.normalize == "none":
        yield from parts
        return
    form = data.normalize.upper()
    for origin, part in parts:
        yield origin, replace(part, text=unicodedata.normalize(form, part.text))  # type: ignore[arg-type]


@dataclass
class Cleaner:
    """Decides, document after document, which are kept."""

    data: DataConfig
    dropped: dict[str, int] = field(default_factory=lambda: dict.fromkeys((EMPTY, DUPLICATE, SHORT, LONG), 0))
    seen: set[bytes] = field(default_factory=set)

    def keep(self, digest: bytes, characters: int) -> bool:
        """Whether to keep the document with this sha256 and length."""
        reason = self._reason(digest, characters)
        if reason:
            self.dropped[reason] += 1
        return reason is None

    def _reason(self, digest: bytes, characters: int) -> str | None:
        if not characters:
            return EMPTY
        if characters < self.data.shortest:
            return SHORT
        if self.data.longest is not None and characters > self.data.longest:
            return LONG
        if self.data.deduplicate:
            if digest[:16] in self.seen:
                return DUPLICATE
            self.seen.add(digest[:16])
        return None
