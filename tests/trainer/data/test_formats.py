"""Files are what their content says: what people name and pack in many ways is read, or named."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import os
import socket
import struct
import tarfile
import zipfile

import numpy as np
import pytest

from trainer.config import Config, DataConfig
from trainer.data import prepare
from trainer.data.corpus import parts, sources
from trainer.data.finding import files_of
from trainer.descriptions.readers import READERS, reader_by_magic
from trainer.utils.errors import UserError

LINES = "".join(
    json.dumps({"text": f"Document number {k} says hello.", "url": f"http://x/{k}"}) + "\n" for k in range(10)
)
TEXTS = [f"Document number {k} says hello." for k in range(10)]


def zstd(content: bytes, **keys) -> bytes:
    library = pytest.importorskip("zstandard")
    return library.ZstdCompressor(**keys).compress(content)


PACKED = {"gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress, "zst": zstd}


def read(path, notes=None, **keys) -> list[str]:
    """The text of every document, parts joined."""
    data = DataConfig(name="text", path=(str(path),), **keys)
    texts: list[str] = []
    for _, part in parts(data, sources(data, None, notes)):
        if part.first:
            texts.append("")
        texts[-1] += part.text
    return texts


def written(path, content: str | bytes):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize("name", ["a.json", "a", "part-00000", "dump.2024", "RC_2019-04"])
@pytest.mark.parametrize("suffix", ["", *PACKED])
def test_json_lines_by_any_name_are_lines(tmp_path, name, suffix):
    content = LINES.encode()
    written(tmp_path / (f"{name}.{suffix}" if suffix else name), PACKED[suffix](content) if suffix else content)
    assert read(tmp_path) == TEXTS


def test_c4_is_read_as_its_documents(tmp_path):
    written(tmp_path / "c4-train.00000-of-00001.json.gz", gzip.compress(LINES.encode()))
    assert read(tmp_path / "c4-train.00000-of-00001.json.gz") == TEXTS
    written(tmp_path / "b.jsonl", '{"text": "beside"}')
    assert read(tmp_path) == ["beside", *TEXTS]


@pytest.mark.parametrize(
    ("content", "way_out"),
    [
        (json.dumps([{"text": "a"}, {"text": "b"}]), r"is one JSON array.* jq -c '\.\[\]' a\.json > "),
        (json.dumps([{"text": "a"}], indent=2), "is one JSON array"),
        (json.dumps([{"text": "a" * 70_000}] * 2), "is one JSON array"),
        (
            json.dumps({"text": "a", "tags": [1]}, indent=1),
            r"is one JSON object over several lines.* jq -c \. a\.json > ",
        ),
        (json.dumps({"text": [{"text": "a" * 70_000}] * 2}, indent=1), "is one JSON object over several lines"),
        ('{"text": "a"\n' + LINES, "a.json line 1 is not whole JSON"),
    ],
)
def test_other_json_is_refused_with_the_way_out(tmp_path, content, way_out):
    written(tmp_path / "a.json", content)
    written(tmp_path / "b.txt", "text")
    for path in (tmp_path / "a.json", tmp_path):
        with pytest.raises(UserError, match=way_out):
            read(path)
    assert read(tmp_path / "a.json", format="text") == [content]


def test_what_a_folder_holds_besides_is_said_with_its_count(tmp_path):
    for name in ("a.txt", "p.png", "q.png", "Makefile", "package.json", "dataset_info.json", ".hidden"):
        written(tmp_path / name, '{\n "name": 1\n}' if name.endswith("json") else "content")
    (tmp_path / "link").symlink_to(tmp_path)
    notes: list[str] = []
    assert read(tmp_path, notes) == ["content"]
    said = "2 .png, 2 .json, 1 linked folders, 1 without suffix"
    assert len(notes) == 1 and f"of {tmp_path} are not read: " in notes[0]
    assert sorted(said.split(", ")) == sorted(notes[0].partition("not read: ")[2].partition(";")[0].split(", "))


def test_json_lines_in_a_txt_stay_text_and_are_said(tmp_path):
    written(tmp_path / "a.txt", LINES)
    notes: list[str] = []
    assert read(tmp_path, notes) == [LINES]
    assert len(notes) == 1 and "a.txt hold JSON lines and are read as text" in notes[0]
    notes.clear()
    assert read(tmp_path, notes, format="jsonl") == TEXTS and notes == []


@pytest.mark.parametrize("suffix", PACKED)
def test_compressions_are_told_by_their_content(tmp_path, suffix):
    pack = PACKED[suffix]
    whole = pack(b"first\n") + pack(b"") + pack(b"second\n")
    for name in ("a.txt", "a.txt.gz", "a.txt.zst", f"a.txt.{suffix}"):
        assert read(written(tmp_path / name, whole)) == ["first\nsecond\n"]
    assert read(written(tmp_path / "b.txt.gz", gzip.compress(whole))) == ["first\nsecond\n"]
    torn = pack(os.urandom(300_000).hex().encode())
    for content in (torn[:-9], torn[: len(torn) // 2]):
        with pytest.raises(UserError, match=rf"c\.txt\.{suffix} is no whole \w+ file"):
            read(written(tmp_path / f"c.txt.{suffix}", content))
    with pytest.raises(UserError, match="is no whole"):
        read(written(tmp_path / f"d.txt.{suffix}", pack(b"text\n") + b"garbage"))
    with pytest.raises(UserError, match="is no whole"):
        read(written(tmp_path / f"e.txt.{suffix}", "not packed"))


def test_zstd_of_long_windows(tmp_path):
    library = pytest.importorskip("zstandard")
    for log in (27, 30, 31):
        keys = library.ZstdCompressionParameters.from_level(3, window_log=log, enable_ldm=False)
        packer = library.ZstdCompressor(compression_params=keys).compressobj()
        written(tmp_path / "RC.zst", packer.compress(LINES.encode()) + packer.flush())
        assert read(tmp_path / "RC.zst") == TEXTS


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("name", ["a.txt", "a.jsonl", "a.json", "a.json.gz"])
def test_a_byte_order_mark_says_the_encoding(tmp_path, encoding, name):
    text = "héllo 漢字\r\n" if name == "a.txt" else LINES
    content = text.encode(encoding)
    written(tmp_path / name, gzip.compress(content) if name.endswith("gz") else content)
    assert read(tmp_path / name) == ([text] if name == "a.txt" else TEXTS)


def test_encodings_are_said_or_named(tmp_path):
    latin = written(tmp_path / "a.txt", "größer\n".encode("latin-1"))
    with pytest.raises(UserError, match=r"a\.txt is not UTF-8 at byte 2 \(0xf6\); .*data\.encoding=latin-1"):
        read(latin)
    assert read(latin, encoding="latin1") == ["größer\n"]
    with pytest.raises(UserError, match=r"a\.txt is not ASCII at byte 2"):
        read(latin, encoding="ascii")
    wide = written(tmp_path / "b.txt", "hello world".encode("utf-16-le"))
    with pytest.raises(UserError, match=r"b\.txt looks like UTF-16 .* data\.encoding=utf-16-le"):
        read(wide)
    assert read(wide, encoding="utf-16-le") == ["hello world"]
    with pytest.raises(UserError, match=r"c\.txt is not UTF-16 at byte 12"):
        read(written(tmp_path / "c.txt", "hello".encode("utf-16") + b"x"))
    with pytest.raises(ValueError, match="'latin77' is no encoding of text"):
        DataConfig(encoding="latin77")
    assert read(written(tmp_path / "d.txt", b"a\r\nb\0c\n\n")) == ["a\r\nb\0c\n\n"]


def test_what_is_no_text_is_named(tmp_path):
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz") as tar:
        tar.addfile(tarfile.TarInfo("a.txt"), io.BytesIO())
    zipped = io.BytesIO()
    with zipfile.ZipFile(zipped, "w") as packed:
        packed.writestr("a.txt", "x")
    for name, content, message in (
        ("a.tar.gz", archive.getvalue(), "is a tar archive; unpack it"),
        ("a.txt.gz", archive.getvalue(), "is a tar archive; unpack it"),
        ("a.txt", zipped.getvalue(), "is a zip archive; unzip it"),
        ("train.bin", struct.pack("<3H", 17, 50256, 40000), r"train\.bin .*no train\.idx beside it"),
        ("text.bin", "it looks like text", r"text\.bin .*no text\.idx beside it"),
        ("x.npy", b"\x93NUMPY\x01\x00v\x00", "is a NumPy array"),
    ):
        with pytest.raises(UserError, match=message):
            read(written(tmp_path / name, content))


def test_parquet_by_any_name(tmp_path):
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    parquet.write_table(arrow.Table.from_pylist([{"text": "row", "of": {"body": "deep"}}]), tmp_path / "part-0000")
    assert read(tmp_path) == ["row"]
    assert read(tmp_path, field="of.body") == ["deep"]
    with pytest.raises(UserError, match=r"no column 'of\.bdy' \(did you mean 'of\.body'\?\)"):
        read(tmp_path, field="of.bdy")
    written(tmp_path / "a.parquet.gz", gzip.compress((tmp_path / "part-0000").read_bytes()))
    with pytest.raises(UserError, match="is parquet packed with gzip; unpack it"):
        read(tmp_path / "a.parquet.gz")


def test_what_is_no_file_never_hangs(tmp_path):
    def folder(name):
        (tmp_path / name).mkdir()
        written(tmp_path / name / "a.txt", "text")
        return tmp_path / name

    os.mkfifo(folder("fifo") / "x.txt")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(folder("socket") / "x.txt"))
    (folder("nowhere") / "x.txt").symlink_to("nothing")
    (folder("itself") / "x.txt").symlink_to("x.txt")
    (folder("device") / "x.txt").symlink_to("/dev/zero")
    for name, message in (
        ("fifo", r"x\.txt is a FIFO, no file"),
        ("socket", r"x\.txt is a socket, no file"),
        ("nowhere", r"x\.txt is a link that leads to no file"),
        ("itself", "Too many levels of symbolic links"),
        ("device", r"x\.txt is a device, no file"),
        ("fifo/x.txt", "neither a file nor a folder but a FIFO"),
        ("nowhere/x.txt", "is a link that leads to no file"),
    ):
        with pytest.raises(UserError, match=message):
            read(tmp_path / name)
    for path in ("/proc", "/proc/self/status", "/dev/zero", "/sys"):
        with pytest.raises(UserError, match=r"view|device"):
            read(path)


def test_fields_within_fields(tmp_path):
    deep = written(tmp_path / "a.jsonl", '{"a": {"b": "deep"}}\n{"a.b": "flat", "a": {"b": "deep"}}\n')
    assert read(deep, field="a.b") == ["deep", "flat"]
    with pytest.raises(UserError, match=r"a\.jsonl line 1 has no field 'a\.c' \(did you mean 'a\.b'\?\)"):
        read(deep, field="a.c")


def test_each_source_of_a_mixture_says_how_it_is_read(tmp_path):
    written(tmp_path / "a.jsonl", '{"body": {"raw": "one"}}\n')
    written(tmp_path / "b.txt", "größer\n\nkleiner\n".encode("latin-1"))
    written(tmp_path / "c.jsonl", '{"text": "two"}\n')
    own = {
        "a": {"path": str(tmp_path / "a.jsonl"), "field": "body.raw"},
        "b": {"path": str(tmp_path / "b.txt"), "document": "paragraph", "encoding": "latin-1"},
        "c": {"path": str(tmp_path / "c.jsonl"), "format": "text"},
        "d": {"path": str(tmp_path / "c.jsonl")},
    }
    data = DataConfig.model_validate({"name": "mixture", "sources": own})
    texts = [(origin, part.text) for origin, part in parts(data, sources(data))]
    assert texts == [("a", "one"), ("b", "größer"), ("b", "kleiner"), ("c", '{"text": "two"}\n'), ("d", "two")]
    del own["a"]["field"]
    data = DataConfig.model_validate({"name": "mixture", "sources": own})
    with pytest.raises(UserError, match=r"a\.jsonl line 1 has no field 'text'"):
        list(parts(data, sources(data)))
    with pytest.raises(ValueError, match=r"'jsn' is no kind of files \(did you mean 'jsonl'\?\)"):
        DataConfig(format="jsn")


def test_new_keys_at_their_old_values_leave_the_science_as_it_was():
    plain, said = (Config.model_validate({"data": data}) for data in ({}, {"encoding": "utf8", "format": None}))
    other = Config.model_validate({"data": {"encoding": "latin-1"}})
    assert plain.science_hash() == said.science_hash() != other.science_hash()


def test_what_was_read_otherwise_is_prepared_anew(tmp_path, make_config, text):
    """The listing of a file that is now read by its content, or in another way, is not that of its name."""
    rows = [json.dumps({"text": text(k), "body": text(k + 100)}) for k in range(60)]
    written(tmp_path / "a.json", "\n".join(rows))
    made = [
        prepare(make_config(tmp_path / "a.json", tmp_path / "cache", data=keys))
        for keys in ({}, {"field": "body"}, {"format": "text", "document": "line"})
    ]
    assert len({one.fingerprint for one in made}) == 3
    assert [one.train.documents + one.held_out.documents for one in made] == [60, 60, 60]


def index(prefix, sequences, edges, lengths=None, dtype="<i4", code=4):
    lengths = np.array([len(one) for one in sequences] if lengths is None else lengths, "<i4")
    offsets = (np.cumsum(lengths, dtype=np.int64) - lengths) * np.dtype(dtype).itemsize
    header = struct.pack("<9sQBQQ", b"MMIDIDX\x00\x00", 1, code, len(lengths), len(edges))
    prefix.with_suffix(".idx").write_bytes(
        header + lengths.tobytes() + offsets.astype("<i8").tobytes() + np.array(edges, "<i8").tobytes()
    )
    prefix.with_suffix(".bin").write_bytes(np.concatenate([np.array(one, dtype) for one in sequences]).tobytes())


SEQUENCES = [[10, 11, 256], [20, 256], [30, 31, 32, 256]]


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"edges": [0, 1]}, r"is damaged: its document edges \(0 to 1\) do not cover its 3 sequences"),
        ({"edges": [1, 2, 3]}, r"edges \(1 to 3\) do not cover"),
        ({"edges": []}, r"edges \(none\) do not cover"),
        ({"edges": [0, 2, 1, 3]}, "documents do not follow one another"),
        ({"edges": [0, 1, 3], "lengths": [3, 2, 3]}, "lists 8 tokens of 4 bytes, 36 bytes are there"),
    ],
)
def test_indices_that_drop_or_repeat_tokens_are_damaged(tmp_path, keys, message):
    index(tmp_path / "corpus", SEQUENCES, **keys)
    for name in ("corpus", "corpus.idx", "corpus.bin", ""):
        with pytest.raises(UserError, match=message):
            read(tmp_path / name if name else tmp_path)


def test_overlapping_sequences_are_damage(tmp_path):
    index(tmp_path / "corpus", SEQUENCES, [0, 1, 2, 3])
    file = tmp_path / "corpus.idx"
    content = bytearray(file.read_bytes())
    content[34 + 12 + 8 : 34 + 12 + 16] = struct.pack("<q", 8)  # the second begins inside the first
    file.write_bytes(content)
    with pytest.raises(UserError, match="two sequences overlap"):
        read(file)


def test_a_pair_has_three_names(tmp_path):
    index(tmp_path / "corpus", SEQUENCES, [0, 2, 3])
    for given in ("corpus", "corpus.idx", "corpus.bin", "corpus.*", ""):
        data = DataConfig(name="text", path=(str(tmp_path / given),))
        notes: list[str] = []
        [source] = files_of("text", "data.path", data, None, notes)
        assert source.path.name == "corpus.idx" and notes == []
        tokens = [part.tokens.tolist() for _, part in parts(data, [source])]
        assert tokens == [[10, 11, 256, 20, 256], [30, 31, 32, 256]]


def test_readers_claim_first_bytes():
    assert reader_by_magic(b"PAR1\x15").name == "parquet" and reader_by_magic(b"text") is None
    assert reader_by_magic(b"MMIDIDX\x00\x00\x01") is READERS["megatron"]
