"""The board's server: on this host's loopback alone, read-only, and for nobody who came by another name.

A page of another site can make a browser send requests here. It cannot read the answers, as none allows it; and where
its own name was made to lead here (DNS rebinding), the Host header still says that name, and is refused.
"""

from __future__ import annotations

import errno
import json
import socket
import sys
from functools import cache
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from trainer.board.board import READING, X_AXES, Y_AXES, Asked, Board
from trainer.board.page import page, panel_html, row_html
from trainer.report.live_plots import LIBRARY, bokeh_scripts
from trainer.report.live_plots import OWN as OF_REPORTS
from trainer.utils.bounded import no_file
from trainer.utils.errors import UserError, nearest

HOST = "127.0.0.1"
NAMES = ("127.0.0.1", "localhost")
OWN = Path(__file__).parent / "static"
OUR_FILES = {
    "board.css": (OWN, "text/css"),
    "board.js": (OWN, "text/javascript"),
    "pan.js": (OWN, "text/javascript"),
    "table.js": (OWN, "text/javascript"),
    "chart.js": (OF_REPORTS, "text/javascript"),
}
MOST_RUNS = 20_000  # of one request
LARGEST_REPORT = 1 << 26
FIRST_LOOK = 0.1  # seconds that the page itself waits for news of runs; the rest comes when it asks
# Bokeh writes its style sheets into the page; nothing else is loaded but from here, and nothing is evaluated.
POLICY = (
    "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; object-src 'none'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
REPORT_POLICY = "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:"
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}


class Refused(Exception):
    """A request that gets no answer but a line and its status."""

    def __init__(self, status: HTTPStatus, line: str) -> None:
        super().__init__(line)
        self.status = status


class BoardServer(ThreadingHTTPServer):
    """Serves one board."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, board: Board, port: int) -> None:
        self.board = board
        super().__init__((HOST, port), Handler)

    def server_bind(self) -> None:
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = HOST, self.server_address[1]  # asks no name server

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that went away in the middle of an answer is no error; any other is a line."""
        error = sys.exc_info()[1]
        if not isinstance(error, ConnectionError | TimeoutError):
            print(f"isoflop: board: {type(error).__name__}: {error}", file=sys.stderr)


