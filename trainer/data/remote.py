"""Files of a bucket or a web server, streamed once into the cache: a corpus of files from there on.

<cache>/remote/<key>/plan.json       the files that were found: name, size, version (ETag); written first
                    /files/...       as they are there; <name>.partial: what came of one so far
                    /complete.json   the plan, with the sha256 of every file; written last

A broken transfer goes on behind the last byte that came. Credentials are those of the libraries: of the environment,
~/.aws, ~/.netrc; none is written down.
"""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from trainer.config import DataConfig
from trainer.data.shards import write_whole
from trainer.descriptions.readers import COMPRESSED, READERS, readers_by_suffix, suffix_of
from trainer.utils.errors import UserError
from trainer.utils.files import sha256
from trainer.utils.urls import redacted

PLAN, COMPLETE, FILES = "plan.json", "complete.json", "files"
BLOCK_BYTES = 1 << 23
TRIES, PAUSE = 5, 1.0  # tries of a block in a row, seconds before the second
VERSIONS = ("ETag", "etag", "md5Hash", "LastModified", "last_modified", "mtime")  # what tells a changed file

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class RemoteFile:
    """place: what the library calls it. name: below the folder. size: null where the server does not say it."""

    place: str
    name: str
    size: int | None
    version: str | None


def stored_remote(url: str, cache: Path) -> Path:
    """The folder that holds what lies behind a URL. Raises FileNotFoundError where it was not fetched yet."""
    folder = _folder(url, cache)
    if not (folder / COMPLETE).exists():
        raise FileNotFoundError(folder)
    return folder / FILES


def fetched_remote(url: str, data: DataConfig, cache: Path, progress: Progress, notes: list[str]) -> Path:
    """The folder that holds what lies behind a URL: one file, those of a folder or of a glob.

    Streamed there unless it is there already; one process at a time may ask. Raises UserError, which names no secret.
    """
    folder, shown = _folder(url, cache), redacted(url)
    if not (folder / COMPLETE).exists():
        system = _system(url)
        files, skipped = _listed(system, url, data)
        _plan(folder, shown, files)
        total, done = sum(file.size or 0 for file in files), 0
        for file in files:

            def tell(came: int, before: int = done) -> None:
                progress(f"fetching {shown}", before + came, max(total, before + came + 1))

            done += _fetch(system, file, folder / FILES / file.name, shown, tell)
        again, _ = _listed(system, url, data)
        _same(folder, shown, files, again)
        facts = [{**_plain(file), "sha256": sha256(folder / FILES / file.name)} for file in files]
        write_whole(folder / COMPLETE, json.dumps({"url": shown, "files": facts, "skipped": skipped}).encode())
        progress(f"fetching {shown}", max(done, 1), max(done, 1))
    skipped = _whole(folder).get("skipped", {})
    if skipped:
        listed = ", ".join(f"{count:,} {ending}" for ending, count in skipped.items())
        notes.append(f"data.path: of {shown} are not fetched: {listed}; name them one by one to read them")
    return folder / FILES


def _whole(folder: Path) -> dict[str, Any]:
    """What was written when all files had come. Raises UserError where one is missing or has another size."""
    try:
        plain: dict[str, Any] = json.loads((folder / COMPLETE).read_bytes())
        files = [(folder / FILES / entry["name"], entry["size"]) for entry in plain["files"]]
    except (ValueError, KeyError, TypeError):
        raise _damaged(folder, f"{COMPLETE} cannot be read") from None
    for file, size in files:
        if not file.is_file():
            raise _damaged(folder, f"{file.name} is missing")
        if size is not None and file.stat().st_size != size:
            raise _damaged(folder, f"{file.name} has {file.stat().st_size:,} bytes, not {size:,}")
    return plain


def _damaged(folder: Path, what: str) -> UserError:
    again = f"rm -r {shlex.quote(str(folder))}"
    return UserError(f"data.path: {what} in {folder}; delete that folder and it is fetched again: {again}")


