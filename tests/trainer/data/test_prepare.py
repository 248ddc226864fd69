from __future__ import annotations

import errno
import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from trainer.data import Prepared, Tokenizer, encoding, open_prepared, preparation, prepare, shards, survey
from trainer.data.shards import SplitWriter, TokenStream
from trainer.utils.errors import UserError


def documents(prepared: Prepared, split: str) -> list[np.ndarray]:
    stream = TokenStream(prepared, split)
    tokens = np.zeros((1, len(stream)), np.int64)
    stream.read(np.array([0]), tokens)
    return np.split(tokens[0], stream.starts[1:])


def test_every_document_comes_back_exactly(folder, prepared):
    tokenizer = Tokenizer(prepared.tokenizer_file)
    back = []
    for split in ("train", "held_out"):
        for document in documents(prepared, split):
            assert document[0] == prepared.bos and document[-1] == prepared.eos
            assert not np.isin(document[1:-1], list(prepared.specials.values())).any()
            back.append(tokenizer.decode(document))
    assert sorted(back) == sorted(path.read_bytes().decode() for path in folder.iterdir())


def test_counts_agree_with_the_text(folder, prepared):
    tokenizer = Tokenizer(prepared.tokenizer_file)
    for split, info in (("train", prepared.train), ("held_out", prepared.held_out)):
        found = documents(prepared, split)
        assert info.documents == len(found) > 0
        assert info.tokens == sum(map(len, found))
        assert info.bytes == sum(len(tokenizer.decode(document).encode()) for document in found)
        predicted = np.concatenate([document[1:] for document in found])
        share = np.unique(predicted, return_counts=True)[1] / len(predicted)
        bits = -(share * np.log2(share)).sum() * len(predicted) / info.bytes
        assert info.unigram_bits_per_byte == pytest.approx(bits, rel=1e-12)


def test_held_out_documents_are_chosen_by_their_hash(folder, config, prepared, tmp_path, make_config):
    tokenizer = Tokenizer(prepared.tokenizer_file)
    texts = {tokenizer.decode(document) for document in documents(prepared, "held_out")}
    for path in folder.iterdir():
        text = path.read_bytes()
        share = int.from_bytes(hashlib.sha256(text).digest()[:8]) / 2**64
        assert (text.decode() in texts) == (share < config.data.held_out)
    # other text beside it, in another order, moves none of them
    for number, path in enumerate(sorted(folder.iterdir())):
        (tmp_path / f"{'ab'[number % 2]}{path.name}").write_bytes(path.read_bytes())
    (tmp_path / "more.txt").write_text("another document\n")
    again = prepare(make_config(tmp_path, tmp_path / "cache"))
    tokenizer = Tokenizer(again.tokenizer_file)
    assert texts <= {tokenizer.decode(document) for document in documents(again, "held_out")}


def test_nothing_is_done_twice(config, prepared, monkeypatch):
    def never(*_args, **_keys):
        raise AssertionError("work was repeated")

    monkeypatch.setattr(survey, "parts", never)
    assert prepare(config).fingerprint == prepared.fingerprint


def test_the_same_text_elsewhere_is_not_encoded_again(folder, config, prepared, tmp_path, make_config, monkeypatch):
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    monkeypatch.setattr(preparation, "train", None)
    monkeypatch.setattr(preparation, "encode", None)
    assert prepare(make_config(tmp_path, Path(config.run.cache))).folder == prepared.folder


def test_the_fingerprint_depends_on_the_text_alone(folder, prepared, tmp_path, make_config):
    assert prepare(make_config(folder, tmp_path)).fingerprint == prepared.fingerprint
    assert prepare(make_config(folder, tmp_path, data={"held_out": 0.2})).fingerprint != prepared.fingerprint


def test_shards_are_one_stream(folder, prepared, tmp_path, make_config, monkeypatch):
    monkeypatch.setattr(shards, "SHARD_TOKENS", 1000)
    split_up = prepare(make_config(folder, tmp_path))
    assert len(split_up.manifest["splits"]["train"]["shards"]) > 5
    split_up.verify()
    for split in ("train", "held_out"):
        for a, b in zip(documents(split_up, split), documents(prepared, split), strict=True):
            assert np.array_equal(a, b)


