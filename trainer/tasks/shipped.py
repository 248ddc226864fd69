"""Tasks that need no download: records made of the run's own corpus, always the same ones.

A document is held out of a task when it is held out of pre-training: by the same hash and the same data.held_out.
"""

from __future__ import annotations

import ast
import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from trainer.config import Config
from trainer.data.cleaning import normalised
from trainer.data.corpus import parts, sources
from trainer.tasks.records import Record
from trainer.utils.errors import UserError

LINES = 6  # of a snippet
Fields = dict[str, Any]
Maker = Callable[[str, str, np.random.Generator], Iterator[Fields]]


def make_records(config: Config, name: str, key: str | None = None) -> tuple[list[Record], list[Record]]:
    """Training and held-out records of a shipped task. key: who named it, for errors."""
    most = config.task.records
    found: dict[bool, list[Record]] = {False: [], True: []}
    for file, text, held_out in _texts(config):
        chance = np.random.Generator(np.random.Philox(key=_number(file + text)))
        made = MAKERS[name](file, text, chance)
        found[held_out] += [Record(fields, f"{file}: {number}") for number, fields in enumerate(made)]
    train, held = (_drawn(found[which], limit) for which, limit in ((False, most), (True, -(-most // 4))))
    if name == "packages":  # a class that one side lacks teaches or tests nothing
        common = Counter(one.fields["label"] for one in train).keys() & {one.fields["label"] for one in held}
        train, held = ([one for one in side if one.fields["label"] in common] for side in (train, held))
    if not train or not held:
        named = key or f"task={config.task.name}"
        raise UserError(f"{named}: {_lacking(config, name, len(found[False]), len(found[True]))}")
    return train, held


def _lacking(config: Config, name: str, train: int, held_out: int) -> str:
    """Why the corpus makes no task: of so many records before classes of one side were left out."""
    source = f"the corpus data={config.data.name}"
    if not train and not held_out:
        return f"{source} has nothing that {name} could be made of; name files of records instead"
    if train and held_out:
        return f"the held-out documents of {source} share no class with the others"
    side = "to train on" if train else "held out"
    return f"all {train or held_out:,} records that {source} gives are {side}; add documents, or change data.held_out"


def _drawn(records: list[Record], most: int) -> list[Record]:
    """At most so many, chosen by chance, in a random order."""
    order = np.random.Generator(np.random.Philox(key=0)).permutation(len(records))
    return [records[index] for index in order[:most]]


def _texts(config: Config) -> Iterator[tuple[str, str, bool]]:
    """(name, text, held out) of every document; the second text of a pair is on the side of the first one."""
    whole: list[str] = []
    first: int | None = None  # number of the text whose partner comes next
    for _, part in normalised(parts(config.data, sources(config.data)), config.data):
        whole = [part.text] if part.first else [*whole, part.text]
        if part.last:
            text = "".join(whole)
            number = _number(text) if first is None else first
            first = number if part.joins else None
            yield part.name, text, number / 2**64 < config.data.held_out


def _number(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8])


def _snippets(text: str, lines: int = LINES) -> Iterator[list[str]]:
    """Runs of lines that are not empty, one after the other; long lines are cut."""
    kept = [line[:120] for line in text.split("\n") if line.strip()]
    for begin in range(0, len(kept) - lines + 1, lines):
        yield kept[begin : begin + lines]


def packages(file: str, text: str, chance: np.random.Generator) -> Iterator[Fields]:
    """Which folder does a snippet come from?"""
    if "/" in file:
        for lines in _snippets(text):
            yield {"text": "\n".join(lines), "label": file.split("/")[0]}


def line_order(file: str, text: str, chance: np.random.Generator) -> Iterator[Fields]:
    """Does the second piece follow the first, or come before it (Lan et al. 2020, section 3.1)?"""
    for lines in _snippets(text):
        first, second = "\n".join(lines[: LINES // 2]), "\n".join(lines[LINES // 2 :])
        swapped = bool(chance.integers(2))
        first, second = (second, first) if swapped else (first, second)
        yield {"first": first, "second": second, "label": "before" if swapped else "after"}


def _swap(words: list[str], chance: np.random.Generator) -> int | None:
    """Swap two different words that stand side by side; returns the place of the first."""
    places = [place for place in range(len(words) - 1) if words[place] != words[place + 1]]
    if not places:
        return None
    place = int(chance.choice(places))
    words[place], words[place + 1] = words[place + 1], words[place]
    return place


def _words(line: str) -> list[str]:
    return re.findall(r"\w+|[^\w\s]+", line)


def _joined(line: str, words: list[str]) -> str:
    """The line with its words replaced and its spaces kept."""
    replacements = iter(words)
    return re.sub(r"\w+|[^\w\s]+", lambda _: next(replacements), line)


def swapped(file: str, text: str, chance: np.random.Generator) -> Iterator[Fields]:
    """Have neighbouring words been swapped, one pair in every eight words? The bag of words is the same."""
    for lines in _snippets(text, 3):
        snippet = "\n".join(lines)
        words = _words(snippet)
        label = "intact"
        if chance.integers(2) and any([_swap(words, chance) is not None for _ in range(-(-len(words) // 8))]):
            mixed = _joined(snippet, words)
            snippet, label = (snippet, label) if mixed == snippet else (mixed, "swapped")
        yield {"text": snippet, "label": label}


def swapped_words(file: str, text: str, chance: np.random.Generator) -> Iterator[Fields]:
    """Which words have been swapped with their neighbour?"""
    for lines in _snippets(text, 3):
        words = _words(" ".join(lines))
        place = _swap(words, chance)
        tags = [
            "moved" if place is not None and index in (place, place + 1) else "intact" for index in range(len(words))
        ]
        yield {"words": words, "labels": tags}


def arguments(file: str, text: str, chance: np.random.Generator) -> Iterator[Fields]:
    """What are the arguments of this function? The answer is a span of the text."""
    found = [(one[1], one[2], one.start(2)) for one in re.finditer(r"def (\w+)\(([^()\n]+)\):", text)]
    for name, wanted, begin in found:
        start = max(0, text.rfind("\n", 0, max(0, begin - int(chance.integers(40, 200)))))
        context = text[start : begin + len(wanted) + int(chance.integers(40, 200))]
        answers = {"text": [wanted], "answer_start": [begin - start]}
        yield {"question": name, "context": context, "answers": answers}


def docstrings(file: str, text: str, chance: np.random.Generator) -> Iterator[Fields]:
    """The first line of a function's docstring, from its head and body."""
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and (doc := ast.get_docstring(node)) and len(node.body) > 1:
            code = f"def {node.name}({ast.unparse(node.args)}):\n" + "\n".join(map(ast.unparse, node.body[1:]))
            if summary := doc.split("\n")[0].strip():
                yield {"code": code[:600], "summary": summary}


def continuations(file: str, text: str, chance: np.random.Generator) -> Iterator[Fields]:
    """The lines that really follow, preferred to the same lines with words swapped."""
    for lines in _snippets(text):
        prompt, chosen = "\n".join(lines[: LINES // 2]) + "\n", "\n".join(lines[LINES // 2 :])
        words = _words(chosen)
        if len(words) > 8 and None not in [_swap(words, chance) for _ in range(3)]:
            rejected = _joined(chosen, words)
            if rejected != chosen:
                yield {"prompt": prompt, "chosen": chosen, "rejected": rejected}


# Of those whose answer is a text, or the name of a class: (fields of the text, field of the answer).
FIELDS: dict[str, tuple[tuple[str, ...], str]] = {
    "continuations": (("prompt",), "chosen"),
    "docstrings": (("code",), "summary"),
    "line_order": (("first", "second"), "label"),
    "packages": (("text",), "label"),
    "swapped": (("text",), "label"),
}

MAKERS: dict[str, Maker] = {
    maker.__name__: maker
    for maker in (packages, line_order, swapped, swapped_words, arguments, docstrings, continuations)
}
