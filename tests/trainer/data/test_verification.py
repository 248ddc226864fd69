"""Damage of prepared files: found at open, beside the training, and by `isoflop data verify`."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from trainer.cli.main import main
from trainer.data import open_prepared, prepare, verification
from trainer.data.paced_hash import paced_sha256
from trainer.data.verification import Verification, check_opened, sampled_damage
from trainer.utils.errors import UserError

FINGERPRINT = "411bd067f24a7ecd868dab3449da0554abfded36a82436609f492c8ceb445dd5"


def flip(file: Path, *places: int) -> None:
    """Flip bit 0 of these bytes."""
    content = bytearray(file.read_bytes())
    for place in places:
        content[place] ^= 1
    file.write_bytes(content)


@pytest.fixture
def copy(prepared, tmp_path):
    """The prepared corpus in a folder of its own."""
    shutil.copytree(prepared.folder, tmp_path / "copy")
    return open_prepared(tmp_path / "copy")


@pytest.fixture
def watched(monkeypatch):
    """Verification of all files of a corpus that looks for changes all the time; closed in the end."""
    monkeypatch.setattr(verification, "SCAN_SECONDS", 0.01)
    made = []

    def watch(prepared):
        made.append(Verification(prepared.folder, prepared.files()))
        return made[-1]

    yield watch
    for one in made:
        one.close()


def ended(watch: Verification) -> Verification:
    watch.hurry()
    watch._thread.join(60)
    assert not watch.running
    return watch


def test_identity_and_layout_are_those_of_0_1_0(tmp_path, make_config):
    """What was prepared by 0.1.0 opens, and what is prepared anew has the same fingerprint: runs go on with it."""
    folder = tmp_path / "corpus"
    folder.mkdir()
    for number in range(8):
        (folder / f"{number}.txt").write_text(f"the cat {number} sat on the mat and saw dog {number * 7}\n" * 60)
    made = prepare(make_config(folder, tmp_path / "cache", tokenizer={"vocabulary": 400}))
    assert made.fingerprint == FINGERPRINT
    assert made.manifest["format"] == 1
    names = {"manifest.json", *(entry["file"] for entry in made.manifest["files"])}
    assert {path.name for path in made.folder.iterdir()} == names
    made.verify()


@pytest.mark.parametrize(
    "file", ["train-00000.tokens", "train.documents.npy", "held_out-00000.tokens", "tokenizer.model"]
)
def test_one_flipped_bit_is_found_when_a_small_corpus_is_opened(copy, file):
    check_opened(copy)
    size = (copy.folder / file).stat().st_size
    flip(copy.folder / file, size // 2)
    with pytest.raises(UserError, match=rf"data: {file} does not match .* in {copy.folder}; delete that folder"):
        check_opened(copy)


@pytest.mark.parametrize("split", ["train", "held_out"])
@pytest.mark.parametrize(
    ("damage", "what"),
    [
        (lambda tokens, most: tokens ^ 1, "has no <s>"),
        (lambda tokens, most: tokens * 0, "has no <s>"),
        (lambda tokens, most: np.roll(tokens, 1), "has no <s>"),
        (lambda tokens, most: np.where(tokens > 2, most, tokens), "holds tokens that the tokenizer does not have"),
        (lambda tokens, most: np.where(tokens == 2, 3, tokens), "has no </s>"),
    ],
    ids=["bit 0", "zeroed", "shifted", "not in the vocabulary", "no ends"],
)
def test_samples_find_what_is_damaged_all_over(copy, monkeypatch, split, damage, what):
    """With no file small enough to be hashed at once, as in a corpus of many shards."""
    monkeypatch.setattr(verification, "OPENED_BYTES", 0)
    check_opened(copy)
    file = copy.folder / f"{split}-00000.tokens"
    tokens = np.fromfile(file, "<u2")
    damage(tokens, copy.vocabulary).astype("<u2").tofile(file)
    with pytest.raises(UserError, match=rf"data: {file.name} {what}"):
        check_opened(copy)


def test_samples_find_an_index_that_points_nowhere(copy, monkeypatch):
    monkeypatch.setattr(verification, "OPENED_BYTES", 0)
    index = copy.folder / "train.documents.npy"
    np.save(index, np.load(index) * 1000 + 5)
    with pytest.raises(UserError, match=r"train\.documents\.npy names places where no document can be"):
        check_opened(copy)


def test_samples_of_several_shards_name_the_shard(folder, tmp_path, make_config, monkeypatch):
    from trainer.data import encoding

    monkeypatch.setattr(encoding, "BATCH_BYTES", 2000)
    monkeypatch.setattr(encoding, "CHECKPOINT_BATCHES", 3)
    made = prepare(make_config(folder, tmp_path))
    assert len(made.manifest["splits"]["train"]["shards"]) > 2 and sampled_damage(made, "train") is None
    last = made.folder / made.manifest["splits"]["train"]["shards"][-1]
    monkeypatch.setattr(verification, "DOCUMENTS", 10_000)
    (np.fromfile(last, "<u2") * 0).tofile(last)
    assert sampled_damage(made, "train").file == last.name


def test_a_whole_corpus_is_whole_beside_the_training(copy, watched):
    watch = watched(copy)
    watch.reach(7)
    assert ended(watch).damage is None
    assert watch.whole_at == 7
    assert watch.bytes == sum(entry["bytes"] for entry in copy.files())


@pytest.mark.parametrize("apart", [True, False])
@pytest.mark.parametrize("file", ["train-00000.tokens", "held_out.documents.npy", "tokenizer.model"])
def test_one_flipped_bit_is_found_beside_the_training(copy, watched, file, apart, monkeypatch):
    monkeypatch.setattr(verification, "BYTES_PER_SECOND", 1e12)
    monkeypatch.setattr(verification, "APART_BYTES", 0 if apart else 1 << 30)
    expected = hashlib.sha256((copy.folder / file).read_bytes()).hexdigest()
    flip(copy.folder / file, (copy.folder / file).stat().st_size // 3)
    watch = watched(copy)
    wait_until(lambda: not watch.running)
    damage = watch.damage
    assert (damage.file, damage.expected) == (file, expected)
    assert damage.found == hashlib.sha256((copy.folder / file).read_bytes()).hexdigest()


@pytest.mark.parametrize("python", ["/bin/false", "/nowhere"])
def test_where_no_other_process_can_hash_the_thread_does(copy, watched, monkeypatch, python):
    monkeypatch.setattr(verification, "APART_BYTES", 0)
    monkeypatch.setattr(sys, "executable", python)
    assert ended(watched(copy)).damage is None
    flip(copy.folder / "tokenizer.model", 50)
    assert ended(watched(copy)).damage.file == "tokenizer.model"


def test_in_a_hurry_nobody_waits_for_a_slow_process(copy, watched, monkeypatch):
    """At a byte a second that would take days."""
    monkeypatch.setattr(verification, "APART_BYTES", 0)
    monkeypatch.setattr(verification, "BYTES_PER_SECOND", 1)
    watch = watched(copy)
    wait_until(lambda: watch._child is not None)
    assert watch.whole_at is None
    ended(watch)
    assert watch.whole_at == 0 and watch.damage is None


def test_a_slow_process_that_begins_while_somebody_hurries_is_ended(copy, watched, monkeypatch):
    """Between the question whether there is time for one and its start."""
    monkeypatch.setattr(verification, "APART_BYTES", 0)
    monkeypatch.setattr(verification, "BYTES_PER_SECOND", 1)
    begins, hurried = threading.Event(), threading.Event()

    def late(*words, begin=subprocess.Popen, **how):
        begins.set()
        assert hurried.wait(60)
        return begin(*words, **how)

    monkeypatch.setattr(verification.subprocess, "Popen", late)
    watch = watched(copy)
    assert begins.wait(60)
    watch.hurry()
    hurried.set()
    wait_until(lambda: not watch.running)
    assert watch.whole_at == 0 and watch.damage is None


def test_closing_ends_a_slow_process(copy, watched, monkeypatch):
    monkeypatch.setattr(verification, "APART_BYTES", 0)
    monkeypatch.setattr(verification, "BYTES_PER_SECOND", 1)
    watch = watched(copy)
    wait_until(lambda: watch._child is not None)
    watch.close()
    wait_until(lambda: not watch.running)
    assert watch._child.poll() is not None and watch.whole_at is None and watch.damage is None


@pytest.mark.parametrize("size", [0, 1, (1 << 20) - 1, 1 << 20, (3 << 20) + 5])
def test_paced_hash_against_hashlib(tmp_path, size):
    content = np.random.default_rng(size).bytes(size)
    (tmp_path / "file").write_bytes(content)
    assert paced_sha256(str(tmp_path / "file"), 1e12) == hashlib.sha256(content).hexdigest()


def wait_until(ready) -> None:
    for _ in range(6000):
        if ready():
            return
        threading.Event().wait(0.01)
    raise AssertionError("never")


def test_damage_after_a_file_was_hashed(copy, watched):
    """What changes later is hashed again; steps after the last look that found it whole are not trusted."""
    watch = watched(copy)
    watch.reach(5)
    wait_until(lambda: watch.whole_at == 5)
    flip(copy.folder / "train-00000.tokens", 100)
    watch.reach(9)
    wait_until(lambda: not watch.running)
    assert watch.damage.file == "train-00000.tokens" and watch.whole_at in (5, 9)


def test_a_file_that_is_cut_short_or_touched(copy, watched):
    watch = watched(copy)
    wait_until(lambda: watch.whole_at is not None)
    before = watch.bytes
    os.utime(copy.folder / "tokenizer.model")
    wait_until(lambda: watch.bytes > before)
    assert watch.running and watch.damage is None
    os.truncate(copy.folder / "train-00000.tokens", 1000)
    wait_until(lambda: not watch.running)
    assert watch.damage.file == "train-00000.tokens"


def test_a_file_that_is_replaced(copy, watched, monkeypatch):
    """Before it was hashed it is not known what the run reads; after that it is what was hashed, whatever its name."""
    file = copy.folder / "train-00000.tokens"
    gate, digest = threading.Event(), Verification._digest
    monkeypatch.setattr(Verification, "_digest", lambda self, path: (gate.wait(60), digest(self, path))[1])
    early = watched(copy)
    aside = file.with_suffix(".aside")
    shutil.copyfile(file, aside)
    os.replace(aside, file)
    gate.set()
    wait_until(lambda: not early.running)
    assert early.damage.file == file.name and "replaced or deleted" in early.damage.text

    late = watched(copy)
    wait_until(lambda: late.whole_at == 0)
    aside.write_bytes(b"another file")
    os.replace(aside, file)
    assert ended(late).damage is None


def test_going_back_takes_trust_back(copy, watched):
    watch = watched(copy)
    watch.reach(60)
    wait_until(lambda: watch.whole_at == 60)
    watch.reach(40)
    assert watch.whole_at == 40


def said(capsys, *words: str) -> tuple[int, str, list[str]]:
    code = main(["data", "verify", *words])
    out, err = capsys.readouterr()
    return code, out, [line for line in err.splitlines() if line.startswith("isoflop:")]


def test_data_verify(folder, tmp_path, make_config, capsys):
    cache = tmp_path / "cache"
    words = ["data=text", f"data.path={folder}", "data.sequence_length=32", "data.held_out=0.1"]
    words += ["tokenizer.vocabulary=480", f"run.cache={cache}"]
    code, _, errors = said(capsys, *words)
    assert code == 2 and len(errors) == 1 and f"not prepared in {cache}" in errors[0]
    assert not cache.exists()

    made = prepare(make_config(folder, cache))
    for asked in (words, [str(made.folder)]):
        code, out, errors = said(capsys, *asked)
        assert (code, errors) == (0, []) and out.startswith(f"whole {made.folder}  5 files")
    (found,) = json.loads(said(capsys, "--json", str(made.folder))[1])
    assert found["fingerprint"] == made.fingerprint and found["damaged"] == []

    shutil.copytree(made.folder, made.folder.with_name("other"))
    flip(made.folder / "train-00000.tokens", 1000)
    os.truncate(made.folder.with_name("other") / "tokenizer.model", 10)
    code, out, errors = said(capsys, str(made.folder))
    assert (code, out) == (1, "") and len(errors) == 1
    assert "train-00000.tokens does not match its sha256" in errors[0] and "delete that folder" in errors[0]
    code, out, errors = said(capsys, "--all", "--json", f"run.cache={cache}")
    assert code == 1 and len(errors) == 2 and [len(one["damaged"]) for one in json.loads(out)] == [1, 1]
    assert any("tokenizer.model has 10 bytes" in line for line in errors)


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["nowhere"], "data verify: nowhere: no such folder"),
        (["{here}"], "holds neither prepared data (manifest.json) nor a run (config.yaml)"),
        (["{here}", "data=text"], "data verify: give one folder, or overrides, or --all"),
        (["{here}", "--all"], "data verify: give one folder, or overrides, or --all"),
        (["data=text", "data.path=hf://somebody/something", "run.cache={here}"], "this corpus is not prepared in"),
        (["data.path=nowhere", "data=text"], "data.path: no such file or folder: nowhere"),
        (["--every"], "--every: no such option"),
    ],
)
def test_bad_input_is_one_line(words, line, tmp_path, capsys):
    code, out, errors = said(capsys, *(word.format(here=tmp_path) for word in words))
    assert (code, out, len(errors)) == (2, "", 1) and line in errors[0]
    assert main(["data", "--all"]) == 2
    assert capsys.readouterr().err == "isoflop: --all: data verify has that option\n"
