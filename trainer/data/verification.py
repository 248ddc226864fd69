"""Whether prepared files are still as they were made: what was damaged in the cache must not train.

What opens a corpus hashes its small files whole and looks at samples of the others (`check_opened`). A run hashes
all files beside the training (`Verification`) and does not end well before that is done.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np

from trainer.data import paced_hash
from trainer.data.shards import SPLITS, Damage, Prepared, TokenStream, damage_of
from trainer.utils.errors import UserError
from trainer.utils.files import sha256

OPENED_BYTES = 64 << 20  # that are hashed when a corpus is opened, smallest files first: takes less than 0.1 s
DOCUMENTS = 256  # of each split that are looked at where that is not all
LOOK = 64  # tokens at the beginning of each
APART_BYTES = 1 << 20  # files larger than that are hashed by another process
BYTES_PER_SECOND = 256 << 20  # hashed beside the training by one rank, at most
SCAN_SECONDS = 30.0  # between two looks at which files changed since they were hashed


def check_opened(prepared: Prepared) -> None:
    """Raise UserError where a small file does not match its sha256, or where samples of the large ones are no text."""
    hashed = 0
    for entry in prepared.files():
        hashed += entry["bytes"]
        if hashed > OPENED_BYTES:
            break
        if damage := damage_of(prepared.folder, entry):
            raise UserError(damage.text)
    else:
        return
    for split in SPLITS:
        if damage := sampled_damage(prepared, split):
            raise UserError(damage.text)


def sampled_damage(prepared: Prepared, split: str) -> Damage | None:
    """Look at some documents of a split: each begins with <s>, ends with </s> and holds tokens of the vocabulary.

    That needs no hashes of blocks. It finds files that are zeroed, shifted, mixed up or damaged all over.
    """
    stream, facts = TokenStream(prepared, split), prepared.manifest["splits"][split]
    documents = len(stream.starts)
    few = documents <= DOCUMENTS
    chosen = np.arange(documents) if few else np.random.default_rng().integers(0, documents, DOCUMENTS)
    begins = stream.starts[chosen]
    nexts = np.minimum(chosen + 1, documents - 1)
    ends = np.where(nexts > chosen, stream.starts[nexts], len(stream))
    if (begins < 0).any() or (ends <= begins).any() or (ends > len(stream)).any():
        return _sampled(prepared, facts["documents"], "names places where no document can be")
    heads, tails = np.zeros((len(chosen), LOOK), stream.dtype), np.zeros((len(chosen), 1), stream.dtype)
    stream.read(begins, heads)
    stream.read(ends - 1, tails)
    for wrong, at, what in (
        (heads[:, 0] != prepared.bos, begins, "has no <s> where a document begins"),
        (tails[:, 0] != prepared.eos, ends - 1, "has no </s> where a document ends"),
        ((heads >= prepared.vocabulary).any(axis=1), begins, "holds tokens that the tokenizer does not have"),
    ):
        if wrong.any():
            return _sampled(prepared, stream.shard_of(int(at[wrong.argmax()])), what)
    return None


def _sampled(prepared: Prepared, file: str, what: str) -> Damage:
    expected = next(entry["sha256"] for entry in prepared.files() if entry["file"] == file)
    return Damage(prepared.folder, file, what, expected)


class Verification:
    """A thread that hashes files whole, then looks from time to time for those that changed, and hashes them again.

    Large files are hashed by a process of the lowest priority and of bounded speed, until `hurry` asks for an end. A
    file that is replaced or deleted under its name stays as it was for who has mapped it: it is damage only if it was
    not hashed before.
    """

    def __init__(self, folder: Path, entries: list[dict[str, Any]]) -> None:
        """Starts at once; map the files after that, not before."""
        self.folder, self.entries = folder, entries
        self.damage: Damage | None = None
        self.whole_at: int | None = None  # step that the training had reached when the files were still whole
        self.bytes = 0  # that were hashed so far
        self._known = {entry["file"]: _status(folder / entry["file"]) for entry in entries}
        self._hashed: set[str] = set()
        self._step, self._lock = 0, threading.Lock()
        self._child: subprocess.Popen[str] | None = None
        self._hurry, self._closed = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._work, name="verification", daemon=True)
        self._thread.start()

    @property
    def running(self) -> bool:
        return self._thread.is_alive()

    def reach(self, step: int) -> None:
        """The training has reached this step, or has gone back to it."""
        with self._lock:
            self._step = step
            if self.whole_at is not None:
                self.whole_at = min(self.whole_at, step)

    def hurry(self) -> None:
        """Look once more for what changed, as fast as can be, and end."""
        self._hurry.set()
        self._stop_child()  # the thread hashes that file itself

    def close(self) -> None:
        """End soon, with or without a result."""
        self._closed.set()
        self.hurry()

    def _stop_child(self) -> None:
        if self._child is not None:
            self._child.kill()

    def _work(self) -> None:
        while not self._closed.is_set():
            last, step = self._hurry.is_set(), self._step
            self.damage = next(filter(None, map(self._look, self.entries)), None)
            if self.damage or self._closed.is_set():
                return
            with self._lock:
                self.whole_at = min(step, self._step)
            if last:
                return
            self._hurry.wait(SCAN_SECONDS)

    def _look(self, entry: dict[str, Any]) -> Damage | None:
        """Hash a file unless it is as it was when it was hashed."""
        name = entry["file"]
        known, now = self._known[name], _status(self.folder / name)
        if now is None or known is None or _replaced(known, now):
            if name in self._hashed:
                return None
            what = "was replaced or deleted while a run began to read it, before it was verified,"
            return Damage(self.folder, name, what, entry["sha256"])
        if name in self._hashed and _content(known) == _content(now):
            return None
        damage = damage_of(self.folder, entry, self._digest)
        if damage is None or self._closed.is_set():
            self._known[name] = now
            self._hashed.add(name)
            return None
        return damage

    def _digest(self, path: Path) -> str:
        if self._closed.is_set():
            return ""
        size = path.stat().st_size
        apart = size > APART_BYTES and not self._hurry.is_set()
        digest = (self._apart(path) if apart else "") or ("" if self._closed.is_set() else sha256(path))
        self.bytes += size
        return digest

    def _apart(self, path: Path) -> str:
        """What the other process says; nothing where there can be none, where it cannot read, or where it was ended."""
        program = [sys.executable, "-I", "-S", paced_hash.__file__, str(path), str(BYTES_PER_SECOND)]
        try:
            self._child = subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        except OSError:  # too many processes
            return ""
        if self._hurry.is_set():  # who hurried meanwhile has found no child to stop
            self._child.kill()
        with self._child:
            return self._child.communicate()[0].strip()


def _status(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except OSError:
        return None


def _content(status: os.stat_result) -> tuple[int, int]:
    return status.st_size, status.st_mtime_ns


def _replaced(before: os.stat_result, now: os.stat_result) -> bool:
    """Whether another file has the name. Some network file systems number files anew: their times stay as they were."""
    return before.st_ino != now.st_ino and before.st_mtime_ns != now.st_mtime_ns
