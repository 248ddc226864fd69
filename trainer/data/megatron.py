"""Corpora that Megatron-LM's preprocessing made: `<prefix>.idx` and `<prefix>.bin` hold tokens, not text.

The index: `MMIDIDX`, a version, the dtype of the tokens, how many sequences and document edges; then the length (int32)
and the byte offset (int64) of every sequence, and the sequence (int64) that every document begins with.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from trainer.config import Config, DataConfig
from trainer.data.document import DocumentPart, Source
from trainer.data.tokenizer import Tokenizer
from trainer.tokenizer_files import tokenizer_file
from trainer.utils.errors import UserError

MAGIC = b"MMIDIDX\x00\x00"
HEADER = struct.Struct("<9sQBQQ")
DTYPES = {1: "<u1", 2: "<i1", 3: "<i2", 4: "<i4", 5: "<i8", 8: "<u2"}  # codes of the format; 6 and 7 are floats


def token_documents(source: Source, data: DataConfig) -> Iterator[DocumentPart]:
    """Every document as tokens; `with_text` puts in their text. Raises UserError when a file is missing or torn."""
    lengths, offsets, edges, dtype = _index(source)
    bin_path = source.path.with_suffix(".bin")
    if not bin_path.is_file():
        raise UserError(f"data: {source.path} has no {bin_path.name} beside it, which holds the tokens")
    tokens = np.memmap(bin_path, dtype, "r") if bin_path.stat().st_size >= dtype.itemsize else np.empty(0, dtype)
    begins = offsets // dtype.itemsize
    wanted = int((begins + lengths).max(initial=0))
    if len(tokens) < wanted:
        raise UserError(f"data: {bin_path} is cut short: {len(tokens):,} tokens are there, its index lists {wanted:,}")
    if len(tokens) * dtype.itemsize != bin_path.stat().st_size or len(tokens) > int(lengths.sum()):
        raise UserError(
            f"data: {source.path} is damaged, or not that of {bin_path.name}: it lists {int(lengths.sum()):,} tokens "
            f"of {dtype.itemsize} bytes, {bin_path.stat().st_size:,} bytes are there"
        )
    share = source.size // max(1, len(edges) - 1)
    for number, (first, last) in enumerate(zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True)):
        pieces = [tokens[begins[k] : begins[k] + lengths[k]] for k in range(first, last)]
        whole = np.concatenate(pieces).astype(np.int64) if pieces else np.empty(0, np.int64)
        yield DocumentPart(f"{source.name}:{number}", "", True, True, share, whole)


def _index(source: Source) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.dtype]:
    content = source.path.read_bytes()
    if len(content) < HEADER.size or not content.startswith(MAGIC):
        raise UserError(f"data: {source.path} is no index of Megatron-LM (it does not begin with MMIDIDX)")
    _, version, code, sequences, documents = HEADER.unpack_from(content)
    if version != 1 or code not in DTYPES:
        raise UserError(
            f"data: {source.path}: version {version}, dtype code {code} given; version 1 and integers wanted"
        )
    wanted = HEADER.size + 12 * sequences + 8 * documents  # modes of multimodal sets may follow
    if len(content) < wanted:
        raise UserError(f"data: {source.path} is cut short: {len(content):,} bytes are there, its header says {wanted}")
    lengths = np.frombuffer(content, "<i4", sequences, HEADER.size).astype(np.int64)
    offsets = np.frombuffer(content, "<i8", sequences, HEADER.size + 4 * sequences)
    edges = np.frombuffer(content, "<i8", documents, HEADER.size + 12 * sequences)
    dtype = np.dtype(DTYPES[code])
    if wrong := _damage(lengths, offsets, edges, dtype):
        raise UserError(f"data: {source.path} is damaged: {wrong}")
    return lengths, offsets, edges, dtype


def _damage(lengths: np.ndarray, offsets: np.ndarray, edges: np.ndarray, dtype: np.dtype) -> str | None:
    """What of an index cannot be: its documents cover all sequences, and no two sequences share tokens."""
    if (np.diff(edges) < 0).any() or edges.max(initial=0) > len(lengths):
        return "its documents do not follow one another"
    if not len(edges) or edges[0] != 0 or edges[-1] != len(lengths):
        ends = f"{edges[0]} to {edges[-1]}" if len(edges) else "none"
        return f"its document edges ({ends}) do not cover its {len(lengths):,} sequences"
    if (lengths < 0).any() or (offsets < 0).any():
        return "a sequence has a negative length or place"
    if (offsets % dtype.itemsize).any():
        return f"a sequence begins inside a token of {dtype.itemsize} bytes"
    filled = lengths > 0
    order = np.argsort(offsets[filled], kind="stable")
    begins, ends_at = offsets[filled][order], (offsets + lengths * dtype.itemsize)[filled][order]
    return "two sequences overlap" if (begins[1:] < ends_at[:-1]).any() else None


def with_text(parts: Iterator[tuple[str, DocumentPart]], config: Config) -> Iterator[tuple[str, DocumentPart]]:
    """The same parts; those that came as tokens get the text that the configured tokenizer reads in them.

    The marks that Megatron-LM puts around a document (--append-eod) are taken off; ours are put on later.
    """
    tokenizer: Tokenizer | None = None
    for origin, part in parts:
        if part.tokens is None:
            yield origin, part
            continue
        if tokenizer is None:
            if config.tokenizer.path is None:
                raise UserError(
                    f"tokenizer.path: {part.name} holds tokens, not text; name the tokenizer that they were made with"
                )
            if config.data.normalize != "none":
                raise UserError(f"data.normalize: {part.name} holds tokens, which stay as they are; choose none")
            tokenizer = Tokenizer(tokenizer_file(config.tokenizer.path), config.tokenizer.special_ids)
        tokens = _unmarked(part.tokens, tokenizer)
        if len(tokens) and not 0 <= int(tokens.min()) <= int(tokens.max()) < tokenizer.vocabulary:
            raise UserError(
                f"data: {part.name} holds token {max(int(tokens.max()), -int(tokens.min()))}, the tokenizer has "
                f"{tokenizer.vocabulary}; name the tokenizer that it was made with"
            )
        yield origin, replace(part, text=tokenizer.decode(tokens), tokens=tokens)


def _unmarked(tokens: np.ndarray, tokenizer: Tokenizer) -> np.ndarray:
    inner = np.flatnonzero((tokens != tokenizer.specials["<s>"]) & (tokens != tokenizer.specials["</s>"]))
    return tokens[inner[0] : inner[-1] + 1] if len(inner) else tokens[:0]
