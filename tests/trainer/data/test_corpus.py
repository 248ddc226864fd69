from __future__ import annotations

import gzip
import json
import resource
import sys

import pytest

from trainer.config import DataConfig
from trainer.data import files
from trainer.data.corpus import parts, sources
from trainer.utils.errors import UserError


def documents(path, **keys) -> dict[str, str]:
    """name -> text of every document, parts joined."""
    data = DataConfig(name="text", path=(str(path),), **keys)
    joined: dict[str, str] = {}
    for _, part in parts(data, sources(data)):
        assert (part.name not in joined) == part.first
        joined[part.name] = joined.get(part.name, "") + part.text
    return joined


def test_a_folder_is_read_in_the_order_of_its_names(tmp_path):
    (tmp_path / "sub").mkdir()
    for name in ("b.txt", "a.md", "sub/c.py", "picture.png", ".hidden.txt"):
        (tmp_path / name).write_text(name)
    assert list(documents(tmp_path).items()) == [("a.md", "a.md"), ("b.txt", "b.txt"), ("sub/c.py", "sub/c.py")]


def test_globs_and_files_are_read_once(tmp_path):
    for name in ("a.txt", "b.txt", "c.md"):
        (tmp_path / name).write_text(name)
    data = DataConfig(name="text", path=(f"{tmp_path}/*.txt", f"{tmp_path}/a.txt", str(tmp_path)))
    assert [source.name for source in sources(data)] == ["a.txt", "b.txt", "c.md"]


def test_the_folder_one_is_in(tmp_path, monkeypatch):
    (tmp_path / "one.txt").write_text("text")
    monkeypatch.chdir(tmp_path)
    assert [source.name for source in sources(DataConfig(name="text", path=(".",)))] == ["one.txt"]


def test_bytes_survive_newlines_of_every_kind(tmp_path):
    text = "one\r\ntwo\rthree\n\n\x0bfour\x0c\x1c\x85\u2028five\n"
    (tmp_path / "a.txt").write_bytes(text.encode())
    assert documents(tmp_path) == {"a.txt": text}


def test_large_files_come_in_parts_cut_behind_newlines(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "BLOCK_BYTES", 64)
    text = "".join(f"line é {number}\n" for number in range(100)) + "no newline"
    (tmp_path / "a.txt").write_text(text)
    data = DataConfig(name="text", path=(str(tmp_path),))
    read = [part for _, part in parts(data, sources(data))]
    assert len(read) > 10 and "".join(part.text for part in read) == text
    assert all(part.text.endswith("\n") for part in read[:-1])
    assert sum(part.read for part in read) == len(text.encode())


def test_paragraphs_and_lines(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"one\ntwo\r\n\n  \nthree\n\nfour")
    assert list(documents(tmp_path, document="paragraph").values()) == ["one\ntwo", "three", "four"]
    assert list(documents(tmp_path, document="line").values()) == ["one", "two", "three", "four"]


def test_jsonl(tmp_path):
    rows = [{"text": "first\nline"}, {"text": "second", "url": "x"}, {"text": ""}]
    (tmp_path / "a.jsonl").write_text("\n\n".join(json.dumps(row) for row in rows))
    assert list(documents(tmp_path).values()) == ["first\nline", "second", ""]
    assert list(documents(tmp_path)) == ["a.jsonl:1", "a.jsonl:3", "a.jsonl:5"]


ROWS = [{"text": f"document {k}\n" * (k % 5 + 1), "url": f"u{k}"} for k in range(600)]


def packed(suffix: str, content: bytes) -> bytes:
    if suffix == "gz":
        return gzip.compress(content)
    return pytest.importorskip("zstandard").ZstdCompressor().compress(content) if suffix == "zst" else content


@pytest.mark.parametrize("suffix", ["gz", "zst"])
def test_compressed_files_read_like_plain_ones(tmp_path, monkeypatch, suffix):
    monkeypatch.setattr(files, "BLOCK_BYTES", 256)
    lines = "\n".join(json.dumps(row) for row in ROWS).encode()
    (tmp_path / f"a.jsonl.{suffix}").write_bytes(packed(suffix, lines))
    (tmp_path / f"b.txt.{suffix}").write_bytes(packed(suffix, b"first\n") + packed(suffix, b"second\n"))
    read = documents(tmp_path)
    assert list(read.values()) == [row["text"] for row in ROWS] + ["first\nsecond\n"]


