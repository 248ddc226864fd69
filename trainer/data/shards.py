"""Token shards on disk: written once, complete or absent, described by one manifest, read through the page cache.

<folder>/manifest.json               what is here: sizes, sha256, counts; its own hash is the fingerprint
         tokenizer.model             sentencepiece
         train-00000.tokens          little-endian uint16 or uint32, shard after shard one long stream
         train.documents.npy         int64, where each document begins in that stream
         held_out-00000.tokens ...
         packings/                   what was computed of the above and may be computed again (see kept_packing.py)
"""

from __future__ import annotations

import hashlib
import io
import json
import mmap
import shlex
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from trainer.utils.errors import UserError
from trainer.utils.files import sha256, write_atomic, write_synced

FORMAT = 1
MANIFEST = "manifest.json"
SHARD_TOKENS = 1 << 26
SPLITS = ("train", "held_out")


@dataclass(frozen=True)
class SplitInfo:
    """A split's size. bytes: UTF-8 of its text; unigram_bits_per_byte: entropy of its tokens without context."""

    documents: int
    tokens: int
    bytes: int
    unigram_bits_per_byte: float


@dataclass(frozen=True)
class Prepared:
    """A corpus that is ready to be read."""

    folder: Path
    vocabulary: int
    specials: dict[str, int] = field(repr=False)  # piece -> id of what never comes out of text: <pad>, <s>, <mask> ...
    train: SplitInfo
    held_out: SplitInfo
    fingerprint: str  # sha256 of the manifest, which holds the sha256 of every file
    manifest: dict[str, Any] = field(repr=False)
    report: dict[str, Any] = field(
        repr=False, default_factory=dict
    )  # of the files it was made from: counts, dropped, date

    @property
    def tokenizer_file(self) -> Path:
        return self.folder / "tokenizer.model"

    @property
    def bos(self) -> int:
        return self.specials["<s>"]

    @property
    def eos(self) -> int:
        return self.specials["</s>"]

    @property
    def pad(self) -> int:
        return self.specials["<pad>"]

    def files(self, split: str | None = None) -> list[dict[str, Any]]:
        """file, bytes and sha256 of all files, or of those that readers of this split read; smallest first."""
        entries = sorted(self.manifest["files"], key=lambda entry: int(entry["bytes"]))
        if split is None:
            return entries
        facts = self.manifest["splits"][split]
        names = {self.tokenizer_file.name, facts["documents"], *facts["shards"]}
        return [entry for entry in entries if entry["file"] in names]

    def damages(
        self, split: str | None = None, progress: Callable[[str, int, int], None] | None = None
    ) -> list[Damage]:
        """Read all files, or those of a split, whole: what is not as it was made. progress(what, done, total bytes)."""
        entries, done, found = self.files(split), 0, []
        total = sum(entry["bytes"] for entry in entries)
        for entry in entries:
            if progress:
                progress(f"hashing {self.folder.name}", done, total)
            found.append(damage_of(self.folder, entry))
            done += entry["bytes"]
        if progress:
            progress(f"hashing {self.folder.name}", total, total)
        return [damage for damage in found if damage is not None]

    def verify(self, split: str | None = None, progress: Callable[[str, int, int], None] | None = None) -> None:
        """Read all files, or those of a split, whole. UserError has a line for each that is not as it was made."""
        if found := self.damages(split, progress):
            raise UserError("\n".join(damage.text for damage in found))


UNKNOWN_IS_MUCH = 0.001  # share of <unk> from which on bits per byte are said to hide something


def unknown_share(prepared: Prepared, split: str) -> float | None:
    """Share of a split's tokens that are <unk>, of which the text is lost; null: the tokenizer has none."""
    unknown = prepared.specials.get("<unk>", -1)
    if unknown < 0:
        return None
    entry = prepared.manifest["splits"][split]
    dtype = np.dtype(entry["dtype"]).newbyteorder("<")
    shards = [_mapped(prepared.folder / name, dtype, in_order=True) for name in entry["shards"]]
    step = 1 << 24
    pieces = (shard[first : first + step] for shard in shards for first in range(0, len(shard), step))
    return sum(int(np.count_nonzero(piece == unknown)) for piece in pieces) / max(1, sum(map(len, shards)))


def said_unknown(share: float | None, what: str) -> str | None:
    """A line where so many tokens are <unk> that bits per byte mislead; null: they do not."""
    if share is None or share <= UNKNOWN_IS_MUCH:
        return None
    return f"{share:.2%} of {what} tokens are <unk>: what stands there is not predicted, so bits per byte are too low"


@dataclass(frozen=True)
class Damage:
    """A prepared file that is not as it was made. found: its sha256 now; null where it could not be read."""

    folder: Path
    file: str
    what: str
    expected: str
    found: str | None = None

    @property
    def text(self) -> str:
        """One line with the way out."""
        return str(_damaged(self.folder, f"{self.file} {self.what}"))

    def to_json(self) -> dict[str, Any]:
        return {**vars(self), "folder": str(self.folder)}

    @classmethod
    def from_json(cls, plain: dict[str, Any]) -> Damage:
        return cls(**{**plain, "folder": Path(plain["folder"])})