class Handler(BaseHTTPRequestHandler):
    """GET and HEAD of a handful of addresses; none of them names a file."""

    protocol_version = "HTTP/1.1"
    server_version = "isoflop"
    sys_version = ""
    timeout = 60
    server: BoardServer

    def do_GET(self) -> None:
        if self.headers.get("Content-Length") or self.headers.get("Transfer-Encoding"):
            self.close_connection = True  # a body is not read, and is no next request
        try:
            self._check_host()
            kind, content, extra = self._answer()
            self._send(HTTPStatus.OK, kind, content, extra)
        except Refused as refused:
            self._send(refused.status, "text/plain; charset=utf-8", f"{refused}\n".encode(), {})
        except ValueError as error:  # of an address that is none
            self._send(HTTPStatus.BAD_REQUEST, "text/plain; charset=utf-8", f"{error}\n".encode("utf-8", "replace"), {})
        except (ConnectionError, TimeoutError):
            raise
        except Exception as error:  # files may hold anything
            line = " ".join(f"{type(error).__name__}: {error}".split()) + "\n"
            self._send(
                HTTPStatus.INTERNAL_SERVER_ERROR, "text/plain; charset=utf-8", line.encode("utf-8", "replace"), {}
            )

    do_HEAD = do_GET

    def _other(self) -> None:
        self.close_connection = True  # whatever its body is, it is not read
        line = b"this page is read-only: GET and HEAD\n"
        self._send(HTTPStatus.METHOD_NOT_ALLOWED, "text/plain; charset=utf-8", line, {"Allow": "GET, HEAD"})

    do_POST = do_PUT = do_DELETE = do_PATCH = do_OPTIONS = do_TRACE = do_CONNECT = _other

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Of a request that is none: too long, of another method, of another protocol. One line, as all others."""
        self.close_connection, self.request_version = True, self.protocol_version  # so that it has headers in any case
        line = " ".join((message or HTTPStatus(code).phrase)[:200].split()) + "\n"
        self._send(HTTPStatus(code), "text/plain; charset=utf-8", line.encode("utf-8", "replace"), {})

    def log_message(self, format: str, *arguments: Any) -> None:
        """Requests of a page that asks every two seconds are no news."""

    def _check_host(self) -> None:
        hosts = self.headers.get_all("Host") or []
        allowed = {f"{name}:{self.server.server_port}" for name in NAMES}
        if self.server.server_port == 80:
            allowed |= set(NAMES)
        if len(hosts) != 1 or hosts[0].lower() not in allowed:
            names = " and ".join(f"{name}:{self.server.server_port}" for name in NAMES)
            raise Refused(HTTPStatus.MISDIRECTED_REQUEST, f"this server answers to {names} only")

    def _send(self, status: HTTPStatus, kind: str, content: bytes, extra: dict[str, str]) -> None:
        headers = {"Cache-Control": "no-store", "Content-Security-Policy": POLICY, **HEADERS, **extra}
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(content)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _answer(self) -> tuple[str, bytes, dict[str, str]]:
        """Kind, content and further headers. Raises Refused."""
        address = urlsplit(self.path)
        words = parse_qs(address.query, max_num_fields=20)
        parts = address.path.split("/")[1:]
        board = self.server.board
        if parts == [""]:
            board.refresh(FIRST_LOOK)
            html = page(str(board.root), board.runs, board.version, version("bokeh"))
            return "text/html; charset=utf-8", html.encode("utf-8", "replace"), {}
        if parts == ["api", "index"]:
            board.refresh()
            return _json(_index(board, _whole(words, "since", 0)))
        if parts == ["api", "curves"]:
            reading = 0.0 if "sketch" in words else READING
            return _json({"curves": board.curves(_asked(words), reading)})
        if parts == ["api", "run"]:
            details = board.details(_whole(words, "id", -1))
            if details is None:
                raise Refused(HTTPStatus.NOT_FOUND, "there is no such run")
            return _json({"name": details["name"], "events": details["events"], "html": panel_html(details)})
        if len(parts) == 3 and parts[0] == "run" and parts[2] == "report.html":
            return _report(board, parts[1])
        if len(parts) == 2 and parts[0] == "static":
            return _static(parts[1])
        raise Refused(HTTPStatus.NOT_FOUND, "there is no such page")


def _json(plain: Any) -> tuple[str, bytes, dict[str, str]]:
    text = json.dumps(plain, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return "application/json", text.encode("utf-8", "replace"), {}


def _index(board: Board, since: int) -> dict[str, Any]:
    found = board.index(since)
    rows = [
        {
            "id": run.number,
            "name": run.name,
            "state": run.state,
            "labels": board.shown_labels(run),
            "time": run.time,
            "drawable": run.path is not None and run.step is not None,
            "html": row_html(run),
        }
        for run in found["runs"]
    ]
    return found | {"runs": rows}


def _asked(words: dict[str, list[str]]) -> Asked:
    """Raises Refused where that is no view."""
    numbers = words.get("runs", [""])[-1].split(",")
    if len(numbers) > MOST_RUNS:
        raise Refused(HTTPStatus.BAD_REQUEST, f"runs: at most {MOST_RUNS:,} at once")
    return Asked(
        list(dict.fromkeys(_number("runs", one) for one in numbers if one)),
        _one_of(words, "x", "tokens", X_AXES),
        _one_of(words, "y", "loss", Y_AXES),
        _float(words, "from"),
        _float(words, "to"),
        max(1, min(10**9, _whole(words, "mean", 1))),
        _whole(words, "of", 0),
    )


def _one_of(words: dict[str, list[str]], name: str, default: str, allowed: tuple[str, ...]) -> str:
    given = words.get(name, [default])[-1]
    if given not in allowed:
        raise Refused(HTTPStatus.BAD_REQUEST, f"{name}: {given!r} given{nearest(given, allowed)}; {', '.join(allowed)}")
    return given


def _whole(words: dict[str, list[str]], name: str, default: int) -> int:
    return _number(name, words[name][-1]) if name in words else default


def _number(name: str, text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 16):
        raise Refused(HTTPStatus.BAD_REQUEST, f"{name}: {text[:40]!r} given, a whole number wanted")
    return int(text)


def _float(words: dict[str, list[str]], name: str) -> float | None:
    if name not in words:
        return None
    try:
        number = float(words[name][-1])
    except ValueError:
        number = float("nan")
    if number != number:
        raise Refused(HTTPStatus.BAD_REQUEST, f"{name}: a number wanted")
    return number


def _report(board: Board, number: str) -> tuple[str, bytes, dict[str, str]]:
    """A run's own page, which may run nothing here, whoever wrote it."""
    run = board.run(_number("run", number))
    path = None if run is None or run.path is None else run.path / "report.html"
    try:
        if path is None or no_file(path) or path.stat().st_size > LARGEST_REPORT:
            raise Refused(HTTPStatus.NOT_FOUND, "this run has no report")
        return "text/html; charset=utf-8", path.read_bytes(), {"Content-Security-Policy": REPORT_POLICY}
    except OSError:
        raise Refused(HTTPStatus.NOT_FOUND, "this run has no report that can be read") from None


@cache
def _static(name: str) -> tuple[str, bytes, dict[str, str]]:
    """A file of this package, or of bokeh's."""
    if name in OUR_FILES:
        folder, kind = OUR_FILES[name]
        return f"{kind}; charset=utf-8", (folder / name).read_bytes(), {}
    if name in LIBRARY.values():
        content = (_bokeh() / name).read_bytes()
        return "text/javascript; charset=utf-8", content, {"Cache-Control": "max-age=31536000, immutable"}
    raise Refused(HTTPStatus.NOT_FOUND, "there is no such file")


def _bokeh() -> Path:
    folder = bokeh_scripts()
    if folder is None:
        raise UserError("board: bokeh, which draws the curves, is not installed; pip install bokeh")
    return folder


def bound(board: Board, port: int | None, usual: int) -> BoardServer:
    """A server on that port; on the usual one, or the nearest free one after it, where none is asked for.

    Raises UserError where the port is in use, and names the nearest free one."""
    _bokeh()
    for one in [port] if port is not None else range(usual, usual + 100):
        try:
            return BoardServer(board, one)
        except OSError as error:
            if error.errno not in (errno.EADDRINUSE, errno.EACCES):
                raise UserError(f"board: port {one}: {error.strerror}") from None
            why = "in use" if error.errno == errno.EADDRINUSE else "not for this user"
    given = port if port is not None else usual
    free = nearest_free(given)
    raise UserError(f"board: port {given} is {why}" + (f"; the nearest free one is port={free}" if free else ""))


def nearest_free(port: int) -> int | None:
    """The free port that is nearest to this one, of those above 1023."""
    for distance in range(1, 2000):
        for one in (port + distance, port - distance):
            if 1024 <= one < 65536 and _is_free(one):
                return one
    return None


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
        return True
