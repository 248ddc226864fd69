"""What lies in the cache of prepared data, who uses it, and how it is freed.

Whoever reads an entry holds a shared lock on `<entry>.used` beside it, whose time is that of the last use.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

USED, LOCK = ".used", ".lock"
BESIDE = (USED, LOCK, ".sha256")  # what an entry has beside it, by the ends of their names
KINDS = ("tokens", "tokenizers", "listings", "datasets", "remote")  # folders of the cache
_held: dict[Path, IO[str]] = {}  # until this process ends


def hold(entry: Path) -> None:
    """This process uses an entry from now on, so that `free` leaves it alone. A cache that cannot be written to, or
    whose file system has no locks, is used all the same."""
    if entry in _held:
        return
    with contextlib.suppress(OSError):
        file = open(beside(entry, USED), "a+")  # noqa: SIM115 - held open on purpose
        _held[entry] = file
        os.utime(file.fileno())
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)


def beside(entry: Path, end: str) -> Path:
    return entry.with_name(entry.name + end)


@dataclass(frozen=True)
class Entry:
    """kind: the folder of the cache that it is in. corpus: what it was made of, where that is known. last_use: seconds
    since the epoch. files: all that goes with it."""

    path: Path
    kind: str
    bytes: int
    last_use: float
    corpus: str
    files: tuple[Path, ...]

    @property
    def name(self) -> str:
        return f"{self.kind}/{self.path.name}"

    def to_json(self) -> dict[str, Any]:
        return {
            "entry": self.name,
            "path": str(self.path),
            "kind": self.kind,
            "bytes": self.bytes,
            "last_use": self.last_use,
            "corpus": self.corpus,
        }


def entries(cache: Path) -> list[Entry]:
    """Everything in the cache of prepared data, the longest unused first."""
    corpora = _corpora(cache)
    found = [_entry(path, kind, corpora) for kind in KINDS for path in _paths(cache / kind)]
    return sorted(found, key=lambda entry: (entry.last_use, entry.name))


def free(entry: Entry) -> bool:
    """Delete an entry; false where a process uses it, or makes it, and it was left alone."""
    with contextlib.ExitStack() as held:
        for end in (USED, LOCK):
            if not held.enter_context(_alone(beside(entry.path, end))):
                return False
        for path in entry.files:
            aside = path.with_name(f".{path.name}.deleted")  # a folder that is half deleted must not look whole
            with contextlib.suppress(FileNotFoundError):
                os.rename(path, aside)
                shutil.rmtree(aside) if aside.is_dir() and not aside.is_symlink() else aside.unlink()
    return True


@contextlib.contextmanager
def _alone(lock: Path) -> Iterator[bool]:
    """Whether nobody else holds this lock while the context lasts."""
    try:
        file = open(lock)  # noqa: SIM115 - closed below
    except FileNotFoundError:
        yield True
        return
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield False
            return
        yield True


def _paths(folder: Path) -> list[Path]:
    """The entries of one kind: of a listing its first file, which the others are named for."""
    names = sorted(folder.iterdir()) if folder.is_dir() else []
    return [path for path in names if not path.name.endswith((*BESIDE, ".card.md", ".card.json"))]


def _entry(path: Path, kind: str, corpora: dict[str, str]) -> Entry:
    more = [path.with_suffix(end) for end in (".card.md", ".card.json")] if kind == "listings" else []
    files = [one for one in (path, *more, *(beside(path, end) for end in BESIDE)) if one.exists() or one.is_symlink()]
    times = [_status(file).st_mtime for file in (beside(path, USED), path) if file.exists()]
    corpus = corpora.get(path.name.removesuffix(".partial"), "") or _asked_for(path)
    return Entry(path, kind, sum(map(_bytes, files)), times[0] if times else 0.0, corpus, tuple(files))


def _status(path: Path) -> os.stat_result:
    return path.stat(follow_symlinks=False)


def _bytes(path: Path) -> int:
    below = [path, *path.rglob("*")] if path.is_dir() and not path.is_symlink() else [path]
    total = 0
    for file in below:
        with contextlib.suppress(OSError):
            total += 0 if file.is_dir() else _status(file).st_size
    return total


def _corpora(cache: Path) -> dict[str, str]:
    """Of prepared corpora and their listings, what was read and when, as the listings say."""
    found: dict[str, str] = {}
    for listing in sorted((cache / "listings").glob("*.json")):
        plain = _json(listing)
        report = plain.get("report")
        if isinstance(report, dict) and isinstance(plain.get("folder"), str):
            files = report.get("files")
            read = (
                ", ".join(f"{name}: {count} files" for name, count in files.items()) if isinstance(files, dict) else ""
            )
            found[listing.name] = found[plain["folder"]] = f"{read} ({report.get('date')})"
    return found


def _asked_for(path: Path) -> str:
    """Of what was fetched, where it came from."""
    plain = _json(path / "complete.json") if path.is_dir() else {}
    return str(plain.get("url") or plain.get("path") or "")


def _json(path: Path) -> dict[str, Any]:
    try:
        plain = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return plain if isinstance(plain, dict) else {}


def older_than(found: list[Entry], seconds: float) -> list[Entry]:
    """Those that were last used so long ago, or longer."""
    return [entry for entry in found if entry.last_use <= time.time() - seconds]