def damage_of(folder: Path, entry: dict[str, Any], digest: Callable[[Path], str] = sha256) -> Damage | None:
    """What is wrong with the file of a manifest's entry, which is read whole."""
    name, expected = entry["file"], entry["sha256"]
    try:
        found = digest(folder / name)
    except FileNotFoundError:
        return Damage(folder, name, "is missing", expected)
    except OSError as error:
        return Damage(folder, name, f"cannot be read ({error.strerror})", expected)
    if found == expected:
        return None
    what = f"does not match its sha256 ({expected[:12]} expected, {found[:12]} found)"
    return Damage(folder, name, what, expected, found)


def open_prepared(folder: Path) -> Prepared:
    """Open a prepared corpus; checks the manifest and every file's size, not its content (see verification.py)."""
    try:
        text = (folder / MANIFEST).read_text()
        manifest = json.loads(text)
        splits = {split: SplitInfo(**manifest["splits"][split]["info"]) for split in SPLITS}
        specials, vocabulary = dict(manifest["specials"]), int(manifest["vocabulary"])
        entries = [(folder / entry["file"], int(entry["bytes"])) for entry in manifest["files"]]
    except FileNotFoundError:
        raise _damaged(folder, f"{MANIFEST} is missing") from None
    except (ValueError, KeyError, TypeError, NotADirectoryError, AttributeError):
        raise _damaged(folder, f"{MANIFEST} cannot be read") from None
    if manifest.get("format") != FORMAT:
        raise _damaged(folder, f"format {manifest.get('format')} is not this release's {FORMAT}")
    for file, size in entries:
        actual = file.stat().st_size if file.exists() else None
        if actual != size:
            raise _damaged(
                folder,
                f"{file.name} is missing" if actual is None else f"{file.name} has {actual:,} bytes, not {size:,}",
            )
    fingerprint = hashlib.sha256(text.encode()).hexdigest()
    return Prepared(folder, vocabulary, specials, splits["train"], splits["held_out"], fingerprint, manifest)


def _damaged(folder: Path, what: str) -> UserError:
    again = f"rm -r {shlex.quote(str(folder))}"
    return UserError(f"data: {what} in {folder}; delete that folder and it is prepared again: {again}")


class TokenStream:
    """All tokens of one split, or of one origin in it, as one array, mapped from its shards."""

    def __init__(self, prepared: Prepared, split: str, origin: str | None = None) -> None:
        entry = prepared.manifest["splits"][split]
        self.folder = prepared.folder
        self.dtype = np.dtype(entry["dtype"]).newbyteorder("<")
        files = [prepared.folder / name for name in entry["shards"]]
        self._shards = [_mapped(file, self.dtype) for file in files]
        self._names = list(entry["shards"])
        self._edges = np.cumsum([0] + [len(shard) for shard in self._shards])
        self._firsts: list[int] = self._edges.tolist()  # places of their first tokens
        self.starts = np.asarray(np.load(prepared.folder / entry["documents"], mmap_mode="r", allow_pickle=False))
        self._begin, self._length = 0, int(self._edges[-1])
        self.first_document = 0  # its number in the split
        if origin is not None:
            self._narrow(entry["origins"], origin)

    def _narrow(self, origins: dict[str, dict[str, int]], wanted: str) -> None:
        """Origins lie one behind the other."""
        first = 0
        for name, sizes in origins.items():
            if name == wanted:
                self._length, self.first_document = sizes["tokens"], first
                self.starts = self.starts[first : first + sizes["documents"]] - self._begin
                return
            first += sizes["documents"]
            self._begin += sizes["tokens"]
        self._length, self.starts = 0, self.starts[:0]

    def __len__(self) -> int:
        return self._length

    def shard_of(self, place: int) -> str:
        """The file that holds the token at this place."""
        return self._names[int(np.searchsorted(self._edges, place + self._begin, side="right")) - 1]

    def stretches(self, begin: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """int64 [sum of lengths]: the tokens from each place `begin` on, so many, end to end."""
        begin = begin + self._begin
        ends = begin + lengths
        if len(self._shards) == 1:
            [shard] = self._shards
            places = zip(begin.tolist(), ends.tolist(), strict=True)
            return np.concatenate([shard[:0], *(shard[at:end] for at, end in places)], dtype=np.int64)
        shards = (self._edges.searchsorted(begin, side="right") - 1).clip(0, len(self._shards) - 1)
        found = [np.empty(0, self.dtype)]
        for number, at, end in zip(shards.tolist(), begin.tolist(), ends.tolist(), strict=True):
            while at < end:
                first = self._firsts[number]
                found.append(self._shards[number][at - first : end - first])
                at += len(found[-1])
                number += 1
        return np.concatenate(found, dtype=np.int64)

    def read(self, begin: np.ndarray, out: np.ndarray) -> None:
        """Fill out[r] with the tokens from begin[r] on; what lies past the end is left as it was."""
        length = out.shape[1]
        begin = begin + self._begin
        if len(self._shards) == 1 and len(begin) and int(begin.max()) + length <= len(shard := self._shards[0]):
            step = shard.itemsize
            every = np.ndarray((len(shard) - length + 1, length), shard.dtype, shard, strides=(step, step))
            out[:] = every[begin]  # a view of every window there is, of which some are copied
            return
        shards = np.searchsorted(self._edges, begin, side="right") - 1
        for row, (at, number) in enumerate(zip(begin.tolist(), shards.tolist(), strict=True)):
            filled = 0
            while filled < length and number < len(self._shards):
                first = at + filled - int(self._edges[number])
                part = self._shards[number][first : first + length - filled]
                out[row, filled : filled + len(part)] = part
                filled += len(part)
                number += 1


def _mapped(file: Path, dtype: np.dtype[Any], in_order: bool = False) -> np.ndarray:
    """A file's numbers, read where they are asked for, and no others beside them where samples lie in no order."""
    if not file.stat().st_size:
        return np.empty(0, dtype)
    with file.open("rb") as opened:
        mapped = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ)
    if hasattr(mmap, "MADV_RANDOM") and not in_order:
        mapped.madvise(mmap.MADV_RANDOM)
    return np.frombuffer(mapped, dtype)


