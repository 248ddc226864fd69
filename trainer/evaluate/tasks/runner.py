"""A model answers a task: prompts with k examples, scores or written answers, and metrics of them."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from trainer.evaluate.scoring import MEASURES, Pair, Score, has_measure, rolling, score
from trainer.evaluate.tasks.metrics import Answer, Value, bits_per_byte, measure
from trainer.evaluate.tasks.task import Item, Task
from trainer.generation import GREEDY, continue_texts
from trainer.generation.loaded_model import Trained
from trainer.utils.errors import UserError

BATCH = 16
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Result:
    """Of one task at one number of examples. measure: what choices were compared by. chance: expected of guessing.

    shortened: items whose context was longer than the model, and cut on the left. bits_per_byte: of the right answers,
    by the same measure; null where they were not scored.
    """

    task: str
    shots: int
    items: int
    measure: str
    chance: float | None
    values: dict[str, Value]
    kinds: dict[str, Value] = field(default_factory=dict)  # the first metric by kind of item
    shortened: int = 0
    bits_per_byte: Value | None = None

    def to_json(self) -> dict[str, Any]:
        def plain(one: Value) -> dict[str, Any]:
            return {"value": one.value, "standard_error": one.error}

        own = {name: getattr(self, name) for name in ("task", "shots", "items", "measure", "chance", "shortened")}
        own["bits_per_byte"] = None if self.bits_per_byte is None else plain(self.bits_per_byte)
        tables = {"values": self.values, "kinds": self.kinds}
        return own | {table: {name: plain(one) for name, one in of.items()} for table, of in tables.items()}


def run_task(
    trained: Trained,
    task: Task,
    shots: int,
    seed: int = 0,
    limit: int | None = None,
    progress: Progress = lambda what, done, total: None,
) -> Result:
    """Ask all items of a task, or the first `limit`, each with `shots` examples before it.

    Raises UserError where the task has too few examples, or asks the model for what it has not.
    """
    items = task.items[:limit]
    prompts = [prompt(task, item, shots, seed) for item in items]
    try:
        answers, shortened = ASK[task.output](trained, task, items, prompts, progress)
    except UserError as error:
        raise UserError(f"{task.name}: {error}") from None
    chances = [1 / len(item.choices) for item in items if item.choices]
    kinds = sorted({item.kind for item in items if item.kind})
    first = task.metrics[0]
    return Result(
        task.name,
        shots,
        len(items),
        MEASURES[trained.family] if task.output != "generate_until" else "written text",
        sum(chances) / len(chances) if chances and first.name == "acc" else None,
        {metric.name: measure(metric, answers) for metric in task.metrics},
        {kind: measure(first, [one for one in answers if one.item.kind == kind]) for kind in kinds},
        shortened,
        bits_per_byte(answers),
    )


def prompt(task: Task, item: Item, shots: int, seed: int) -> str:
    """Description, examples, question. The examples are drawn by seed and question, and never the question itself."""
    drawn: list[Item] = []
    if shots:
        others = [one for one in task.examples if (one.text, one.answers) != (item.text, item.answers)]
        if len(others) < shots:
            raise UserError(f"{task.name}: shots={shots} given, it has {len(others)} other examples to show")
        key = hashlib.sha256(f"{task.name}/{item.text}/{item.answers[0]}".encode()).hexdigest()
        drawn = random.Random(f"{seed}/{key}").sample(others, shots)
    shown = [f"{one.text}{task.target_delimiter}{one.answers[0]}{one.after}{task.delimiter}" for one in drawn]
    return task.description + "".join(shown) + item.text


Asked = tuple[list[Answer], int]


def continuation(task: Task, item: Item, answer: str) -> str:
    """What is scored behind the prompt of an item, for one answer."""
    joined = task.target_delimiter if item.choices or task.output == "generate_until" else ""
    return f"{joined}{answer}{item.after}"


def choices(task: Task, items: Sequence[Item], prompts: Sequence[str]) -> list[Pair]:
    """Every choice of every item, or its one answer, with what it continues."""
    return [
        (text, continuation(task, item, choice))
        for item, text in zip(items, prompts, strict=True)
        for choice in item.choices or item.answers[:1]
    ]


def _choose(trained: Trained, task: Task, items: tuple[Item, ...], prompts: list[str], progress: Progress) -> Asked:
    """Every choice of every item is scored behind its prompt."""
    pairs = choices(task, items, prompts)
    scores = iter(score(trained, pairs, lambda done: progress(task.name, done, len(pairs))))
    answers, shortened = [], 0
    for item in items:
        own: list[Score] = [next(scores) for _ in item.choices or item.answers[:1]]
        nats = tuple(one.nats for one in own)
        right = nats[item.label] if item.choices and item.label >= 0 else None if item.choices else nats[0]
        answers.append(Answer(item, nats, own[0].greedy, right=right))
        shortened += any(one.dropped for one in own)
    return answers, shortened


def _roll(trained: Trained, task: Task, items: tuple[Item, ...], prompts: list[str], progress: Progress) -> Asked:
    def nats(numbered: tuple[int, Item]) -> float:
        number, item = numbered
        found = rolling(trained, item.answers[0]).nats
        progress(task.name, number, len(items))
        return found

    many = trained.divided(list(enumerate(items, 1)), nats)
    return [Answer(item, (one,), right=one) for item, one in zip(items, many, strict=True)], 0


def _write(trained: Trained, task: Task, items: tuple[Item, ...], prompts: list[str], progress: Progress) -> Asked:
    """Greedily, with the end of the prompt as the model's context; where the model has a measure of texts, the right
    answer is scored beside it."""
    decoding = type(GREEDY)(temperature=0, tokens=task.tokens)

    def texts(first: int) -> list[tuple[str, bool]]:
        found = continue_texts(trained, prompts[first : first + BATCH], decoding, stop=task.until)
        progress(task.name, min(first + BATCH, len(items)), len(items))
        return [(one.text, bool(one.dropped)) for one in found]

    batches = trained.divided(range(0, len(items), BATCH), texts)
    written = [one for batch in batches for one in batch]
    rights = _right(trained, task, items, prompts)
    answers = [
        Answer(item, text=text, right=right) for item, (text, _), right in zip(items, written, rights, strict=True)
    ]
    return answers, sum(dropped for _, dropped in written)


def _right(trained: Trained, task: Task, items: tuple[Item, ...], prompts: list[str]) -> list[float | None]:
    """Nats of the right answers of items that are answered by writing; null where they have none."""
    try:
        if not has_measure(trained) or not all(item.answers[0] for item in items):
            return [None] * len(items)
        pairs = [(text, continuation(task, one, one.answers[0])) for one, text in zip(items, prompts, strict=True)]
        return [one.nats for one in score(trained, pairs)]
    except UserError:  # an answer of no tokens, or longer than the model reads: it is written all the same
        return [None] * len(items)


ASK: dict[str, Callable[..., Asked]] = {
    "multiple_choice": _choose,
    "loglikelihood": _choose,
    "loglikelihood_rolling": _roll,
    "generate_until": _write,
}
