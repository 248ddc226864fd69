"""`hub:owner/name` against a stand-in of the hub on this machine: its API, its files, and its refusals."""

from __future__ import annotations

import hashlib
import http.server
import json
import re
import threading

import pytest

pytest.importorskip("huggingface_hub")
pytest.importorskip("tokenizers")

import transformers
from huggingface_hub import constants, file_download
from test_special_ids import saved

from trainer.cli.main import main
from trainer.hub.download import download
from trainer.utils.errors import UserError

COMMIT = "0123456789abcdef0123456789abcdef01234567"
TOKEN = "hf_" + "NotToBeShown" * 3


class Hub(http.server.BaseHTTPRequestHandler):
    """GET /api/models/<repo>/revision/<name>, GET .../tree/<commit>, HEAD and GET /<repo>/resolve/<commit>/<file>."""

    protocol_version = "HTTP/1.1"

    def answer(self, code, content=b"", sent=None, **headers):
        """sent: bytes after which the connection breaks."""
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content if sent is None else content[:sent])
        self.close_connection = sent is not None

    def do_GET(self):
        hub, path = self.server, self.path.partition("?")[0]
        hub.asked.append((self.command, path, self.headers.get("Range")))
        if "owner" in path:
            hub.authorized.add(self.headers.get("Authorization"))
        if hub.refusal is not None:
            code, headers = hub.refusal
            return self.answer(code, b'{"error": "no"}', **headers)
        if found := re.fullmatch(r"/api/models/owner/tiny/revision/(.+)", path):
            if found[1] != "main":
                return self.answer(404, X_Error_Code="RevisionNotFound")
            names = [{"rfilename": name} for name in hub.files]
            return self.answer(200, json.dumps({"id": "owner/tiny", "sha": COMMIT, "siblings": names}).encode())
        if path == f"/api/models/owner/tiny/tree/{COMMIT}":
            tree = [
                {"type": "file", "path": name, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
                for name, data in hub.files.items()
            ]
            return self.answer(200, json.dumps(tree).encode(), Content_Type="application/json")
        name = path.removeprefix(f"/owner/tiny/resolve/{COMMIT}/")
        if name not in hub.files:
            return self.answer(404, X_Error_Code="EntryNotFound" if "resolve" in path else "RepoNotFound")
        data, code, marks = hub.files[name], 200, {}
        if given := self.headers.get("Range"):
            first = int(re.match(r"bytes=(\d+)-", given)[1])
            marks = {"Content_Range": f"bytes {first}-{len(data) - 1}/{len(data)}"}
            data, code = data[first:], 206
        etag = hashlib.sha1(hub.files[name]).hexdigest()
        broken = hub.breaks.pop(0) if name == "model.safetensors" and self.command == "GET" and hub.breaks else None
        return self.answer(code, data, broken, ETag=f'"{etag}"', X_Repo_Commit=COMMIT, Accept_Ranges="bytes", **marks)

    do_HEAD = do_GET

    def log_message(self, *_words):
        pass


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("gpt2")
    return place, *saved(place, "gpt2")


@pytest.fixture
def hub(folder, tmp_path, monkeypatch):
    """The stand-in with one repository, owner/tiny, which holds a script, too."""
    one = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    one.files = {file.name: file.read_bytes() for file in folder[0].iterdir()} | {"modeling.py": b"raise SystemExit"}
    one.refusal, one.breaks, one.asked, one.authorized = None, [], [], set()
    threading.Thread(target=one.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{one.server_address[1]}"
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setattr(constants, "ENDPOINT", url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(file_download.time, "sleep", lambda seconds: None)
    yield one
    one.shutdown()
    one.server_close()


def gets(hub, name):
    return [asked for asked in hub.asked if asked[0] == "GET" and asked[1].endswith(f"/{name}")]


def test_from_its_name_to_text(hub, folder, tmp_path, capsys):
    _, model, words = folder
    assert main(["import", "hub:owner/tiny", f"to={tmp_path / 'run'}", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["type"] == "gpt2"
    assert not any(path.endswith("modeling.py") for _, path, _ in hub.asked)
    assert main(["generate", str(tmp_path / "run"), "prompt=import os", "temperature=0", "tokens=7"]) == 0
    ids = words("import os", return_tensors="pt")
    text = words.decode(model.generate(**ids, max_new_tokens=7, do_sample=False)[0], skip_special_tokens=True)
    assert text.removeprefix("import os").strip() in capsys.readouterr().out
    assert main(["export", str(tmp_path / "run"), f"to={tmp_path / 'out'}"]) == 0
    assert "base_model:\n- owner/tiny" in (tmp_path / "out" / "README.md").read_text()
    assert hub.authorized == {f"Bearer {TOKEN}"}
    hub.asked.clear()  # what has come is not asked for again
    assert download("hub:owner/tiny").name == COMMIT and not any("/resolve/" in path for _, path, _ in hub.asked)


def test_a_connection_that_breaks_goes_on_where_it_broke(hub, monkeypatch):
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 500)
    hub.breaks = [1000, 3000]
    found = (download("hub:owner/tiny") / "model.safetensors").read_bytes()
    assert found == hub.files["model.safetensors"]
    assert [given for _, _, given in gets(hub, "model.safetensors")] == [None, "bytes=1000-", "bytes=4000-"]


def test_what_an_interrupted_download_has_brought_is_kept(hub):
    hub.breaks = [0] * 20
    with pytest.raises(UserError, match=r"hub:owner/tiny: not downloaded: .*what has come is kept$"):
        download("hub:owner/tiny")
    hub.breaks, hub.asked = [], []
    place = download("hub:owner/tiny")
    assert (place / "model.safetensors").read_bytes() == hub.files["model.safetensors"]
    assert transformers.AutoConfig.from_pretrained(place).model_type == "gpt2"
    assert len(gets(hub, "model.safetensors")) == 1 and gets(hub, "tokenizer.json") == []


GATED = {"X_Error_Code": "GatedRepo", "X_Error_Message": f"Access is restricted for {TOKEN}"}
MISSING = {"X_Error_Code": "RepoNotFound"}
INVALID = {"X_Error_Message": "Invalid credentials in Authorization header"}


@pytest.mark.parametrize(
    ("name", "refusal", "said"),
    [
        ("owner/other", None, "there is no owner/other on the hub, or it is private; then set HF_TOKEN"),
        ("owner/tiny", (404, MISSING), "there is no owner/tiny on the hub, or it is private; then set HF_TOKEN"),
        ("owner/tiny", (401, {}), "the hub refuses (401): HF_TOKEN is wrong, out of date or does not cover"),
        ("owner/tiny", (401, INVALID), "the hub refuses (401): HF_TOKEN is wrong, out of date or does not cover"),
        ("owner/tiny", (403, {}), "the hub refuses (403): HF_TOKEN is wrong, out of date or does not cover owner/tiny"),
        ("owner/tiny", (403, GATED), "its owner grants access one by one; ask for it on the page of owner/tiny"),
        ("owner/tiny@v2", None, "owner/tiny has no revision v2"),
        ("owner/tiny", (400, {"X_Error_Message": f"bad {TOKEN}"}), "the hub answers with 400; try again later"),
        (f"owner/tiny@{TOKEN}", None, "owner/tiny has no revision $HF_TOKEN"),
    ],
)
def test_a_refusal_is_one_line_without_the_token(name, refusal, said, hub, tmp_path, capsys):
    hub.refusal = refusal
    assert main(["import", f"hub:{name}", f"to={tmp_path / 'run'}"]) == 2
    shown = capsys.readouterr()
    assert said in shown.err and len(shown.err.strip().splitlines()) == 1
    assert TOKEN not in shown.err + shown.out and not (tmp_path / "run").exists()


def test_no_connection_is_one_line(hub, monkeypatch):
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(
        UserError, match=r"^hub:owner/tiny: not downloaded: no connection to the hub [^\n]*; a folder that"
    ):
        download("hub:owner/tiny")
