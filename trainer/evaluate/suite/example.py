"""What every generator of the suite makes, and how examples are drawn and divided."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from trainer.utils.errors import UserError

Split = Literal["train", "test"]
MOST_TRIES = 5_000_000


@dataclass(frozen=True)
class Example:
    """A text, possible continuations of it (or labels for it), and which of them is right.

    text: what is given; empty where whole sentences are compared. kind: the sort of example within its task, by which
    scores are told apart.
    """

    text: str
    choices: tuple[str, ...]
    label: int
    kind: str = ""

    @property
    def answer(self) -> str:
        return self.choices[self.label]


Make = Callable[[random.Random], Example]


def quarter(text: str) -> Split:
    """One text in four is for testing, by its hash: so the splits are disjoint whatever the seeds."""
    return "test" if hashlib.blake2b(text.encode(), digest_size=1).digest()[0] % 4 == 0 else "train"


def draw(
    name: str, make: Make, split: Split, count: int, seed: int, split_of: Callable[[Example], Split] | None = None
) -> list[Example]:
    """`count` different examples of a split. Raises UserError when the generator has not so many."""
    chance = random.Random(f"{name}/{split}/{seed}")
    found: dict[tuple[str, str], Example] = {}
    for _ in range(min(1000 + 50 * count, MOST_TRIES)):
        if len(found) == count:
            break
        example = make(chance)
        belongs = split_of(example) if split_of else quarter(example.text + example.answer)
        if belongs == split:
            found.setdefault((example.text, example.answer), example)
    if len(found) < count:
        raise UserError(f"{name}: {count} {split} examples asked for, it makes {len(found)} different ones")
    return list(found.values())


def shuffled(chance: random.Random, text: str, answer: str, others: list[str], kind: str = "") -> Example:
    """An example whose right choice stands at a random place. `others` may repeat themselves or the answer."""
    choices = [answer, *dict.fromkeys(other for other in others if other != answer)]
    chance.shuffle(choices)
    return Example(text, tuple(choices), choices.index(answer), kind)
