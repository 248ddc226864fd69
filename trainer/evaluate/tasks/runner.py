"""A model answers a task: prompts with k examples, scores or written answers, and metrics of them."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from trainer.evaluate.scoring import MEASURES, Score, rolling, score
from trainer.evaluate.tasks.metrics import Answer, Value, measure
from trainer.evaluate.tasks.task import Item, Task
from trainer.generation import GREEDY, continue_texts
from trainer.generation.loaded_model import Trained
from trainer.utils.errors import UserError

BATCH = 16
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Result:
    """Of one task at one number of examples. measure: what choices were compared by. chance: expected of guessing.

    shortened: items whose context was longer than the model, and cut on the left.
    """

    task: str
    shots: int
    items: int
    measure: str
    chance: float | None
    values: dict[str, Value]
    kinds: dict[str, Value] = field(default_factory=dict)  # the first metric by kind of item
    shortened: int = 0

    def to_json(self) -> dict[str, Any]:
        def plain(values: dict[str, Value]) -> dict[str, Any]:
            return {name: {"value": one.value, "standard_error": one.error} for name, one in values.items()}

        own = {name: getattr(self, name) for name in ("task", "shots", "items", "measure", "chance", "shortened")}
        return {**own, "values": plain(self.values), "kinds": plain(self.kinds)}


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


def _choose(trained: Trained, task: Task, items: tuple[Item, ...], prompts: list[str], progress: Progress) -> Asked:
    """Every choice of every item is scored behind its prompt."""
    pairs = [
        (text, f"{task.target_delimiter if item.choices else ''}{choice}{item.after}")
        for item, text in zip(items, prompts, strict=True)
        for choice in item.choices or item.answers[:1]
    ]
    scores = iter(score(trained, pairs, lambda done: progress(task.name, done, len(pairs))))
    answers, shortened = [], 0
    for item in items:
        own: list[Score] = [next(scores) for _ in item.choices or item.answers[:1]]
        answers.append(Answer(item, tuple(one.nats for one in own), own[0].greedy))
        shortened += any(one.dropped for one in own)
    return answers, shortened


def _roll(trained: Trained, task: Task, items: tuple[Item, ...], prompts: list[str], progress: Progress) -> Asked:
    answers = []
    for number, item in enumerate(items, 1):
        answers.append(Answer(item, (rolling(trained, item.answers[0]).nats,)))
        progress(task.name, number, len(items))
    return answers, 0


def _write(trained: Trained, task: Task, items: tuple[Item, ...], prompts: list[str], progress: Progress) -> Asked:
    """Greedily, with the end of the prompt as the model's context."""
    decoding = type(GREEDY)(temperature=0, tokens=task.tokens)
    answers, shortened = [], 0
    for first in range(0, len(items), BATCH):
        batch = slice(first, first + BATCH)
        for item, found in zip(
            items[batch], continue_texts(trained, prompts[batch], decoding, stop=task.until), strict=True
        ):
            answers.append(Answer(item, text=found.text))
            shortened += bool(found.dropped)
        progress(task.name, min(first + BATCH, len(items)), len(items))
    return answers, shortened


ASK: dict[str, Callable[..., Asked]] = {
    "multiple_choice": _choose,
    "loglikelihood": _choose,
    "loglikelihood_rolling": _roll,
    "generate_until": _write,
}
