"""manifest.json of a publication: what it was made of, what was made, and a sha256 of every file and of itself.

Of every file it also keeps two sums over its bytes. With these a single changed byte is found and named, although
the file itself is not there twice.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainer import __version__
from trainer.utils.bounded import parse_json, read_bytes
from trainer.utils.errors import UserError

FILE, KIND, VERSION = "manifest.json", "isoflop publication", 1
RAW = "raw"
PRIME = (1 << 61) - 1  # larger than any sum of two bytes' difference times a position
BLOCK = 1 << 16


@dataclass(frozen=True)
class Fingerprint:
    """Of one file: its length, its sha256, and sums of its bytes, plain and each times its place, modulo PRIME."""

    length: int  # bytes
    sha256: str
    sums: tuple[int, int]

    @classmethod
    def of(cls, content: bytes) -> Fingerprint:
        return cls(len(content), hashlib.sha256(content).hexdigest(), _sums(content))

    def difference(self, content: bytes) -> str | None:
        """What is no longer as it was, in words; null where nothing is. A single changed byte is named, counted from 0,
        with what stood there."""
        if hashlib.sha256(content).hexdigest() == self.sha256:
            return None
        if len(content) != self.length:
            return f"{len(content):,} bytes where {self.length:,} were"
        (plain, placed), (then, there) = _sums(content), self.sums
        step = (plain - then) % PRIME
        change = step if step < 256 else step - PRIME
        if change == 0 or abs(change) > 255:
            return "more than one byte is changed"
        place = (placed - there) * pow(change % PRIME, -1, PRIME) % PRIME - 1
        if not (0 <= place < len(content) and 0 <= content[place] - change < 256):
            return "more than one byte is changed"
        old = content[place] - change
        restored = content[:place] + bytes([old]) + content[place + 1 :]
        if hashlib.sha256(restored).hexdigest() != self.sha256:
            return "more than one byte is changed"
        line = content.count(b"\n", 0, place) + 1
        return f"byte {place:,} (line {line:,}) is {bytes([content[place]])!r}, and was {bytes([old])!r}"

    def to_json(self) -> dict[str, Any]:
        return {"bytes": self.length, "sha256": self.sha256, "sums": [f"{one:x}" for one in self.sums]}


def _sums(content: bytes) -> tuple[int, int]:
    """Sum of all bytes, and of each times its place from 1 on, modulo PRIME."""
    import numpy as np

    plain = placed = 0
    ramp = np.arange(1, BLOCK + 1, dtype=np.int64)
    for start in range(0, len(content), BLOCK):
        part = np.frombuffer(content, np.uint8, min(BLOCK, len(content) - start), start).astype(np.int64)
        total = int(part.sum())
        plain += total
        placed += int((part * ramp[: len(part)]).sum()) + start * total
    return plain % PRIME, placed % PRIME


@dataclass(frozen=True)
class Manifest:
    """What a publication says of itself."""

    settings: Mapping[str, Any]  # what was asked for: which model, which names
    sources: Mapping[str, Fingerprint]  # by name below raw/
    derived: Mapping[str, Fingerprint]  # by name in the folder
    copied: bool  # whether the sources lie in the folder
    isoflop: str = __version__

    @property
    def claim(self) -> str:
        """One sha256 that stands for all sources and settings: the number that a paper quotes."""
        return claim_of(self.sources, self.settings)

    def to_text(self) -> str:
        facts = {
            "kind": KIND,
            "version": VERSION,
            "isoflop": self.isoflop,
            "claim": self.claim,
            "settings": dict(self.settings),
            "copied": self.copied,
            "sources": {name: one.to_json() for name, one in self.sources.items()},
            "derived": {name: one.to_json() for name, one in self.derived.items()},
        }
        return _text(facts | {"sha256": hashlib.sha256(_text(facts).encode()).hexdigest()})


def claim_of(sources: Mapping[str, Fingerprint], settings: Mapping[str, Any]) -> str:
    lines = [f"{one.sha256}  {name}" for name, one in sorted(sources.items())]
    text = "\n".join([*lines, json.dumps(settings, sort_keys=True, ensure_ascii=False)])
    return hashlib.sha256(text.encode()).hexdigest()


def fingerprints(files: Mapping[str, bytes]) -> dict[str, Fingerprint]:
    return {name: Fingerprint.of(content) for name, content in sorted(files.items())}


def read_manifest(folder: Path) -> Manifest:
    """Of a published folder. Raises UserError of one line where there is none, or where it is not as it was written."""
    path = folder / FILE
    if not path.is_file():
        raise UserError(f"{folder}: nothing published here (it has no {FILE}); isoflop publish <root> to={folder}")
    text = read_bytes(path)
    damaged = UserError(f"{path}: its content does not fit its sha256: it was changed or damaged")
    try:
        facts = parse_json(text)
        if facts.get("kind") != KIND:
            raise UserError(f"{path}: no manifest of a publication")
        if facts.get("version") != VERSION:
            raise UserError(f"{path}: of version {facts.get('version')}; this isoflop reads version {VERSION}")
        manifest = Manifest(
            facts["settings"],
            _read_all(facts["sources"].items()),
            _read_all(facts["derived"].items()),
            facts["copied"],
            facts["isoflop"],
        )
        same = manifest.to_text().encode() == text  # also blanks, the order of keys and the claim
    except UserError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError):
        raise damaged from None
    if not same:
        raise damaged
    return manifest


def _read_all(items: Iterable[tuple[str, Any]]) -> dict[str, Fingerprint]:
    return {
        name: Fingerprint(one["bytes"], one["sha256"], (int(one["sums"][0], 16), int(one["sums"][1], 16)))
        for name, one in items
    }


def _text(facts: Mapping[str, Any]) -> str:
    return json.dumps(facts, indent=1, ensure_ascii=False) + "\n"
