"""A data set of the Hugging Face hub, streamed once into JSONL files of the cache: a corpus of files from there on.

<cache>/datasets/<key>/part-00000.jsonl   documents in the data set's own order, about a quarter of a gibibyte each
                      /complete.json      what was asked for and how many documents came; written last

An interrupted stream goes on behind the last whole part.
"""

from __future__ import annotations

import hashlib
import json
import re
import shlex
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from trainer.data.shards import write_whole
from trainer.utils.errors import UserError, nearest

SCHEME = "hf://"
GRAMMAR = "hf://<owner>/<name>[:<config>[:<split>]][@<revision>], e.g. hf://allenai/c4:en:train"
PART_BYTES = 1 << 28
COMPLETE = "complete.json"


@dataclass(frozen=True)
class DatasetName:
    """path: of the hub, or a folder on this disk that begins with / or a dot."""

    path: str
    config: str | None
    split: str
    revision: str | None


def parse(uri: str) -> DatasetName:
    """Read `hf://...`. Raises UserError with the grammar."""
    found = re.fullmatch(r"([^:@\s]+)(?::([^:@\s]*))?(?::([^:@\s]+))?(?:@([^:@\s]+))?", uri.removeprefix(SCHEME))
    if not found:
        raise UserError(f"data.path: {uri} is no data set; write {GRAMMAR}")
    path, config, split, revision = found.groups()
    return DatasetName(path, config or None, split or "train", revision)


def fetched(uri: str, field: str, cache: Path, progress: Callable[[str, int, int], None]) -> Path:
    """The folder that holds the data set's documents, streamed there unless it is there already.

    One process at a time may ask. Raises UserError when the library, the data set, its split or its field is missing.
    """
    name, asked, folder = parse(uri), _asked(uri, field), _folder(uri, field, cache)
    if (folder / COMPLETE).exists():
        _require_whole(folder)
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    whole = sorted(folder.glob("part-*.jsonl"))
    number, documents = len(whole), sum(_lines(path) for path in whole)
    progress(f"streaming {uri}", documents, documents + 1)
    for lines in _parts(_rows(uri, name, field, documents)):
        write_whole(folder / f"part-{number:05d}.jsonl", b"".join(lines))
        number, documents = number + 1, documents + len(lines)
        progress(f"streaming {uri}", documents, documents + 1)
    if not documents:
        raise UserError(f"data.path: {uri} has no rows")
    progress(f"streaming {uri}", documents, documents)
    parts = {path.name: path.stat().st_size for path in sorted(folder.glob("part-*.jsonl"))}
    write_whole(folder / COMPLETE, json.dumps({**asked, "documents": documents, "parts": parts}).encode())
    return folder


def _require_whole(folder: Path) -> None:
    """Raise UserError where a part is missing or has another size. Version 0.1.0 wrote no sizes."""
    try:
        parts = dict(json.loads((folder / COMPLETE).read_bytes()).get("parts", {}))
        wrong = [name for name, size in parts.items() if _size(folder / name) != size]
    except (ValueError, TypeError, AttributeError):
        wrong = [COMPLETE]
    if wrong:
        again = f"rm -r {shlex.quote(str(folder))}"
        raise UserError(
            f"data.path: {wrong[0]} is not as it was written in {folder}; delete that folder and it is streamed again: "
            f"{again}"
        )


def _size(path: Path) -> int | None:
    return path.stat().st_size if path.is_file() else None


def stored(uri: str, field: str, cache: Path) -> Path:
    """The folder that holds the data set's documents. Raises FileNotFoundError where it was not streamed yet."""
    folder = _folder(uri, field, cache)
    if not (folder / COMPLETE).exists():
        raise FileNotFoundError(folder)
    return folder


def _asked(uri: str, field: str) -> dict[str, Any]:
    return {**asdict(parse(uri)), "field": field}


def _folder(uri: str, field: str, cache: Path) -> Path:
    key = hashlib.sha256(json.dumps(_asked(uri, field), sort_keys=True).encode()).hexdigest()[:16]
    return cache / "datasets" / key


def _lines(path: Path) -> int:
    with path.open("rb") as file:
        return sum(1 for _ in file)


def _rows(uri: str, name: DatasetName, field: str, skip: int) -> Iterator[bytes]:
    """JSON lines with the one field, from row `skip` on."""
    try:
        import datasets
    except ImportError:
        raise UserError(f"data.path: {uri} needs the extra: pip install 'isoflop[datasets]'") from None
    datasets.disable_progress_bars()
    local = name.path.startswith(("/", "."))
    try:
        rows = datasets.load_dataset(
            str(Path(name.path).absolute()) if local else name.path,
            name.config,
            split=name.split,
            revision=name.revision,
            streaming=True,
        )
        for row in rows.skip(skip) if skip else rows:
            yield json.dumps({field: _text(uri, row, field)}, ensure_ascii=False).encode() + b"\n"
    except UserError:
        raise
    except Exception as error:  # the library lets those of a dozen others through
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise UserError(f"data.path: {uri} cannot be read: {reason}") from None


def _text(uri: str, row: dict[str, Any], field: str) -> str:
    if field not in row:
        raise UserError(
            f"data.field: {uri} has no column {field!r}{nearest(field, row)}; set data.field to one of {', '.join(row)}"
        )
    if not isinstance(row[field], str):
        raise UserError(f"data.field: {uri}: the column {field!r} holds no text but {row[field]!r:.40}")
    text: str = row[field]
    return text


def _parts(lines: Iterator[bytes]) -> Iterator[list[bytes]]:
    part: list[bytes] = []
    size = 0
    for line in lines:
        part.append(line)
        size += len(line)
        if size >= PART_BYTES:
            yield part
            part, size = [], 0
    if part:
        yield part
