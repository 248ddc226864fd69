"""Corpora of Megatron-LM, written here byte for byte as its format lays down."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from trainer.data import Tokenizer, prepare
from trainer.data.shards import TokenStream
from trainer.utils.errors import UserError


def write(prefix: Path, documents: list[list[list[int]]], code: int = 8, dtype: str = "<u2") -> Path:
    """documents: of sequences, of tokens."""
    sequences = [sequence for document in documents for sequence in document]
    lengths = np.array([len(sequence) for sequence in sequences], "<i4")
    offsets = (np.cumsum(lengths, dtype=np.int64) - lengths) * np.dtype(dtype).itemsize
    edges = np.cumsum([0] + [len(document) for document in documents])
    header = struct.pack("<9sQBQQ", b"MMIDIDX\x00\x00", 1, code, len(sequences), len(edges))
    index = header + lengths.tobytes() + offsets.astype("<i8").tobytes() + edges.astype("<i8").tobytes()
    prefix.with_suffix(".idx").write_bytes(index)
    prefix.with_suffix(".bin").write_bytes(np.concatenate([np.array(s, dtype) for s in sequences]).tobytes())
    return prefix


@pytest.fixture
def tokens(folder, prepared) -> list[list[list[int]]]:
    """200 documents of the corpus, each two sequences, with Megatron-LM's mark at the end."""
    tokenizer = Tokenizer(prepared.tokenizer_file)
    found = []
    for path in sorted(folder.iterdir()):
        ids = tokenizer.encode(path.read_bytes().decode())
        found.append([ids[:40], [*ids[40:], tokenizer.specials["</s>"]]])
    return found


@pytest.mark.parametrize(("code", "dtype"), [(8, "<u2"), (4, "<i4")])
def test_its_tokens_are_the_shards_that_the_text_gives(folder, prepared, tokens, tmp_path, make_config, code, dtype):
    write(tmp_path / "corpus_text_document", tokens, code, dtype)
    keys = {"tokenizer": {"path": str(prepared.tokenizer_file)}}
    given = prepare(make_config(tmp_path / "corpus_text_document", tmp_path / "cache", **keys))
    assert given.train == prepared.train and given.held_out == prepared.held_out
    for split in ("train", "held_out"):
        streams = [TokenStream(one, split) for one in (given, prepared)]
        read = [np.empty((1, len(stream)), np.int64) for stream in streams]
        for stream, out in zip(streams, read, strict=True):
            stream.read(np.array([0]), out)
        assert (read[0] == read[1]).all() and (streams[0].starts == streams[1].starts).all()


def test_tokens_that_are_not_what_the_tokenizer_would_choose_are_kept(folder, prepared, tokens, tmp_path, make_config):
    tokenizer = Tokenizer(prepared.tokenizer_file)
    spelled = [[tokenizer._engine._processor.piece_to_id(f"<0x{byte:02X}>") for byte in b"spelled in bytes"]]
    write(tmp_path / "odd", [*tokens, spelled, spelled])
    keys = {"tokenizer": {"path": str(prepared.tokenizer_file)}}
    given = prepare(make_config(tmp_path, tmp_path / "cache", **keys))
    assert given.train.tokens + given.held_out.tokens == (
        prepared.train.tokens + prepared.held_out.tokens + 2 * len(spelled[0]) + 4
    )
    assert given.fingerprint != prepared.fingerprint


def broken(index: bytes) -> dict[str, tuple[bytes, str]]:
    return {
        "text": (b"no index at all, but long enough to hold a header", "is no index of Megatron-LM"),
        "version": (index[:9] + struct.pack("<Q", 7) + index[17:], "version 7, dtype code 8"),
        "floats": (index[:17] + b"\x07" + index[18:], "dtype code 7"),
        "cut": (index[:-8], "is cut short: .* its header says"),
        "edges": (index[:-8] + struct.pack("<q", 10**6), "documents do not follow one another"),
    }


@pytest.mark.parametrize("damage", ["text", "version", "floats", "cut", "edges"])
def test_damaged_indices(prepared, tokens, tmp_path, make_config, damage):
    file = write(tmp_path / "corpus", tokens).with_suffix(".idx")
    content, message = broken(file.read_bytes())[damage]
    file.write_bytes(content)
    with pytest.raises(UserError, match=message):
        prepare(make_config(file, tmp_path / "cache", tokenizer={"path": str(prepared.tokenizer_file)}))


def test_damaged_tokens_and_missing_tokenizers(folder, prepared, tokens, tmp_path, make_config):
    prefix = write(tmp_path / "corpus", tokens)
    own = {"path": str(prepared.tokenizer_file)}
    with pytest.raises(UserError, match=r"^tokenizer.path: corpus.idx:0 holds tokens, not text"):
        prepare(make_config(prefix, tmp_path / "cache"))
    with pytest.raises(UserError, match=r"^data.normalize: "):
        prepare(make_config(prefix, tmp_path / "cache", tokenizer=own, data={"normalize": "nfc"}))
    bin_file = prefix.with_suffix(".bin")
    whole = bin_file.read_bytes()
    bin_file.write_bytes(whole[:-2])
    with pytest.raises(UserError, match=r"corpus.bin is cut short: [\d,]+ tokens are there"):
        prepare(make_config(prefix, tmp_path / "cache", tokenizer=own))
    bin_file.unlink()
    with pytest.raises(UserError, match=r"has no corpus.bin beside it"):
        prepare(make_config(prefix, tmp_path / "cache", tokenizer=own))
    tokens[3][0][5] = 60_000
    write(tmp_path / "corpus", tokens)
    with pytest.raises(UserError, match=r"corpus.idx:3 holds token 60000, the tokenizer has 480"):
        prepare(make_config(prefix, tmp_path / "cache", tokenizer=own))