def _folder(url: str, cache: Path) -> Path:
    return cache / "remote" / hashlib.sha256(url.encode()).hexdigest()[:16]


def _system(url: str) -> Any:
    """fsspec's file system of a URL. Raises UserError where a library is missing."""
    scheme = url.partition("://")[0].lower()
    try:
        import fsspec

        keys: dict[str, Any] = {"client_kwargs": {"trust_env": True}} if scheme.startswith("http") else {}
        if scheme == "s3" and not _signs():
            keys = {"anon": True}
        return fsspec.filesystem(scheme, **keys)
    except ImportError as error:
        extra = "isoflop[remote]" if scheme in ("s3", "http", "https") else _package(scheme)
        raise UserError(
            f"data.path: {redacted(url)} needs {error.name or 'a library'}: pip install '{extra}'"
        ) from None


def _package(scheme: str) -> str:
    return {"gs": "gcsfs", "gcs": "gcsfs", "az": "adlfs", "abfs": "adlfs", "hdfs": "pyarrow"}[scheme]


def _signs() -> bool:
    """Whether there are credentials to sign requests with; public buckets are read without."""
    import botocore.session

    return botocore.session.Session().get_credentials() is not None


def _listed(system: Any, url: str, data: DataConfig) -> tuple[list[RemoteFile], dict[str, int]]:
    """The files behind a URL by name, and how many of which endings are left out. Raises UserError."""
    shown = redacted(url)
    try:
        place = url if url.startswith(("http://", "https://")) else system._strip_protocol(url)
        if "*" in place or "[" in place:
            places, root = sorted(system.glob(place)), place.partition("*")[0].partition("[")[0].rpartition("/")[0]
        elif url.endswith("/") or (not url.startswith("http") and system.isdir(place)):
            places, root = sorted(system.find(place)), place.rstrip("/")
        else:
            places, root = [place], place.partition("?")[0].rpartition("/")[0]
        named = {one: _name(one, root) for one in places if not one.endswith("/")}
        kept = [one for one, name in named.items() if len(named) == 1 or data.format or _wanted(name)]
        files = [_described(system, one, named[one]) for one in kept]
    except UserError:
        raise
    except Exception as error:  # the libraries let those of a dozen others through
        raise UserError(f"data.path: {shown} cannot be read: {_reason(error)}") from None
    if not files:
        raise UserError(f"data.path: {shown} holds no text files (.txt, .md, .py, .jsonl ...)")
    endings = Counter(suffix_of(named[one]) or "without suffix" for one in named if one not in kept)
    return files, dict(endings)


def _name(place: str, root: str) -> str:
    """A path below the folder, made of what a server says. Raises UserError where it leads out of it."""
    name = unquote(place.partition("?")[0] if "://" in place else place).removeprefix(unquote(root)).strip("/")
    name = name or "file"
    if any(part in ("", ".", "..") for part in name.split("/")) or "\0" in name:
        raise UserError(f"data.path: the server names a file {name!r}, which is no plain path")
    return name


def _wanted(name: str) -> bool:
    """Whether a folder's file is fetched: its name says that it is text, or does not say what it is."""
    path, suffix = Path(name), suffix_of(name)
    if any(part.startswith(".") for part in path.parts):
        return False
    seconds = {one.beside for one in READERS.values() if one.beside}
    known = suffix in readers_by_suffix() or suffix in seconds or suffix in (".json", "")
    return known or path.suffix.lower() in COMPRESSED


def _described(system: Any, place: str, name: str) -> RemoteFile:
    facts = system.info(place)
    version = next((str(facts[key]) for key in VERSIONS if facts.get(key)), None)
    size = facts.get("size")
    return RemoteFile(place, name, None if size is None else int(size), version)


def _plain(file: RemoteFile) -> dict[str, Any]:
    return {**asdict(file), "place": redacted(file.place) if "://" in file.place else file.place}


