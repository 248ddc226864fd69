"""The verb that serves a live page of a root's runs."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from trainer.cli.arguments import one_of, split_flags, wants_help
from trainer.utils.bounded import whole_number
from trainer.utils.errors import UserError, nearest

USAGE = """isoflop board [root] [port=8642] [open=true|false]

A live page of all runs below a root (default: runs), on this host alone (127.0.0.1), read-only; Ctrl-C ends it.
  port=   another port; without it the nearest free one from 8642 on
  open=   whether a browser is opened; without it where there is a display
From another host: ssh -L 8642:127.0.0.1:8642 <host>, then http://127.0.0.1:8642 there
"""
PORT = 8642
OPTIONS = ("port", "open")


def board(arguments: list[str]) -> int:
    words, flags = split_flags(arguments)
    if wants_help(flags, USAGE, keys=False):
        return 0
    root, options = _read(words)
    port = _port(options.get("port"))
    from trainer.board.board import opened
    from trainer.board.server import HOST, bound

    found = opened(root)
    with bound(found, port, PORT) as server:
        address = f"http://{HOST}:{server.server_port}/"
        count = len(found.runs)
        print(f"board   {address}   {count:,} run{'' if count == 1 else 's'} of {root}; Ctrl-C ends it", flush=True)
        if options["open"] == "true":
            import webbrowser

            webbrowser.open(address)
        try:
            server.serve_forever(poll_interval=0.2)
        except KeyboardInterrupt:  # how it is meant to end
            print()
    return 0


def _read(words: list[str]) -> tuple[Path, dict[str, str]]:
    """The root, and the options. Raises UserError."""
    options = dict(word.split("=", 1) for word in words if word.partition("=")[0] in OPTIONS and "=" in word)
    rest = [word for word in words if word.partition("=")[0] not in OPTIONS or "=" not in word]
    for word in rest:
        name = word.partition("=")[0]
        if "=" in word and not os.path.exists(word):  # noqa: PTH110 (any text will do, of any length)
            raise UserError(f"board: {name}: no such option{nearest(name, OPTIONS)}; there is {', '.join(OPTIONS)}")
    if len(rest) > 1:
        raise UserError(f"board: name one root of runs, got {' '.join(rest)}")
    options["open"] = one_of("board", {"open": "false", **_seen(), **options}, "open", ("true", "false"))
    return Path(rest[0] if rest else "runs"), options


def _seen() -> dict[str, str]:
    """Whether somebody would see a browser that is opened."""
    display = sys.platform == "darwin" or any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))
    return {"open": "true"} if display and sys.stdout.isatty() else {}


def _port(text: str | None) -> int | None:
    """Raises UserError where that is none."""
    if text is None:
        return None
    number = whole_number(text)
    if number is None or not 1 <= number <= 65535:
        raise UserError(f"board: port: {text!r} given, a whole number from 1 to 65535 wanted")
    return number