@pytest.mark.parametrize("suffix", ["gz", "zst"])
def test_torn_archives(tmp_path, suffix):
    whole = packed(suffix, bytes(range(128)) * 50_000)
    for content in (whole[: len(whole) // 2], b"not packed at all"):
        (tmp_path / f"a.txt.{suffix}").write_bytes(content)
        name = "gzip" if suffix == "gz" else "zstd"
        with pytest.raises(UserError, match=rf"a\.txt\.{suffix} is no whole {name} file"):
            documents(tmp_path)


def test_parquet(tmp_path):
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "a.parquet", row_group_size=70)
    assert list(documents(tmp_path).values()) == [row["text"] for row in ROWS]
    with pytest.raises(UserError, match=r"a\.parquet has no column 'txt' \(did you mean 'text'\?\); .* text, url"):
        documents(tmp_path, field="txt")
    pq.write_table(pa.table({"text": ["a", None]}), tmp_path / "a.parquet")
    with pytest.raises(UserError, match=r"a\.parquet row 2: 'text' holds no text but None"):
        documents(tmp_path)
    (tmp_path / "a.parquet").write_bytes((tmp_path / "a.parquet").read_bytes()[:-9])
    with pytest.raises(UserError, match=r"a\.parquet is no whole Parquet file"):
        documents(tmp_path)


def test_a_missing_library_is_named(tmp_path, monkeypatch):
    (tmp_path / "a.parquet").write_bytes(b"x")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UserError, match=r"a\.parquet needs pyarrow; run pip install pyarrow"):
        documents(tmp_path)


def test_the_standard_library_is_a_corpus():
    data = DataConfig()
    files = sources(data)
    names = [source.name for source in files]
    assert {"argparse.py", "json/decoder.py"} <= set(names) and names == sorted(names)
    left_out = ("test/", "site-packages/", "idlelib/", "encodings/", "pydoc_data/")
    assert not any(name.startswith(left_out) for name in names)
    assert 5e6 < sum(source.size for source in files) < 3e7
    text = "".join(part.text for _, part in parts(data, [source for source in files if source.name == "this.py"]))
    assert "Gur Mra bs Clguba" in text


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"txt": "a"}', r"a.jsonl line 2 has no field 'text' \(did you mean 'txt'\?\); set data.field to one of txt"),
        ('{"text": "a"', "a.jsonl line 2 is not whole JSON"),
        ('["a"]', "a.jsonl line 2 is a JSON list, not an object"),
        ('{"text": 5}', "a.jsonl line 2: the field 'text' holds no text but 5"),
        ('{"text": "\\ud800"}', "a.jsonl line 2: half a surrogate pair at character 0"),
        ('{"text": "a", "x": ' + "1" * 5000 + "}", "a.jsonl line 2 is JSON that cannot be read"),
        ('{"text": "a", "x": ' + "[" * 100_000 + "]" * 100_000 + "}", "a.jsonl line 2 is JSON that cannot be read"),
    ],
)
def test_torn_json(tmp_path, content, message):
    (tmp_path / "a.jsonl").write_text('{"text": "fine"}\n' + content + "\n")
    with pytest.raises(UserError, match=message):
        documents(tmp_path)


def test_invalid_utf8_is_found_at_its_byte(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "BLOCK_BYTES", 64)
    (tmp_path / "a.txt").write_bytes(b"x" * 50 + b"\n" + b"y" * 99 + b"\xe9 latin")
    for document in ("file", "line"):
        with pytest.raises(UserError, match=r"a.txt is not UTF-8 at byte 150 \(0xe9\)"):
            documents(tmp_path, document=document)


def test_a_line_without_end(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "LONGEST_LINE", 1 << 20)
    (tmp_path / "a.txt").write_bytes(b"x" * (3 << 20))
    with pytest.raises(UserError, match=r"a\.txt has a line longer than 1 MiB"):
        documents(tmp_path)


def test_a_gigabyte_in_one_line_takes_little_memory(tmp_path):
    with (tmp_path / "a.txt").open("wb") as file:
        file.truncate(1 << 30)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(UserError, match="line longer than 64 MiB"):
        documents(tmp_path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 400 << 10  # KiB


def test_paths_that_hold_nothing(tmp_path):
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "a.png").write_text("x")
    for given, message in (
        ("note.txt", r"no such file or folder: .*note.txt \(did you mean 'notes.txt'\?\)"),
        ("nowhere/deep/a.txt", "no such file or folder"),
        ("*.csv", r"nothing matches .*\*.csv"),
        ("pictures", "pictures holds no text files"),
    ):
        with pytest.raises(UserError, match=message):
            documents(tmp_path / given)
    mixture = DataConfig(name="mixture", sources={"news": {"path": "/nowhere/at/all"}})
    with pytest.raises(UserError, match=r"^data\.sources\.news\.path: no such file or folder: /nowhere/at/all"):
        sources(mixture)
