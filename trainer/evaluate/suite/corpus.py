"""What a passage is, told by the corpus itself: the language of its source, the section it was taken from.

The text may have been trained on; the labels never were. Files are divided into train and test, never passages of one
file.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable

from trainer.config import DataConfig
from trainer.data.corpus import parts, sources
from trainer.evaluate.suite.example import Example, Split, quarter
from trainer.utils.errors import UserError

PASSAGE = 200  # characters, to the end of a line
BEGINNING = 1 << 16  # characters of a file that passages are taken from
FEWEST_FILES, MOST_SECTIONS = 4, 8


def language(data: DataConfig, split: Split, count: int, seed: int) -> list[Example]:
    """Which language a passage is in, for a mixture whose sources state theirs."""
    stated = {name: source.language for name, source in data.sources.items() if source.language}
    if len(set(stated.values())) < 2:
        raise UserError("language: the corpus states fewer than two languages; set data.sources.<name>.language")
    return _examples("language", _texts(data, lambda origin, name: stated.get(origin)), split, count, seed)


def section(data: DataConfig, split: Split, count: int, seed: int) -> list[Example]:
    """Which source of a mixture, or which folder of another corpus, a passage was taken from: the largest eight."""

    def of(origin: str, name: str) -> str | None:
        return origin if data.name == "mixture" else name.partition("/")[0] if "/" in name else None

    texts = _texts(data, of)
    enough = [name for name, both in texts.items() if len(both["train"]) >= FEWEST_FILES and both["test"]]
    largest = sorted(enough, key=lambda name: (-len(texts[name]["train"]), name))[:MOST_SECTIONS]
    if len(largest) < 2:
        raise UserError(f"section: the corpus has fewer than two folders or sources of {FEWEST_FILES} files and more")
    return _examples("section", {name: texts[name] for name in largest}, split, count, seed)


def _texts(data: DataConfig, label: Callable[[str, str], str | None]) -> dict[str, dict[Split, list[str]]]:
    """The beginnings of all files that are long enough, by label and split. label: of (source, file name)."""
    found: dict[str, dict[Split, list[str]]] = defaultdict(lambda: {"train": [], "test": []})
    for origin, part in parts(data, sources(data)):
        of = label(origin, part.name)
        if of is not None and part.first and len(part.text.strip()) >= PASSAGE:
            found[of][quarter(f"{origin}/{part.name}")].append(part.text[:BEGINNING])
    return found


def _examples(
    name: str, texts: dict[str, dict[Split, list[str]]], split: Split, count: int, seed: int
) -> list[Example]:
    """`count` passages, as many of each class as of every other."""
    chance = random.Random(f"{name}/{split}/{seed}")
    classes = tuple(sorted(texts))
    if empty := [label for label in classes if not texts[label][split]]:
        raise UserError(f"{name}: no {split} file of {empty[0]} is long enough for a passage")
    found: dict[str, Example] = {}
    for _ in range(20 * count):
        if len(found) == count:
            break
        label = len(found) % len(classes)
        passage = _passage(chance, chance.choice(texts[classes[label]][split]))
        found.setdefault(passage, Example(passage, classes, label, classes[label]))
    if len(found) < count:
        raise UserError(f"{name}: {count} {split} examples asked for, the corpus gives {len(found)} different passages")
    return list(found.values())


def _passage(chance: random.Random, text: str) -> str:
    """From the beginning of a line on."""
    start = chance.randrange(max(1, len(text) - PASSAGE))
    start = text.rfind("\n", 0, start) + 1
    return text[start : start + PASSAGE].strip()
