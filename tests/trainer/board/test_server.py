"""Who is served, and what is refused."""

from __future__ import annotations

import http.client
import json
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from tests.trainer.board.conftest import Serving, Written
from trainer.board.server import HOST, nearest_free
from trainer.cli.main import main


def asked(address: str, path: str, method: str = "GET", **headers: str) -> tuple[int, dict[str, str], bytes]:
    """Status, headers in small letters, and content; the path goes out as it is written."""
    host, port = address.removeprefix("http://").split(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=10)
    connection.putrequest(method, path, skip_host="Host" in headers)
    for name, value in headers.items():
        connection.putheader(name.replace("_", "-"), value)
    connection.endheaders()
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    return answer.status, {name.lower(): value for name, value in answer.getheaders()}, content


@pytest.mark.parametrize(
    "path",
    [
        *(
            "/../../etc/passwd",
            "/static/../page.html",
            "/static/..%2f..%2fserver.py",
            "/static/page.html",
            "//etc/passwd",
        ),
        *(
            "/static/%2e%2e/server.py",
            "/run/../report.html",
            "/run/0/../config.yaml",
            "/run/0/config.yaml",
            "/run/x/report.html",
        ),
        *(
            "/run/-1/report.html",
            "/run/99/report.html",
            "/exp/a/config.yaml",
            "/static/bokeh.js",
            "/static/\\..\\x",
            "/%00",
        ),
    ],
)
def test_no_address_leads_to_another_file(path: str, written: Written, serving: Serving, tmp_path: Path) -> None:
    written("exp/a", [3.0])
    with serving(tmp_path) as address:
        status, _, content = asked(address, path)
    assert status in (400, 404) and len(content) < 200 and content.count(b"\n") == 1


def test_only_reading_is_allowed(written: Written, serving: Serving, tmp_path: Path) -> None:
    written("exp/a", [3.0])
    with serving(tmp_path) as address:
        for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"):
            status, headers, _ = asked(address, "/", method)
            assert (status, headers["allow"]) == (405, "GET, HEAD")
        status, headers, content = asked(address, "/", "HEAD")
        assert status == 200 and int(headers["content-length"]) > 1000 and content == b""


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:{port}", "127.0.0.1", "127.0.0.1:1", "", "0.0.0.0:{port}"]
)
def test_another_name_that_leads_here_is_refused(host: str, written: Written, serving: Serving, tmp_path: Path) -> None:
    """DNS rebinding: the page of another site has its own name in the Host header."""
    written("exp/a", [3.0])
    with serving(tmp_path) as address:
        port = address.rpartition(":")[2]
        assert asked(address, "/api/index", Host=host.format(port=port))[0] == 421
        assert asked(address, "/api/index", Host=f"LocalHost:{port}")[0] == 200


def test_what_is_served_may_load_nothing_from_elsewhere(written: Written, serving: Serving, tmp_path: Path) -> None:
    run = written("exp/<b>a", [3.0])
    (run / "report.html").write_text("<script>fetch('/')</script>")
    with serving(tmp_path) as address:
        status, headers, content = asked(address, "/")
        assert status == 200 and headers["content-security-policy"].startswith("default-src 'self';")
        assert "access-control-allow-origin" not in headers and headers["x-content-type-options"] == "nosniff"
        assert b"<b>a" not in content and b"&lt;b&gt;a" in content
        _, headers, content = asked(address, "/run/0/report.html")
        assert content.startswith(b"<script>") and headers["content-security-policy"].startswith(
            "sandbox; default-src 'none'"
        )


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("/api/curves?runs=0&x=tokenz", "did you mean 'tokens'"),
        ("/api/curves?runs=zero", "a whole number wanted"),
        ("/api/curves?runs=0&from=nan", "a number wanted"),
        ("/api/index?since=-1", "a whole number wanted"),
        ("/api/run?id=7", "no such run"),
        ("/api/curves?" + "&".join(f"a{one}=1" for one in range(50)), "Max number of fields"),
    ],
)
def test_a_question_that_is_none_is_one_line(
    path: str, says: str, written: Written, serving: Serving, tmp_path: Path
) -> None:
    written("exp/a", [3.0])
    with serving(tmp_path) as address:
        status, _, content = asked(address, path)
    assert status in (400, 404) and says in content.decode() and content.count(b"\n") == 1


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\n\r\n", 414),
        (b"BREW / HTTP/1.1\r\nHost: {host}\r\n\r\n", 501),
        (b"GET / HTTP/9.9\r\nHost: {host}\r\n\r\n", 505),
        (b"\x16\x03\x01\x02\x00\x01\r\n\r\n", 400),
        (b"GET /api/index HTTP/1.1\r\nHost: {host}\r\n" + b"X: y\r\n" * 200 + b"\r\n", 431),
        (b"GET /api/index HTTP/1.0\r\n\r\n", 421),
    ],
)
def test_what_is_no_request_is_one_line(
    sent: bytes, status: int, written: Written, serving: Serving, tmp_path: Path
) -> None:
    written("exp/a", [3.0])
    with serving(tmp_path) as address:
        name = address.removeprefix("http://")
        with socket.create_connection((HOST, int(name.partition(":")[2])), 10) as connection:
            connection.sendall(sent.replace(b"{host}", name.encode()))
            with connection.makefile("rb") as file:
                content = file.read()
        head, _, body = content.partition(b"\r\n\r\n")
        assert head.startswith(f"HTTP/1.1 {status} ".encode()) and body.count(b"\n") == 1 and len(body) < 300
        assert asked(address, "/api/index")[0] == 200


