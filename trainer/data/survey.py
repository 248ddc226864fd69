"""One reading of a corpus that decides what belongs where: which documents are kept, and on which side of the split."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from trainer.config import Config
from trainer.config.parallel import key_of
from trainer.data.cleaning import Cleaner, normalised
from trainer.data.corpus import parts
from trainer.data.document import DocumentPart, Source
from trainer.data.megatron import with_text
from trainer.data.parallel import PairAccounts, nothing_paired
from trainer.data.shards import FORMAT
from trainer.utils.errors import UserError

Progress = Callable[[str, int, int], None]
PROGRESS_BYTES = 1 << 20  # between two words about progress
DROPPED, TRAIN, HELD_OUT = range(3)  # fates of a document


@dataclass(frozen=True)
class Corpus:
    """What one reading of the text found out. fate: uint8 per document, in order: DROPPED, TRAIN or HELD_OUT; the two
    of a pair have one. pairs: what became of a parallel text, by its two languages."""

    digest: str
    fate: np.ndarray
    train_bytes: dict[str, int]  # by origin
    read_bytes: int
    dropped: dict[str, int]
    pairs: PairAccounts


def survey(config: Config, files: list[Source], progress: Progress) -> Corpus:
    """Read all files once. Raises UserError where there is no text, or nothing is left to train on or to hold out."""
    total = sum(source.size for source in files)
    overall = hashlib.sha256(f"{FORMAT} {config.data.held_out}".encode())
    cleaner = Cleaner(config.data)
    shares: list[float] = []  # of kept documents: where in [0, 1) their hash lies
    train_bytes: Counter[str] = Counter()
    owners: list[tuple[str, int]] = []
    kept = bytearray()
    names: list[str] = []
    pairs: PairAccounts = {}
    read = said = size = characters = 0
    document, members = hashlib.sha256(), 0  # of a pair both texts are one document here
    first = b""  # digest of a pair's first text, by which it is held out: that stands in other pairs, too
    for origin, part in _documents(config, files, pairs):
        content = part.text.encode()
        if part.first:
            if not members:
                document, size, characters = hashlib.sha256(), 0, 0
            members += 1
        document.update(content)
        size += len(content)
        characters += len(part.text)
        read += part.read
        if part.joins:
            first = document.digest()
            document.update(b"\0")
        elif part.last:
            kept += bytes([cleaner.keep(document.digest(), characters)] * members)
            if kept[-1]:
                if not owners or owners[-1][0] != origin:
                    overall.update(f"[{origin}]".encode())
                overall.update(document.digest() if part.tokens is None else document.digest() + part.tokens.tobytes())
                shares += [int.from_bytes((first or document.digest())[:8]) / 2**64] * members
                owners += [(origin, size), (origin, 0)][:members]
            elif len(names) < 4:
                names.append(part.name)
            members, first = 0, b""
        if read >= said:
            progress("reading corpus", min(read, total), total)
            said = read + PROGRESS_BYTES
    progress("reading corpus", total, total)
    if nothing := nothing_paired(pairs, config.data):
        raise UserError(nothing)
    if not shares:
        reasons = ", ".join(f"{count} {reason}" for reason, count in cleaner.dropped.items() if count)
        raise UserError(f"data: there is no text: of {len(kept)} documents, {reasons} ({', '.join(names)})")
    held_out = _split(np.array(shares), config)
    fate = np.frombuffer(kept, np.uint8).copy()
    fate[fate > 0] = np.where(held_out, HELD_OUT, TRAIN)
    for (origin, size), held in zip(owners, held_out.tolist(), strict=True):
        train_bytes[origin] += 0 if held else size
    if unread := [origin for origin, total in train_bytes.items() if not total]:
        raise UserError(
            f"{key_of(config.data, unread[0])}: all of its text is held out of training; give it more documents"
        )
    return Corpus(overall.hexdigest(), fate, dict(train_bytes), read, cleaner.dropped, pairs)


def _documents(
    config: Config, files: list[Source], pairs: PairAccounts | None = None
) -> Iterator[tuple[str, DocumentPart]]:
    return normalised(with_text(parts(config.data, files, pairs), config), config.data)


def _split(shares: np.ndarray, config: Config) -> np.ndarray:
    """Which documents are held out: those whose hash falls below the share; the lowest one where none does."""
    held_out = shares < config.data.held_out
    if not held_out.any():
        held_out = shares == shares.min()
    if held_out.all():
        raise UserError(
            f"data.held_out: the text is {len(shares)} document{'s of one text' if len(shares) > 1 else ''}, so "
            "nothing can be held out of training; give more files, or cut them up with data.document=paragraph or line"
        )
    return held_out


def kept_parts(config: Config, files: list[Source], corpus: Corpus) -> Iterator[tuple[str, DocumentPart, bool]]:
    """Every part of a kept document, and whether the document is held out."""
    number = -1
    for origin, part in _documents(config, files):
        number += part.first
        if corpus.fate[number] != DROPPED:
            yield origin, part, bool(corpus.fate[number] == HELD_OUT)
