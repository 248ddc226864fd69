"""The reference of all verbs: what `isoflop <verb> --help` prints of each, without the keys of the configuration."""

from __future__ import annotations

import contextlib
import io

from trainer.cli.main import main
from trainer.cli.verbs import VERBS, usage

KEYS = "\nValues are those that hold here"  # where the list of keys begins, which has pages of its own


def page() -> str:
    """Markdown: `isoflop --help`, then a heading a verb."""
    lines = ["# Every verb", "", "What `isoflop --help` prints:", "", "```text", usage().strip("\n"), "```", ""]
    for verb in VERBS:
        if text := help_of(verb):
            lines += [f"## isoflop {verb}", "", "```text", text, "```", ""]
            lines += ["It takes [every key](index.md) of the configuration.", ""] if takes_keys(verb) else []
    return "\n".join(lines)


def help_of(verb: str) -> str:
    """Without the keys; empty where the verb has no help of its own."""
    return _printed(verb).partition(KEYS)[0].strip("\n")


def takes_keys(verb: str) -> bool:
    return KEYS in _printed(verb)


def _printed(verb: str) -> str:
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(io.StringIO()):
        code = main([verb, "--help"])
    return out.getvalue() if code == 0 else ""
