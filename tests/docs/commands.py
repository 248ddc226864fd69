"""The commands that pages show, and a check of each without its work: its verb, its options, its configuration."""

from __future__ import annotations

import contextlib
import io
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from trainer.cli.main import VERBS, main
from trainer.compose import groups
from trainer.config import Config

ROOT = Path(__file__).resolve().parents[2]
STAND_IN = "RUN"  # what is written for <run>, <folder> and the like
SHELL = ("bash", "console", "sh", "shell")
KEYS = {*groups(), *Config.model_fields, "ladder", "grid", "experiment"}
FROM_A_RUN = ("resume", "init", "branch", "from", "new_science")  # words that name a run, which a check has none of


@dataclass(frozen=True)
class Command:
    page: str
    line: int
    words: tuple[str, ...]  # behind `isoflop`

    def __str__(self) -> str:
        return f"{self.page}:{self.line}: isoflop {' '.join(self.words)}"


def blocks(text: str) -> Iterator[tuple[int, str, list[str]]]:
    """(number of the first line, language, lines) of what is fenced or indented; an indented block has no language."""
    block: list[str] = []
    fence, first = None, 0
    for number, line in enumerate([*text.splitlines(), ""], 1):
        if fence is None and line.startswith("```"):
            fence, first, block = line.strip("` "), number + 1, []
        elif fence is not None and line.startswith("```"):
            yield first, fence, block
            fence, block = None, []
        elif fence is not None:
            block.append(line)
        elif line.startswith("    "):
            first = first if block else number
            block.append(line[4:])
        elif block and line.strip():
            yield first, "", block
            block = []
    if block:
        yield first, "", block


def lines_of_shell(text: str) -> Iterator[tuple[int, str]]:
    """(number, line) of what a person types; a line that ends in a backslash has its rest. In a block with prompts
    only lines behind `$ ` are typed."""
    for first, language, block in blocks(text):
        if language not in ("", *SHELL):
            continue
        prompted = any(line.startswith("$ ") for line in block)
        whole, start = "", first
        for number, line in enumerate(block, first):
            if not whole and prompted and not line.startswith("$ "):
                continue
            start = start if whole else number
            whole += line.removeprefix("$ ") if not whole else " " + line.strip()
            if whole.endswith("\\"):
                whole = whole[:-1].rstrip()
                continue
            yield start, whole
            whole = ""


def split(line: str) -> Iterator[list[str]]:
    """The words of each `isoflop` of a line: behind its name, up to the end of that command."""
    line = re.sub(r"<[^<>]*>", STAND_IN, line)
    lexer = shlex.shlex(line, posix=True, punctuation_chars=";&|")
    lexer.whitespace_split = True
    words: list[str] | None = None
    try:
        tokens = list(lexer)
    except ValueError:  # text, not a command
        return
    for token in [*tokens, ";"]:
        if set(token) <= set(";&|"):
            if words is not None:
                yield words
            words = None
        elif words is not None:
            words.append(token)
        elif token == "isoflop" or token.endswith("bin/isoflop"):
            words = []


def commands(page: Path) -> list[Command]:
    name = str(page.relative_to(ROOT))
    found = [(number, one) for number, line in lines_of_shell(page.read_text()) for one in split(line)]
    return [Command(name, number, tuple(words)) for number, words in found if words and words[0].islower()]


@cache
def options(verb: str) -> frozenset[str]:
    """The names of a verb's own options, by its help."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        main([verb, "--help"])
    own = out.getvalue().partition("\nValues are those that hold here")[0]
    named = re.findall(r"^ {2}([a-z_0-9]+)(?:=| {2,})", own, re.MULTILINE)
    return frozenset([*named, *re.findall(r"([a-z_0-9]+)(?==)", own)])


def check(command: Command) -> None:
    """Raises UserError or AssertionError where a verb, an option or a key is none, or a value is none of its key's.

    Composed is what the words say alone: what a page leaves open (`...`, <run>), and what a run, a plugin or a folder
    of the reader's says beside them, is not there.
    """
    verb, *words = command.words
    if verb.startswith("-"):
        return
    assert verb in VERBS, f"{verb}: no such verb"
    given = [word for word in words if "=" in word and not word.startswith("-")]
    tops = {word: re.split(r"[.@=]", word.lstrip("+~"), maxsplit=1)[0] for word in given}
    strange = [word for word in given if tops[word] not in KEYS | options(verb) | {*FROM_A_RUN, "plugins"}]
    assert not strange, f"{verb}: {', '.join(strange)}: neither an option of the verb nor a key"
    if {"--help", "-h", "--config-dir"} & set(words) or {"plugins", "branch", "grid"} & set(tops.values()):
        return
    keys = [word for word in given if tops[word] in KEYS - {*FROM_A_RUN} and verb not in ("fit", "compare")]
    if "..." not in words and STAND_IN not in " ".join(keys) and "$" not in " ".join(words):
        composed(tuple(word for word in keys if "interval(" not in word))


@cache
def composed(keys: tuple[str, ...]) -> None:
    """Compose the first of the runs that these words describe. Raises UserError."""
    from trainer.compose import compose, compose_ladder, sweep

    ladder = [key for key in keys if key.startswith("ladder")]
    rest = [key for key in keys if key not in ladder]
    first = sweep(rest)[0] if rest else []
    if ladder:
        given = {key.partition("=")[0] for key in first}
        first += [word for word in compose_ladder(ladder).base if word.partition("=")[0] not in given]
    compose(first)
