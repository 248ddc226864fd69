"""Text of web servers and buckets: fetched once, in pieces that go on where they broke off; no secret is kept."""

from __future__ import annotations

import http.server
import json
import re
import sys
import threading
from urllib.parse import unquote

import pytest

from trainer.config import DataConfig
from trainer.data import prepare, remote
from trainer.data.remote import fetched_remote, stored_remote
from trainer.utils.errors import UserError
from trainer.utils.urls import is_remote, redacted


class Handler(http.server.BaseHTTPRequestHandler):
    """Files of `server.files`, in parts where `server.ranges`; `server.budget` bytes in all, then it breaks off."""

    def do_HEAD(self):
        self.answer(body=False)

    def do_GET(self):
        self.server.asked.append((self.path, self.headers.get("Range")))
        self.answer(body=True)

    def answer(self, body):
        name = unquote(self.path.partition("?")[0]).lstrip("/")
        content = self.server.files.get(name)
        if content is None and (name == "" or name.endswith("/")):
            links = "".join(f'<a href="{one}">{one}</a>' for one in self.server.files)
            content = f"<html>{links}</html>".encode()
        if content is None:
            self.send_error(404)
            return
        etag = f'"{hash(content)}"'
        given = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
        part = content
        if given and self.server.ranges:
            part = content[int(given[1]) : int(given[2]) + 1 if given[2] else None]
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {given[1]}-{int(given[1]) + len(part) - 1}/{len(content)}")
        else:
            self.send_response(200)
        if self.server.ranges:
            self.send_header("Accept-Ranges", "bytes")
        self.send_header("ETag", etag)
        self.send_header("Content-Length", str(len(part)))
        self.end_headers()
        if body:
            self.server.budget -= len(part)
            self.wfile.write(part if self.server.budget >= 0 else part[: len(part) // 2])
            if self.server.budget < 0:
                self.close_connection = True

    def log_message(self, *_words):
        pass


@pytest.fixture
def server(monkeypatch):
    pytest.importorskip("fsspec")
    pytest.importorskip("aiohttp")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(remote, "PAUSE", 0.0)
    one = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    one.files, one.ranges, one.budget, one.asked = {}, True, 1 << 40, []
    threading.Thread(target=one.serve_forever, daemon=True).start()
    one.url = f"http://127.0.0.1:{one.server_address[1]}/"
    yield one
    one.shutdown()
    one.server_close()


def fetch(url, cache, notes=None, said=None):
    told = [] if said is None else said
    data = DataConfig(name="text", path=(url,))
    return fetched_remote(url, data, cache, lambda *words: told.append(words), [] if notes is None else notes)


@pytest.mark.parametrize("ranges", [True, False])
def test_a_file_comes_once_and_whole(server, tmp_path, ranges):
    server.ranges, content = ranges, bytes(range(97, 122)) * 4000
    server.files["a.txt"] = content
    said: list = []
    folder = fetch(server.url + "a.txt?download=1", tmp_path, said=said)
    assert (folder / "a.txt").read_bytes() == content
    asked = len(server.asked)
    assert fetch(server.url + "a.txt?download=1", tmp_path) == folder and len(server.asked) == asked
    assert said[-1][1] == said[-1][2] and all(done <= total for _, done, total in said)
    assert stored_remote(server.url + "a.txt?download=1", tmp_path) == folder
    with pytest.raises(FileNotFoundError):
        stored_remote(server.url + "b.txt", tmp_path)


def test_a_broken_transfer_goes_on(server, tmp_path, monkeypatch):
    monkeypatch.setattr(remote, "BLOCK_BYTES", 1000)
    server.files["a.txt"] = content = bytes(range(97, 122)) * 400
    server.budget = 5600
    with pytest.raises(UserError, match=r"broke off at 5,000 of 10,000 bytes of a\.txt: .*the same command goes on"):
        fetch(server.url + "a.txt", tmp_path)
    server.budget, server.asked = 1 << 40, []
    folder = fetch(server.url + "a.txt", tmp_path)
    assert (folder / "a.txt").read_bytes() == content
    begins = [int(given.partition("=")[2].partition("-")[0]) for _, given in server.asked if given]
    assert sorted(begin for begin in begins if begin) == [5000, 6000, 7000, 8000, 9000]


def test_what_changed_meanwhile_is_named(server, tmp_path, monkeypatch):
    monkeypatch.setattr(remote, "BLOCK_BYTES", 1000)
    server.files["a.txt"], server.budget = b"a" * 5000, 2500
    with pytest.raises(UserError, match="broke off"):
        fetch(server.url + "a.txt", tmp_path)
    server.files["a.txt"], server.budget = b"b" * 5000, 1 << 40
    with pytest.raises(UserError, match=r"changed while it was fetched: a\.txt was 5000 bytes, version .*; delete"):
        fetch(server.url + "a.txt", tmp_path)


def test_a_folder_and_a_glob(server, tmp_path):
    server.files |= {"a.txt": b"a", "b.jsonl.gz": b"b", "c.png": b"c", "d.txt": b"d"}
    notes: list[str] = []
    folder = fetch(server.url, tmp_path, notes)
    assert sorted(path.name for path in folder.iterdir()) == ["a.txt", "b.jsonl.gz", "d.txt"]
    assert len(notes) == 1 and "are not fetched: 1 .png" in notes[0]
    folder = fetch(server.url + "*.txt", tmp_path)
    assert sorted(path.name for path in folder.iterdir()) == ["a.txt", "d.txt"]


def test_remote_text_is_the_corpus_that_local_text_is(server, tmp_path, make_config, text):
    rows = "\n".join(json.dumps({"text": text(k)}) for k in range(60)).encode()
    server.files["rows.jsonl"] = rows
    (tmp_path / "rows.jsonl").write_bytes(rows)
    there = prepare(make_config(server.url + "rows.jsonl", tmp_path / "one"))
    here = prepare(make_config(tmp_path / "rows.jsonl", tmp_path / "two"))
    assert there.fingerprint == here.fingerprint


def test_what_is_not_there(server, tmp_path):
    with pytest.raises(UserError, match=r"http://127.0.0.1:\d+/none\.txt cannot be read: FileNotFoundError"):
        fetch(server.url + "none.txt", tmp_path)


@pytest.mark.parametrize("url", ["https://example.org/a.txt", "s3://bucket/a.txt"])
def test_without_the_extra_it_is_one_line(url, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "fsspec", None)
    monkeypatch.setitem(sys.modules, "botocore", None)
    monkeypatch.setitem(sys.modules, "botocore.session", None)
    with pytest.raises(UserError, match=r"needs .*: pip install 'isoflop\[remote\]'"):
        fetch(url, tmp_path)


@pytest.mark.parametrize(
    "url",
    [
        "https://user:hunter2@example.org/a.txt",
        "s3://AKIA:hunter2@bucket/a.txt",
        "https://example.org/a.txt?X-Amz-Signature=hunter2",
        "https://example.org/a.txt?sv=1&sig=hunter2",
        "https://example.org/a.txt?access_token=hunter2",
    ],
)
def test_secrets_are_refused_and_not_repeated(url):
    for data in ({"name": "text", "path": url}, {"name": "mixture", "sources": {"a": {"path": url}}}):
        with pytest.raises(ValueError) as caught:
            DataConfig.model_validate(data)
        lines = [error["msg"] for error in caught.value.errors(include_input=False, include_url=False)]
        assert "written down" in lines[0] and "hunter2" not in str(lines)
    assert "hunter2" not in redacted(url) and is_remote(url)


def test_other_schemes_are_named(tmp_path, make_config):
    with pytest.raises(UserError, match=r"^data\.path: ftp:// is no place to read from; there are hf, s3"):
        prepare(make_config("ftp://example.org/a.txt", tmp_path))


def test_a_bucket(tmp_path, monkeypatch):
    boto3 = pytest.importorskip("boto3")
    servers = pytest.importorskip("moto.server")
    pytest.importorskip("s3fs")
    one = servers.ThreadedMotoServer(port=0, verbose=False)
    one.start()
    try:
        endpoint = "http://{}:{}".format(*one.get_host_and_port())
        for name, value in (
            *(("AWS_ACCESS_KEY_ID", "a"), ("AWS_SECRET_ACCESS_KEY", "b"), ("AWS_DEFAULT_REGION", "us-east-1")),
            *(("AWS_ENDPOINT_URL", endpoint), ("NO_PROXY", "127.0.0.1,localhost,0.0.0.0")),
        ):
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(remote, "BLOCK_BYTES", 1000)
        bucket = boto3.resource("s3", endpoint_url=endpoint).create_bucket(Bucket="corpus")
        content = {"en/a.txt": b"first\n" * 900, "en/deep/b.jsonl": b'{"text": "x"}\n', "en/c.png": b"p", "d.txt": b"d"}
        for key, body in content.items():
            bucket.put_object(Key=key, Body=body)
        notes: list[str] = []
        folder = fetch("s3://corpus/en", tmp_path, notes)
        found = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.*")}
        assert found == {"a.txt": content["en/a.txt"], "deep/b.jsonl": content["en/deep/b.jsonl"]}
        assert "are not fetched: 1 .png" in notes[0]
        assert [path.name for path in fetch("s3://corpus/*.txt", tmp_path).iterdir()] == ["d.txt"]
        assert (fetch("s3://corpus/d.txt", tmp_path) / "d.txt").read_bytes() == b"d"
        with pytest.raises(UserError, match=r"s3://corpus/none\.txt cannot be read"):
            fetch("s3://corpus/none.txt", tmp_path)
    finally:
        one.stop()
