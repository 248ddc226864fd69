"""Tasks that are asked while a model trains: bits per byte of the right answer, and accuracy."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path
from typing import Any

from trainer.books import flops
from trainer.config import Config
from trainer.evaluate.results import right_answers
from trainer.evaluate.scoring import encode_pair, require_room
from trainer.evaluate.suite import CORPUS
from trainer.evaluate.suite.corpus import MOST_SECTIONS, PASSAGE
from trainer.evaluate.tasks import Item, Task, find_tasks, own_shots, run_task
from trainer.evaluate.tasks.runner import choices, prompt
from trainer.evaluate.tasks.shipped import shipped_names
from trainer.generation.loaded_model import Trained
from trainer.utils.errors import UserError

SEED = 0  # of the suite's items and of the examples shown: runs of all seeds are asked the same
BYTES_PER_TOKEN = 4.0  # of English text in pieces of a tokenizer of usual size


class Tasks:
    """Asks the tasks of `evaluation.tasks`, each with each number of examples."""

    def __init__(self, config: Config, run: Path) -> None:
        """Raises UserError for a task that is not there, or that this model cannot be asked."""
        self.asked = asked(config)
        self.limit = config.evaluation.tasks_limit

    def begin(self, trained: Trained) -> None:
        """Before the first step: raises UserError where an answer is longer than the model reads."""
        for task, shots in self.asked:
            items, prompts = _prompts(task, shots, self.limit)
            if task.output in ("multiple_choice", "loglikelihood"):
                try:
                    require_room(trained, [encode_pair(trained, *pair) for pair in choices(task, items, prompts)])
                except UserError as error:
                    raise UserError(f"evaluation.tasks: {task.name}: {error}") from None

    def __call__(self, trained: Trained) -> dict[str, Any]:
        """By the name of each task, `name@shots` where it is asked with several numbers of examples: what
        `right_answers` tells, items, shots, measure, chance and the seconds it took."""
        times, found = Counter(task.name for task, _ in self.asked), {}
        for task, shots in self.asked:
            began = time.monotonic()
            result = run_task(trained, task, shots, SEED, self.limit, lambda *_: trained.progressed()).to_json()
            label = task.name if times[task.name] == 1 else f"{task.name}@{shots}"
            said = {name: result[name] for name in ("items", "shots", "measure", "chance")}
            found[label] = {**right_answers(result), **said, "seconds": time.monotonic() - began}
        return found


def asked(config: Config, *, corpus: bool = True) -> list[tuple[Task, int]]:
    """Each task with each number of examples. corpus: also those for which the corpus is read. Raises UserError, a line
    for each task that cannot be asked."""
    evaluation = config.evaluation
    names = [name for one in evaluation.tasks for name in (shipped_names(config.data) if one == "suite" else [one])]
    try:
        kept = [name for name in names if corpus or name not in CORPUS]
        tasks = find_tasks(kept, evaluation.tasks_limit, SEED, config.data)
    except UserError as error:
        raise UserError("\n".join(f"evaluation.{line}" for line in _of_tasks(error))) from None
    twice = [name for name, times in Counter(task.name for task in tasks).items() if times > 1]
    wrong = [f"evaluation.tasks: two tasks have the name {name}" for name in twice]
    for task in tasks:
        if (line := _misfit(config, task)) is not None:
            wrong.append(f"evaluation.tasks: {task.name}: {line}")
    if wrong:
        raise UserError("\n".join(wrong))
    return [(task, shots) for task in tasks for shots in evaluation.shots or own_shots(task.name) or (task.shots,)]


def _of_tasks(error: UserError) -> list[str]:
    return [line if line.startswith("tasks: ") else f"tasks: {line}" for line in str(error).splitlines()]


def _misfit(config: Config, task: Task) -> str | None:
    """Why this model cannot be asked this task."""
    family, objective = config.model.family, config.objective
    is_a = f"model={config.model.name} is an {family.replace('_', '-')}"
    if task.output == "loglikelihood_rolling" and family != "decoder":
        return f"only decoders have a likelihood of a text; {is_a}"
    if task.output == "generate_until" and family == "encoder":
        return f"its answers are written, and {is_a}, which writes none"
    scored = task.output in ("multiple_choice", "loglikelihood")
    if scored and family == "encoder_decoder" and objective.description.infills not in ("sentinels", "rewriting"):
        return f"objective={objective.name} trains no filling of a gap, so no answer can be scored"
    return None


def check(config: Config) -> None:
    """Raises UserError, before a run starts, where its tasks cannot be asked: no such task, too few examples to show, a
    model that scores no text, or one that would have to be told a language."""
    if config.task.outputs:
        raise UserError(f"evaluation.tasks: task.kind={config.task.kind} tunes a new head, which scores no text")
    known = {one.language for one in config.data.sources.values() if one.language} | set(config.data.parallel)
    if config.objective.description.reads_languages and config.task.kind is None and len(known) > 1:
        raise UserError(
            f"evaluation.tasks: objective={config.objective.name} reads a token of each text's language, and there are "
            f"{len(known)}; ask them of the trained run: isoflop eval <run> tasks=... language=..."
        )
    for task, shots in asked(config):
        _prompts(task, shots, config.evaluation.tasks_limit)


def _prompts(task: Task, shots: int, limit: int) -> tuple[tuple[Item, ...], list[str]]:
    """The items that are asked, and their prompts. Raises UserError where there are too few examples to show."""
    items = task.items[:limit]
    try:
        return items, [prompt(task, item, shots, SEED) for item in items]
    except UserError as error:
        raise UserError(f"evaluation.shots: {error}") from None


def flop(config: Config) -> float:
    """Estimated operations of asking all tasks once: of reading prompts with their answers, at BYTES_PER_TOKEN; an
    encoder reads a text once for each token of the answer. Raises UserError as `asked`."""
    account, names = flops(config), config.evaluation.tasks
    per_token = account.forward_sample / config.data.sequence_length
    each = 1.0 if config.tokenizer.name == "bytes" else BYTES_PER_TOKEN
    of_corpus = [name for name in (shipped_names(config.data) if "suite" in names else names) if name in CORPUS]
    tokens = len(of_corpus) * config.evaluation.tasks_limit * MOST_SECTIONS * PASSAGE / each
    for task, shots in asked(config, corpus=False):
        items, prompts = _prompts(task, shots, config.evaluation.tasks_limit)
        for item, text in zip(items, prompts, strict=True):
            read = min(len(text.encode()) / each, config.max_length)
            for answer in item.choices or item.answers[:1]:
                length = len(answer.encode()) / each
                repeats = max(1.0, length) if config.model.family == "encoder" else 1.0
                tokens += repeats * (read + length)
            if task.output == "generate_until":
                tokens += read + task.tokens
    return per_token * tokens
