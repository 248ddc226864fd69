"""Data sets of Hugging Face, as folders on this disk: the library reads them like those of the hub."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from trainer.data import huggingface_dataset, prepare
from trainer.data.huggingface_dataset import DatasetName, fetched, parse
from trainer.data.preparation import cache_root
from trainer.utils.errors import UserError

pytest.importorskip("datasets")


@pytest.fixture
def dataset(tmp_path: Path, text) -> Path:
    folder = tmp_path / "set"
    folder.mkdir()
    rows = [json.dumps({"text": text(k), "url": k, "body": None}) for k in range(120)]
    (folder / "train.jsonl").write_text("\n".join(rows) + "\n")
    (folder / "test.jsonl").write_text("\n".join(rows[:3]) + "\n")
    return folder


@pytest.mark.parametrize(
    ("uri", "name"),
    [
        ("hf://allenai/c4", DatasetName("allenai/c4", None, "train", None)),
        ("hf://allenai/c4:en:validation", DatasetName("allenai/c4", "en", "validation", None)),
        ("hf://wikitext::test@1.0.0", DatasetName("wikitext", None, "test", "1.0.0")),
        ("hf:///data/set", DatasetName("/data/set", None, "train", None)),
    ],
)
def test_names(uri, name):
    assert parse(uri) == name


def test_a_data_set_is_the_same_corpus_as_its_documents(dataset, tmp_path, text, make_config):
    files = tmp_path / "files"
    files.mkdir()
    for number in range(120):
        (files / f"{number:03d}.txt").write_bytes(text(number).encode())
    given = prepare(make_config(f"hf://{dataset}", tmp_path / "cache"))
    assert given.fingerprint == prepare(make_config(files, tmp_path / "other")).fingerprint
    assert prepare(make_config(f"hf://{dataset}::test", tmp_path / "cache")).train.documents == 2


def test_it_is_streamed_once_and_an_interrupted_stream_goes_on(dataset, tmp_path, make_config, monkeypatch):
    monkeypatch.setattr(huggingface_dataset, "PART_BYTES", 4000)
    config = make_config(f"hf://{dataset}", tmp_path / "cache")
    rows, read = huggingface_dataset._rows, []

    def torn(uri, name, field, skip):
        for number, row in enumerate(rows(uri, name, field, skip), skip):
            if number == 50:
                raise KeyboardInterrupt
            read.append(number)
            yield row

    monkeypatch.setattr(huggingface_dataset, "_rows", torn)
    with pytest.raises(KeyboardInterrupt):
        prepare(config)
    left = list((cache_root(config) / "datasets").glob("*/part-*.jsonl"))
    assert left and not list((cache_root(config) / "datasets").glob("*/complete.json"))

    def continued(uri, name, field, skip):
        assert 0 < skip <= 50
        read.extend(range(skip, 120))
        return rows(uri, name, field, skip)

    monkeypatch.setattr(huggingface_dataset, "_rows", continued)
    whole = prepare(config)
    monkeypatch.setattr(huggingface_dataset, "_rows", None)
    assert prepare(config).fingerprint == whole.fingerprint
    assert set(read) == set(range(120)) and whole.train.documents + whole.held_out.documents == 120
    assert whole.fingerprint == prepare(make_config(dataset / "train.jsonl", tmp_path / "other")).fingerprint


@pytest.mark.parametrize(
    ("uri", "field", "message"),
    [
        ("hf://", "text", r"^data.path: hf:// is no data set; write hf://<owner>"),
        ("hf://a b", "text", r"is no data set"),
        ("hf://{}::tset", "text", r"^data.path: hf://.* cannot be read: .*tset"),
        ("hf://{}/nowhere", "text", r"^data.path: hf://.*/nowhere cannot be read: "),
        ("hf://{}", "txt", r"^data.field: hf://.* has no column 'txt' \(did you mean 'text'\?\); .* text, url, body"),
        ("hf://{}", "body", r"the column 'body' holds no text but None"),
    ],
)
def test_data_sets_that_cannot_be_read(dataset, tmp_path, uri, field, message):
    with pytest.raises(UserError, match=message):
        fetched(uri.format(dataset), field, tmp_path / "cache", lambda what, done, total: None)
