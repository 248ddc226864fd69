"""From text to token shards, on all cores; what was interrupted goes on at the last checkpoint."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from trainer.config.host import cores
from trainer.data.document import DocumentPart
from trainer.data.shards import FORMAT, MANIFEST, SPLITS, SplitWriter, write_file, write_whole
from trainer.data.tokenizer import Tokenizer, tokens_of
from trainer.utils.files import fsync_folder

BATCH_BYTES = 1 << 22  # text that is encoded at a time
CHECKPOINT_BATCHES = 64  # part of the format: shards end at checkpoints
STATE = "encoding.npz"

Kept = tuple[str, DocumentPart, bool]  # origin, part of a document, whether it is held out


def encode(
    kept: Iterator[Kept],
    tokenizer: Tokenizer,
    folder: Path,
    corpus: str,
    read_bytes: int,
    progress: Callable[[str, int, int], None],
) -> None:
    """Write the shards and the manifest of these parts into a folder, which may hold an interrupted attempt."""
    kept = kept if tokenizer.splits else _whole(kept)
    bos, eos = tokenizer.specials["<s>"], tokenizer.specials["</s>"]
    writers = {split: SplitWriter(folder, split, tokenizer.vocabulary, bos) for split in SPLITS}
    first, done = _resume(folder, writers)
    for number, batch in islice(enumerate(_batches(kept), start=1), first, None):
        encoded = _encoded([part for _, part, _ in batch], tokenizer, cores())
        for (origin, part, held_out), ids in zip(batch, encoded, strict=True):
            tokens = tokens_of(ids, bos=bos if part.first else None, eos=eos if part.last else None)
            writers["held_out" if held_out else "train"].add(tokens, len(part.text.encode()), part.first, origin)
            done += part.read
        if number % CHECKPOINT_BATCHES == 0:
            _checkpoint(folder, writers, number, done)
        progress("encoding", min(done, read_bytes), read_bytes)
    splits = {split: writer.finish() for split, writer in writers.items()}
    manifest: dict[str, Any] = {
        "format": FORMAT,
        "corpus": corpus,
        "vocabulary": tokenizer.vocabulary,
        "specials": tokenizer.specials,
        "splits": splits,
        "files": [write_file(folder / "tokenizer.model", tokenizer.model)]
        + [entry for writer in writers.values() for entry in writer.files],
    }
    write_file(folder / MANIFEST, json.dumps(manifest, indent=1).encode())
    (folder / STATE).unlink(missing_ok=True)
    fsync_folder(folder)


def _whole(kept: Iterator[Kept]) -> Iterator[Kept]:
    """The same documents, each in one part: for tokenizers that put a space before a text, or merge across lines."""
    parts: list[DocumentPart] = []
    for origin, part, held_out in kept:
        parts.append(part)
        if part.last:
            text, read = "".join(one.text for one in parts), sum(one.read for one in parts)
            yield origin, part if len(parts) == 1 else replace(part, text=text, first=True, read=read), held_out
            parts = []


def _encoded(parts: list[DocumentPart], tokenizer: Tokenizer, threads: int) -> Iterator[list[int]]:
    """The ids of every part; those that came as tokens keep them."""
    fresh = iter(tokenizer.encode_all([part.text for part in parts if part.tokens is None], threads))
    return (next(fresh) if part.tokens is None else part.tokens.tolist() for part in parts)


def _batches(items: Iterator[Kept]) -> Iterator[list[Kept]]:
    batch: list[Kept] = []
    size = 0
    for item in items:
        batch.append(item)
        size += len(item[1].text)
        if size >= BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _checkpoint(folder: Path, writers: dict[str, SplitWriter], batches: int, done: int) -> None:
    """Close all shards and note how far the work is; complete or absent."""
    arrays: dict[str, Any] = {}
    facts: dict[str, Any] = {"batches": batches, "done": done}
    for split, writer in writers.items():
        writer.close_shard()
        facts[split] = {
            "tokens": writer.tokens,
            "bytes": writer.text_bytes,
            "files": writer.files,
            "origins": writer.origins,
        }
        arrays[f"{split}.starts"], arrays[f"{split}.counts"] = np.array(writer.starts, np.int64), writer.counts
    buffer = io.BytesIO()
    np.savez(buffer, facts=np.frombuffer(json.dumps(facts).encode(), np.uint8), **arrays)
    write_whole(folder / STATE, buffer.getvalue())


def _resume(folder: Path, writers: dict[str, SplitWriter]) -> tuple[int, int]:
    """(batches, file bytes) that an interrupted attempt finished; its writers are put where they were."""
    if not (folder / STATE).exists():
        return 0, 0
    with np.load(folder / STATE, allow_pickle=False) as state:
        facts = json.loads(state["facts"].tobytes())
        for split, writer in writers.items():
            mine = facts[split]
            writer.tokens, writer.text_bytes = mine["tokens"], mine["bytes"]
            writer.files, writer.origins = mine["files"], mine["origins"]
            writer.starts, writer.counts = state[f"{split}.starts"].tolist(), state[f"{split}.counts"]
    return facts["batches"], facts["done"]