class SplitWriter:
    """Writes one split, shard by shard."""

    def __init__(self, folder: Path, split: str, vocabulary: int, bos: int) -> None:
        self.folder, self.split, self.bos = folder, split, bos
        self.dtype = np.dtype("<u2") if vocabulary <= 1 << 16 else np.dtype("<u4")
        self.starts: list[int] = []
        self.tokens = self.text_bytes = 0
        self.counts = np.zeros(vocabulary, np.int64)
        self.files: list[dict[str, Any]] = []
        self.origins: dict[str, dict[str, int]] = {}
        self._waiting: list[np.ndarray] = []
        self._waiting_tokens = 0

    def add(self, tokens: np.ndarray, text_bytes: int, first: bool, origin: str = "text") -> None:
        """Append a part of a document; `first` marks the part that begins it. Origins come one after the other."""
        sizes = self.origins.setdefault(origin, {"documents": 0, "tokens": 0, "bytes": 0})
        sizes["documents"] += first
        sizes["tokens"] += len(tokens)
        sizes["bytes"] += text_bytes
        if first:
            self.starts.append(self.tokens)
        self.tokens += len(tokens)
        self.text_bytes += text_bytes
        self._waiting.append(tokens.astype(self.dtype))
        self._waiting_tokens += len(tokens)
        while self._waiting_tokens >= SHARD_TOKENS:
            waiting = np.concatenate(self._waiting)
            self._write_shard(waiting[:SHARD_TOKENS])
            self._waiting, self._waiting_tokens = [waiting[SHARD_TOKENS:]], len(waiting) - SHARD_TOKENS

    def _write_shard(self, tokens: np.ndarray) -> None:
        name = f"{self.split}-{len(self.files):05d}.tokens"
        self.files.append(write_file(self.folder / name, tokens.tobytes()))
        self.counts += np.bincount(tokens, minlength=len(self.counts))

    def close_shard(self) -> None:
        """Write what waits, as a shard of its own."""
        if self._waiting_tokens:
            self._write_shard(np.concatenate(self._waiting))
            self._waiting, self._waiting_tokens = [], 0

    def finish(self) -> dict[str, Any]:
        """Write what waits and the document index; the split's part of the manifest."""
        self.close_shard()
        shards = [entry["file"] for entry in self.files]
        index, content = f"{self.split}.documents.npy", io.BytesIO()
        np.save(content, np.array(self.starts, np.int64), allow_pickle=False)
        self.files.append(write_file(self.folder / index, content.getvalue()))
        info = SplitInfo(len(self.starts), self.tokens, self.text_bytes, self._unigram_bits_per_byte())
        return {
            "info": vars(info),
            "dtype": self.dtype.name,
            "shards": shards,
            "documents": index,
            "origins": self.origins,
        }

    def _unigram_bits_per_byte(self) -> float:
        """Entropy of the predicted tokens (all but <s>, which nothing predicts), spread over the text's bytes."""
        counts = np.delete(self.counts, self.bos)
        counts = counts[counts > 0]
        return float(-(counts * np.log2(counts / counts.sum())).sum() / max(1, self.text_bytes))


def write_file(path: Path, content: bytes) -> dict[str, Any]:
    """Write a file to disk; returns what a manifest says of it. Its folder is what becomes visible by a rename."""
    return {"file": path.name, "bytes": len(content), "sha256": write_synced(path, content)}


def write_whole(path: Path, content: bytes) -> None:
    """Complete or absent, in a folder that is made where there is none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, content)
