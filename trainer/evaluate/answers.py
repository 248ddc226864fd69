"""What a run that was tuned on texts has learned: the answers it would write, and which of given ones it prefers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from trainer.data import Tokenizer
from trainer.evaluate.task_scores import Tuned
from trainer.generation import GREEDY
from trainer.generation.loaded_model import Trained, writer_of
from trainer.generation.text import generate
from trainer.models import NOT_A_TARGET, Model
from trainer.tasks import Task, metrics
from trainer.tasks.answers import Answers
from trainer.tasks.forms import Prompt
from trainer.tasks.records import Record
from trainer.tasks.templates import TemplateSet

BATCH = 32
WRITTEN = 256  # answers that are written out at most, token by token


def score_texts(tuned: Tuned) -> dict[str, Any]:
    """As `score_answers`."""
    tokenizer, writer = Tokenizer(tuned.task.tokenizer_file, tuned.config.tokenizer.special_ids), writer_of(tuned.model)
    return score_answers(Trained(tuned.run, tuned.step, tuned.config, writer, tokenizer), tuned.task)


@torch.no_grad()
def score_answers(trained: Trained, task: Task) -> dict[str, Any]:
    """Shares of held-out records: answers that greedy decoding would write to the letter, answers preferred to the
    others that a template offers, and tokens predicted from those before them; and how near what greedy decoding
    writes for some of them comes to the right answers, where the packages for that are installed."""
    model = trained.model
    rows = Answers([], trained.config, trained.tokenizer)
    asked = [(one.record, one.templates, number) for number, one in enumerate(task.held_out)]
    exchanges = [templates.render(record, number) for record, templates, number in asked]
    predicted = list(_scores(model, rows, iter(exchanges)))
    exact = np.array([all_right for _, all_right, _, _ in predicted])
    right, total = (sum(one[index] for one in predicted) for index in (2, 3))
    scores: dict[str, float | None] = {"exact_match": float(exact.mean()), "token_accuracy": right / total}
    intervals = {"exact_match": metrics.wilson(float(exact.mean()), len(exact))}
    baselines = {}
    if choices := [_candidates(*one) for one in asked if one[1].options]:
        right_ones = _right_choices(model, rows, choices)
        scores["choice_accuracy"] = share = float(np.mean(right_ones))
        intervals["choice_accuracy"] = metrics.wilson(share, len(choices))
        baselines["by chance"] = {"choice_accuracy": float(np.mean([1 / len(each) for each, _ in choices]))}
    if missing := metrics.missing_packages():
        note = f"chrf, rouge_l: not measured, no {' and '.join(missing)} (pip install 'isoflop[metrics]')"
    else:
        some = exchanges[:: -(-len(exchanges) // WRITTEN)]
        scores |= metrics.text_scores(write_answers(trained, rows, some), [answer for _, answer in some])
        note = f"chrf, rouge_l: of {len(some):,} greedily written answers"
    return {"metrics": scores, "intervals": intervals, "baselines": baselines, "notes": [note]}


Choices = tuple[list[tuple[Prompt, str]], int]  # the prompt with every answer that is offered, and which one is right


def _right_choices(model: Model, rows: Answers, choices: Sequence[Choices]) -> list[bool]:
    """Whether the likeliest of the offered answers is the right one."""
    likelihoods = (row[0] for row in _scores(model, rows, (one for offered, _ in choices for one in offered)))
    return [int(np.argmax([next(likelihoods) for _ in offered])) == right for offered, right in choices]


def write_answers(trained: Trained, rows: Answers, exchanges: Sequence[tuple[Prompt, str]]) -> list[str]:
    """What greedy decoding writes behind the prompt of each (prompt, right answer), in at most as many tokens as the
    longest right answer has."""
    asked = [rows.asked(prompt, answer) for prompt, answer in exchanges]
    decoding = replace(GREEDY, tokens=max(size for _, size in asked))
    batches = [asked[first : first + BATCH] for first in range(0, len(asked), BATCH)]
    written = [ids for batch in batches for ids in generate(trained, [prompt for prompt, _ in batch], decoding)]
    return [trained.tokenizer.decode(ids) for ids in written]


def _candidates(record: Record, templates: TemplateSet, number: int) -> Choices:
    """What the template offers."""
    assert templates.answer is not None
    other = [Record({**record.fields, templates.answer: value}, record.where) for value in templates.options]
    right = list(templates.options).index(record.text(templates.answer))
    return [templates.render(one, number) for one in other], right


def _scores(
    model: Model, rows: Answers, exchanges: Iterator[tuple[Prompt, str]]
) -> Iterator[tuple[float, bool, int, int]]:
    """Of each (prompt, answer): log-probability of the answer in nats; whether its every token is the likeliest, so
    that greedy decoding writes just it; how many are; and of how many."""
    device = next(model.parameters()).device
    while some := list(islice(exchanges, BATCH)):
        each = [rows.alone(prompt, answer) for prompt, answer in some]
        batch = {name: torch.from_numpy(np.stack([one[name] for one in each])).to(device) for name in each[0]}
        targets = batch.pop("targets")
        logits = model.logits(**batch).float()
        loss = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=NOT_A_TARGET, reduction="none")
        marked, right = targets != NOT_A_TARGET, logits.argmax(dim=-1) == targets
        sums = (-loss.view(targets.shape).sum(dim=1), (right | ~marked).all(dim=1), right.sum(dim=1), marked.sum(dim=1))
        for likelihood, all_right, hits, tokens in zip(*sums, strict=True):
            yield float(likelihood), bool(all_right), int(hits), int(tokens)
