"""Outputs that pages show behind `$ isoflop ...`, held against what the commands print.

`...` on a line of its own leaves lines out, at the end of a line the rest of it. What a plan or a price says of a
stated machine is the same everywhere and is compared as it stands; `python -m tests.docs.outputs` writes it anew, for
a commit that moves it. What a training prints is compared without its numbers.
"""

from __future__ import annotations

import contextlib
import io
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.docs.commands import ROOT, blocks, split
from trainer.cli.main import main

GAP = "..."
PURE = ("plan", "model", "price")  # verbs that read nothing but their words
HASH = re.compile(r"(?<=\d-)[0-9a-f]{6}\b")  # of a run's science, in its name
NUMBER = re.compile(r"(?:(?<!\w)[-+])?\d[\d,.]*(?:e[-+]?\d+)?(?:[kKmMGTb]?\b)")
TIME = re.compile(r"# (?:d|h|min|s|ms|us|µs)\b(?: # (?:h|min|s)\b)*")
PREFIX = re.compile(r"# [kMGTPEmµn]?(?=(?:FLOP|B|Wh|g CO2e)\b)")


@dataclass(frozen=True)
class Shown:
    page: Path
    line: int  # of the first line of the output, from 1
    words: tuple[str, ...]  # behind `isoflop`; empty where another program is shown
    typed: str
    lines: tuple[str, ...]

    @property
    def is_pure(self) -> bool:
        """Whether its output depends on nothing but its words."""
        stated = self.words[:1] != ("plan",) or any(word.startswith("machine=") for word in self.words)
        return self.words[:1] != () and self.words[0] in PURE and stated


def shown(page: Path) -> Iterator[Shown]:
    """Every command of a page that stands behind a prompt, with the lines below it."""
    for first, language, block in blocks(page.read_text()):
        starts = [n for n, line in enumerate(block) if line.startswith("$ ")]
        if language != "console" or not starts:
            continue
        for start, end in zip(starts, [*starts[1:], len(block)], strict=True):
            typed = block[start].removeprefix("$ ")
            found = [tuple(words) for words in split(typed)]
            lines = tuple(block[start + 1 : end])
            yield Shown(page, first + start + 1, found[0] if len(found) == 1 else (), typed, lines)


def printed(words: tuple[str, ...]) -> list[str]:
    """Standard output of a command, which has to end well."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        assert main([*words]) == 0, words
    return out.getvalue().splitlines()


def plain(line: str) -> str:
    return " ".join(line.split())


def without_numbers(line: str) -> str:
    """The line where every number is one, its unit's prefix none: what two trainings have in common."""
    return PREFIX.sub("# ", TIME.sub("# s", NUMBER.sub("#", HASH.sub("#", plain(line)))))


def paired(lines: tuple[str, ...], actual: list[str], form: Callable[[str], str] = plain) -> list[int | None] | str:
    """Of every shown line the place of the printed one (None: a gap), or what is wrong in a sentence."""
    places: list[int | None] = []
    at, gap = 0, False
    for line in lines:
        if line.strip() == GAP:
            places.append(None)
            gap = True
            continue
        there = [n for n in range(at, len(actual)) if _same(line, actual[n], form)]
        if not there or (there[0] != at and not gap):
            return f"shown is {line!r}, printed is {actual[at] if at < len(actual) and not gap else 'no such line'!r}"
        places.append(there[0])
        at, gap = there[0] + 1, False
    if not gap and any(line.strip() for line in actual[at:]):
        return f"shown ends where {actual[at]!r} follows"
    return places


def _same(line: str, other: str, form: Callable[[str], str]) -> bool:
    if line.endswith(f" {GAP}"):
        return form(other).startswith(form(line.removesuffix(f" {GAP}")))
    return form(line) == form(other)


def renewed(one: Shown) -> list[str]:
    """A pure command's output as it is now, with the gaps of the page. Raises ValueError where lines are others."""
    actual = printed(one.words)
    places = paired(one.lines, actual, without_numbers)
    if isinstance(places, str):
        raise ValueError(f"{one.page}:{one.line}: {places}; write it anew by hand")
    lines = []
    for line, place in zip(one.lines, places, strict=True):
        now = line if place is None else actual[place]
        if place is not None and line.endswith(f" {GAP}"):
            count = len(line.removesuffix(GAP).split())
            now = re.match(rf"(\s*\S+){{{count}}}", now)[0] + f" {GAP}"  # type: ignore[index]
        lines.append(now)
    return lines


def renew(page: Path) -> bool:
    """Write the pure outputs of a page anew; whether it changed."""
    text = page.read_text().splitlines()
    for one in shown(page):
        if one.is_pure and one.lines:
            text[one.line - 1 : one.line - 1 + len(one.lines)] = renewed(one)
    new = "\n".join(text) + "\n"
    changed = new != page.read_text()
    if changed:
        page.write_text(new)
    return changed


if __name__ == "__main__":
    for file in sorted((ROOT / "docs").rglob("*.md")):
        if renew(file):
            print(file.relative_to(ROOT), file=sys.stderr)