@pytest.mark.parametrize(("vocabulary", "dtype"), [(1 << 16, "uint16"), ((1 << 16) + 1, "uint32")])
def test_ids_are_as_wide_as_the_vocabulary_needs(tmp_path, vocabulary, dtype):
    writer = SplitWriter(tmp_path, "train", vocabulary, bos=1)
    writer.add(np.array([1, vocabulary - 1, 2]), 3, first=True)
    record = writer.finish()
    assert record["dtype"] == dtype
    assert np.fromfile(tmp_path / "train-00000.tokens", dtype).tolist() == [1, vocabulary - 1, 2]


def test_empty_files_are_counted(tmp_path, make_config, text):
    for number in range(60):
        (tmp_path / f"{number}.txt").write_text(text(number))
    (tmp_path / "nothing.txt").touch()
    prepared = prepare(make_config(tmp_path, tmp_path / "cache"))
    assert prepared.report["dropped"] == {"empty": 1, "duplicate": 0, "short": 0, "long": 0}
    assert prepared.train.documents + prepared.held_out.documents == 60


def test_cleaning_reports_what_it_removed(tmp_path, make_config, text):
    texts = [text(number) for number in range(60)]
    texts += [texts[3], texts[7], "tiny", "long " * 2000, "Cafe\u0301 " + texts[0], "Caf\u00e9 " + texts[0]]
    for number, content in enumerate(texts):
        (tmp_path / f"{number:02d}.txt").write_text(content, newline="")
    keys = {"normalize": "nfc", "deduplicate": True, "shortest": 5, "longest": 5000}
    prepared = prepare(make_config(tmp_path, tmp_path / "cache", data=keys))
    assert prepared.report["dropped"] == {"empty": 0, "duplicate": 3, "short": 1, "long": 1}
    tokenizer = Tokenizer(prepared.tokenizer_file)
    back = [tokenizer.decode(document) for split in ("train", "held_out") for document in documents(prepared, split)]
    assert sorted(back) == sorted([*texts[:60], "Caf\u00e9 " + texts[0]])


def test_nothing_is_left_after_cleaning(tmp_path, make_config):
    (tmp_path / "a.txt").write_text("abc")
    with pytest.raises(UserError, match=r"there is no text: of 1 documents, 1 short \(a\.txt\)"):
        prepare(make_config(tmp_path, tmp_path / "cache", data={"shortest": 10}))


def test_few_documents_hold_out_the_one_with_the_lowest_hash(tmp_path, make_config, text):
    for number in range(4):
        (tmp_path / f"{number}.txt").write_text(text(number, lines=80))
    prepared = prepare(make_config(tmp_path, tmp_path / "cache", data={"held_out": 1e-9}))
    lowest = min(tmp_path.glob("*.txt"), key=lambda path: hashlib.sha256(path.read_bytes()).digest())
    assert Tokenizer(prepared.tokenizer_file).decode(documents(prepared, "held_out")[0]) == lowest.read_bytes().decode()


@pytest.mark.parametrize(
    ("content", "keys", "message"),
    [
        ("", {}, r"there is no text: of 1 documents, 1 empty \(a.txt\)"),
        ("\n \n", {"data": {"document": "line"}}, r"there is no text: of 1 documents, 1 empty \(a.txt\)"),
        ("one long text\n" * 500, {}, "nothing can be held out of training; .* data.document=paragraph"),
        ("same\n" * 500, {"data": {"document": "line"}}, "500 documents of one text"),
        (
            "ab\n\nac\n\nad\n",
            {"data": {"document": "line"}},
            "tokenizer.vocabulary: 480 is more than this text supports",
        ),
        ("x\n", {"tokenizer": {"path": "none.model"}}, "tokenizer.path: no such file: none.model"),
    ],
)
def test_text_that_cannot_be_prepared(tmp_path, make_config, content, keys, message):
    (tmp_path / "a.txt").write_text(content)
    with pytest.raises(UserError, match=message):
        prepare(make_config(tmp_path / "a.txt", tmp_path / "cache", **keys))


def test_a_tokenizer_of_yours(folder, prepared, tmp_path, make_config):
    keys = {"tokenizer": {"path": str(prepared.tokenizer_file), "vocabulary": 300}}
    with pytest.raises(UserError, match=r"set model\.vocabulary=512"):
        prepare(make_config(folder, tmp_path, **keys))
    keys["model"] = {"vocabulary": 512}
    assert prepare(make_config(folder, tmp_path, **keys)).fingerprint == prepared.fingerprint