def _plan(folder: Path, shown: str, files: list[RemoteFile]) -> None:
    """Write down what is fetched; a transfer that was broken off goes on only with the same files."""
    plan = folder / PLAN
    if plan.exists():
        try:
            before = [RemoteFile(**entry) for entry in json.loads(plan.read_bytes())]
        except (ValueError, TypeError):
            raise _damaged(folder, f"{PLAN} cannot be read") from None
        _same(folder, shown, before, files)
    else:
        write_whole(plan, json.dumps([_plain(file) for file in files]).encode())


def _same(folder: Path, shown: str, before: list[RemoteFile], now: list[RemoteFile]) -> None:
    old, new = ({file.name: (file.size, file.version) for file in files} for files in (before, now))
    for name in sorted({*old, *new}):
        if old.get(name) != new.get(name):
            a, b = (
                f"{entry[0]} bytes, version {entry[1]}" if entry else "not there"
                for entry in (old.get(name), new.get(name))
            )
            raise UserError(
                f"data.path: {shown} changed while it was fetched: {name} was {a}, and is {b}; "
                f"delete {folder} and it is fetched anew"
            )


def _fetch(system: Any, file: RemoteFile, target: Path, shown: str, tell: Callable[[int], None]) -> int:
    """Bring one file to this disk, complete or absent; the number of its bytes."""
    if target.exists():
        return target.stat().st_size
    partial = target.with_name(target.name + ".partial")
    partial.parent.mkdir(parents=True, exist_ok=True)
    with partial.open("ab") as out:
        if file.size is None or not _gives_ranges(system, file):
            out.truncate(0)
            _stream(system, file, out, shown, tell)
        else:
            out.truncate(min(out.tell(), file.size))
            out.seek(0, os.SEEK_END)
            _append(system, file, out, shown, tell)
        out.flush()
        os.fsync(out.fileno())
    os.replace(partial, target)
    return target.stat().st_size


def _gives_ranges(system: Any, file: RemoteFile) -> bool:
    """Whether a part of the file can be asked for; a plain web server may answer with all of it."""
    if not file.place.startswith(("http://", "https://")):
        return True
    return bool(file.size and file.size > 1 and len(system.cat_file(file.place, start=0, end=1)) == 1)


def _append(system: Any, file: RemoteFile, out: Any, shown: str, tell: Callable[[int], None]) -> None:
    assert file.size is not None
    failed = 0
    while (done := out.tell()) < file.size:
        tell(done)
        try:
            block = system.cat_file(file.place, start=done, end=min(done + BLOCK_BYTES, file.size))
            if not 0 < len(block) <= min(BLOCK_BYTES, file.size - done):
                raise OSError(f"{len(block)} bytes came, {min(BLOCK_BYTES, file.size - done)} were asked for")
        except Exception as error:
            failed += 1
            if failed == TRIES or isinstance(error, FileNotFoundError | PermissionError):
                raise UserError(
                    f"data.path: {shown} broke off at {done:,} of {file.size:,} bytes of {file.name}: "
                    f"{_reason(error)}; the same command goes on from there"
                ) from None
            time.sleep(PAUSE * 2 ** (failed - 1))
            continue
        failed = 0
        out.write(block)
        out.flush()


def _stream(system: Any, file: RemoteFile, out: Any, shown: str, tell: Callable[[int], None]) -> None:
    """Of a server that gives no parts: all at once, from the beginning."""
    try:
        with system.open(file.place, "rb", block_size=0, cache_type="none") as source:
            while block := source.read(BLOCK_BYTES):
                out.write(block)
                tell(out.tell())
    except Exception as error:
        raise UserError(
            f"data.path: {shown} broke off at {out.tell():,} bytes of {file.name}: {_reason(error)}; "
            "its server gives no parts, so it begins anew"
        ) from None
    if file.size is not None and out.tell() != file.size:
        raise UserError(f"data.path: {shown} broke off at {out.tell():,} of {file.size:,} bytes of {file.name}")


def _reason(error: Exception) -> str:
    """What a library says, without the parameters of a URL in it."""
    words = (redacted(word) if "://" in word else word for word in str(error).split())
    return f"{type(error).__name__} {' '.join(words)[:200]}".strip()