def test_a_body_is_no_second_request(written: Written, serving: Serving, tmp_path: Path) -> None:
    written("exp/a", [3.0])
    with serving(tmp_path) as address:
        name = address.removeprefix("http://")
        second = f"GET /api/run?id=0 HTTP/1.1\r\nHost: {name}\r\n\r\n"
        first = f"GET /api/index HTTP/1.1\r\nHost: {name}\r\nContent-Length: {len(second)}\r\n\r\n"
        with socket.create_connection((HOST, int(name.partition(":")[2])), 10) as connection:
            connection.sendall((first + second).encode())
            with connection.makefile("rb") as file:
                assert file.read().count(b"HTTP/1.1 200") == 1


def test_it_listens_on_loopback_alone(written: Written, serving: Serving, tmp_path: Path) -> None:
    written("exp/a", [3.0])
    with serving(tmp_path) as address:
        port = int(address.rpartition(":")[2])
        listening = [
            line.split()[1] for line in Path("/proc/net/tcp").read_text().splitlines()[1:] if line.split()[3] == "0A"
        ]
        assert [one for one in listening if one.endswith(f":{port:04X}")] == [f"0100007F:{port:04X}"]


# --- the command ---


def test_a_port_in_use_is_named_with_the_nearest_free_one(
    written: Written, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    written("exp/a", [3.0])
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert main(["board", str(tmp_path), f"port={port}", "open=false"]) == 2
        said = capsys.readouterr().err
        assert said.startswith(f"isoflop: board: port {port} is in use; the nearest free one is port=")
        free = int(said.rpartition("=")[2])
        assert free == nearest_free(port)
        with socket.socket() as probe:
            probe.bind((HOST, free))


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["nowhere"], "nowhere: there is no such folder"),
        (["file"], "file: a file given"),
        (["empty"], "no runs under empty"),
        ([], "runs: there is no such folder"),
        (["empty", "file"], "name one root"),
        (["empty", "port=0"], "port: '0' given"),
        (["empty", "port=65536"], "port: '65536' given"),
        (["empty", "port=http"], "port: 'http' given"),
        (["empty", "open=ture"], "did you mean 'true'"),
        (["empty", "prot=80"], "did you mean 'port'"),
        (["empty", "--json"], "--json: no such option"),
        (["x" * 5000], "x: File name too long"),
    ],
)
def test_bad_input_is_one_line(
    words: list[str], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    Path("file").write_text("x")
    assert main(["board", *words]) == 2
    said = capsys.readouterr().err
    assert says in said and said.count("\n") == 1


def test_the_command_serves_until_it_is_interrupted(written: Written, tmp_path: Path) -> None:
    written("exp/a", [3.0])
    command = [sys.executable, "-m", "isoflop", "board", str(tmp_path), "open=false"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[3]) as server:
        try:
            assert server.stdout is not None
            line = server.stdout.readline()
            assert "1 run of" in line
            with urllib.request.urlopen(line.split()[1] + "api/index?since=0", timeout=10) as answer:
                assert json.load(answer)["runs"][0]["name"] == "exp/a"
            server.send_signal(signal.SIGINT)
            assert server.wait(10) == 0
        finally:
            server.kill()
    left = {path.name for path in tmp_path.rglob("*") if path.is_file()}
    assert left == {"config.yaml", "plan.json", "metrics.jsonl", "events.jsonl"}  # nothing was written


def test_a_million_lines_with_torn_ones_are_answered_at_once(
    written: Written, serving: Serving, tmp_path: Path
) -> None:
    """Of a file that takes seconds to read, a sketch comes first; asking again reads on."""
    run = written("exp/long", [])
    record = b'{"kind":"step","step":%d,"tokens":%d,"flop":1.0,"loss":2.5}\n{"kind":"step","ste\n'
    with open(run / "metrics.jsonl", "wb") as file:
        for begin in range(0, 500_000, 10_000):
            file.write(b"".join(record % (step, 10 * step) for step in range(begin + 1, begin + 10_001)))
    with serving(tmp_path) as address:
        first = json.loads(asked(address, "/api/curves?runs=0&sketch=1")[2])["curves"][0]
        assert not first["whole"] and first["x"][0] == 10 and first["x"][-1] == 5_000_000
        assert first["steps"] < 500_000
        again = json.loads(asked(address, "/api/curves?runs=0")[2])["curves"][0]
        assert again["steps"] > first["steps"]
        assert again["steps"] < 500_000  # it answered while most was unread