@pytest.mark.parametrize("file", ["train-00000.tokens", "held_out.documents.npy", "tokenizer.model", "manifest.json"])
def test_damage_is_named(folder, tmp_path, make_config, file):
    prepared = prepare(make_config(folder, tmp_path))
    whole = (prepared.folder / file).read_bytes()

    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    (prepared.folder / file).write_bytes(flipped)
    if file != "manifest.json":
        with pytest.raises(UserError, match=f"{file} does not match its sha256 .* in .*; delete that folder"):
            open_prepared(prepared.folder).verify()

    (prepared.folder / file).write_bytes(whole[:-1])
    with pytest.raises(UserError, match=f"{file} (has .* bytes, not|cannot be read)"):
        open_prepared(prepared.folder)

    (prepared.folder / file).unlink()
    with pytest.raises(UserError, match=f"{file} is missing in .*; delete that folder"):
        open_prepared(prepared.folder)


def test_a_cache_that_cannot_be_written(folder, tmp_path, make_config):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"set run\.cache to a folder that you own"):
        prepare(make_config(folder, tmp_path / "file"))


def test_a_full_disk_leaves_nothing_behind(folder, tmp_path, make_config, monkeypatch):
    written = []
    really = shards.write_file

    def write(path, content):
        if len(written) == 2:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        written.append(path)
        return really(path, content)

    monkeypatch.setattr(shards, "write_file", write)
    monkeypatch.setattr(encoding, "write_file", write)
    with pytest.raises(UserError, match=r"the disk of .* is full; free some space or set run\.cache"):
        prepare(make_config(folder, tmp_path))
    assert not [entry for entry in (tmp_path / "tokens").glob("*") if entry.is_dir() and entry.suffix != ".partial"]
    monkeypatch.undo()
    prepare(make_config(folder, tmp_path)).verify()


def test_interrupted_encoding_goes_on_where_it_stopped(folder, tmp_path, make_config, monkeypatch):
    monkeypatch.setattr(encoding, "BATCH_BYTES", 2000)
    monkeypatch.setattr(encoding, "CHECKPOINT_BATCHES", 3)
    whole = prepare(make_config(folder, tmp_path / "undisturbed"))
    assert len(whole.manifest["splits"]["train"]["shards"]) > 2
    encode_all, encoded = Tokenizer.encode_all, []

    def stopping(self, texts, threads=1):
        if len(encoded) in stops:
            stops.remove(len(encoded))
            raise KeyboardInterrupt
        encoded.append(texts)
        return encode_all(self, texts, threads)

    monkeypatch.setattr(Tokenizer, "encode_all", stopping)
    stops = {2, 7, 16}
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            prepare(make_config(folder, tmp_path / "cache"))
    prepared = prepare(make_config(folder, tmp_path / "cache"))
    prepared.verify()
    assert prepared.fingerprint == whole.fingerprint
    again = len(encoded) - len({tuple(texts) for texts in encoded})
    assert 0 < again <= 3 * 2  # at most what lay between two checkpoints, each time


PREPARE = """
import sys
from pathlib import Path
from trainer import config
from trainer.data import prepare
print(prepare(config.load(Path(sys.argv[1]))).fingerprint)
"""


def start(config, tmp_path) -> subprocess.Popen:
    (tmp_path / "config.yaml").write_text(config.to_yaml())
    command = [sys.executable, "-c", PREPARE, str(tmp_path / "config.yaml")]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(Path.cwd())}
    )


def test_processes_that_prepare_the_same_share_the_work(folder, prepared, tmp_path, make_config):
    both = [start(make_config(folder, tmp_path), tmp_path) for _ in range(3)]
    assert {process.communicate()[0].strip() for process in both} == {prepared.fingerprint}
    assert len([entry for entry in (tmp_path / "tokens").iterdir() if entry.is_dir()]) == 1


def test_a_killed_preparation_leaves_nothing_that_is_taken_for_whole(tmp_path, make_config, text):
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    for number in range(2000):
        (corpus / f"{number}.txt").write_text(text(number, lines=40))
    config = make_config(corpus, tmp_path / "cache")
    whole = prepare(make_config(corpus, tmp_path / "other")).fingerprint
    for delay in (0.3, 0.5, 0.7, 0.9):
        process = start(config, tmp_path)
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        process.wait()
        for folder in (tmp_path / "cache").glob("tokens/*"):
            if folder.is_dir() and folder.suffix != ".partial":
                open_prepared(folder).verify()
    prepared = prepare(config)
    prepared.verify()
    assert prepared.fingerprint == whole
