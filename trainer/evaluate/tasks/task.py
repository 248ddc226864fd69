"""What a task is, wherever it came from: items to answer, examples to show, and how answers are judged."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Output = Literal["multiple_choice", "loglikelihood", "loglikelihood_rolling", "generate_until"]


@dataclass(frozen=True)
class Item:
    """One question. text: ends where the answer begins; empty where whole texts are compared.

    answers: accepted ones; the first is shown when the item is an example. choices, label: where there are some.
    after: what follows every choice and is scored with it. kind: sort of item, by which scores are told apart. group:
    items that are judged together.
    """

    text: str
    answers: tuple[str, ...]
    choices: tuple[str, ...] = ()
    label: int = -1
    after: str = ""
    kind: str = ""
    group: str = ""


@dataclass(frozen=True)
class Metric:
    """How answers become a number. The two options are those of exact_match."""

    name: str
    ignore_case: bool = False
    ignore_punctuation: bool = False


@dataclass(frozen=True)
class Task:
    """A named list of questions. description stands before all examples; delimiter between them, target_delimiter
    between a question and its answer."""

    name: str
    output: Output
    items: tuple[Item, ...]
    examples: tuple[Item, ...]  # to be shown
    metrics: tuple[Metric, ...]
    description: str = ""
    delimiter: str = "\n\n"
    target_delimiter: str = " "
    until: tuple[str, ...] = ("\n\n",)
    tokens: int = 256  # of a written answer, at most
    shots: int = 0  # examples in the context, unless asked for otherwise
