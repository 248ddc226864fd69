"""What a tuned run has learned: its predictions on the held-out records, their metrics, and a plain baseline."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from trainer.config import Config
from trainer.data import Tokenizer
from trainer.evaluate.baseline import bag_of_words, most_frequent
from trainer.generation.loaded_model import load_model
from trainer.run_folder import RunFolder
from trainer.tasks import Examples, Task, metrics, open_task
from trainer.tasks.formats import answers_of
from trainer.utils.files import write_atomic
from trainer.utils.which_weights import NEWEST, Which

BATCH = 32
LONGEST_ANSWER = 30  # tokens of a span

Scores = dict[str, float | None]


@dataclass(frozen=True)
class Tuned:
    """A tuned model, and the held-out records that it is asked."""

    run: Path
    step: int  # of its checkpoint
    config: Config
    model: Any
    task: Task
    examples: Examples  # held out, in order

    @torch.no_grad()
    def batches(self) -> Iterator[dict[str, Tensor]]:
        """All held-out rows on the model's device."""
        device = next(self.model.parameters()).device
        for first in range(0, len(self.examples), BATCH):
            batch = self.examples.batch(first, min(first + BATCH, len(self.examples)))
            yield {name: torch.from_numpy(array).to(device) for name, array in batch.items()}


def score_task(run: Path, which: Which = NEWEST) -> dict[str, Any]:
    """Metrics of the newest intact checkpoint on the held-out records, written to the run's task.json too; or of other
    weights that are meant."""
    folder = RunFolder(run)
    model, config, step = load_model(run, which=which)
    task = open_task(config)
    examples = Examples(task, config, "held_out")
    tuned = Tuned(run, step, config, model, task, examples)
    scores = config.task.part("scorer")(tuned)
    result = {
        "run": str(run),
        "step": step,
        "task": config.task.name,
        "kind": config.task.kind,
        "parent": None if config.task.from_scratch else config.task.parent,
        "records": len(task.held_out),
        "cut": examples.cut,
        **scores,
    }
    if which == NEWEST:
        write_atomic(folder.path / "task.json", json.dumps(result, indent=1))
    return result


def format_scores(result: dict[str, Any]) -> str:
    """A line a metric, the baselines beside it."""
    beside = result.get("baselines", {})
    origin = "from random weights" if result["parent"] is None else f"from {result['parent']}"
    title = f"{result['task']}, step {result['step']} {origin}: {result['records']:,} held-out records"
    lines = [title + (f", {result['cut']:,} cut to fit" if result["cut"] else "")]
    lines.append(f"{'':<18}{'this run':>16}" + "".join(f"{name:>16}" for name in beside))
    for name, value in result["metrics"].items():
        shown = [value, *(scores.get(name) for scores in beside.values())]
        lines.append(f"{name:<18}" + "".join(f"{'-' if one is None else format(one, 'z.4f'):>16}" for one in shown))
    for name, (low, high) in result["intervals"].items():
        lines.append(f"{name}: 95 % interval {low:.4f} to {high:.4f}")
    lines += result.get("notes", [])
    return "\n".join(lines)


def _labels(values: np.ndarray, true: np.ndarray) -> Scores:
    binary = {"f1": metrics.f1(values, true, 1)} if max(values.max(), true.max()) <= 1 else {}
    return {
        "accuracy": metrics.accuracy(values, true),
        **binary,
        "macro_f1": metrics.macro_f1(values, true),
        "matthews": metrics.matthews(values, true),
    }


@torch.no_grad()
def score_sequences(tuned: Tuned) -> dict[str, Any]:
    """Right classes of rows, beside those of a bag of words."""
    predicted, true = [], []
    for batch in tuned.batches():
        true.append(batch.pop("targets").cpu().numpy())
        predicted.append(tuned.model.logits(**batch).argmax(dim=-1).cpu().numpy())
    values, wanted = np.concatenate(predicted), np.concatenate(true)
    learned = Examples(tuned.task, tuned.config, "train")
    labels = np.array([int(learned.rows.row(place, None)["targets"]) for place in range(len(learned))])
    train, held = (
        [[one.record.text(n) for n in tuned.config.task.text] for one in part]
        for part in (tuned.task.train, tuned.task.held_out)
    )
    bag = bag_of_words(train, labels, held, len(tuned.config.task.labels))
    scores = _labels(values, wanted)
    return {
        "metrics": scores,
        "intervals": {"accuracy": metrics.wilson(float(scores["accuracy"] or 0), len(wanted))},
        "baselines": {
            "bag of words": _labels(bag, wanted),
            "most frequent": _labels(most_frequent(labels, len(wanted)), wanted),
        },
    }


@torch.no_grad()
def score_words(tuned: Tuned) -> dict[str, Any]:
    """Right classes of words and, of names in B-I-O tags, right names."""
    said, there = [], []
    for batch in tuned.batches():
        targets = batch.pop("targets")
        best = tuned.model.logits(**batch).argmax(dim=-1)
        for row, wanted in zip(best, targets, strict=True):
            marked = wanted >= 0
            said.append(row[marked].cpu().numpy())
            there.append(wanted[marked].cpu().numpy())
    values, true = np.concatenate(said), np.concatenate(there)
    scores = _labels(values, true)
    names = tuned.config.task.labels
    if any(name.startswith("B-") for name in names):
        named = [[[names[i] for i in row] for row in rows] for rows in (said, there)]
        scores["entity_f1"] = metrics.entity_f1(named[0], named[1])
    common = most_frequent(true, len(true))
    return {
        "metrics": scores,
        "intervals": {"accuracy": metrics.wilson(float(scores["accuracy"] or 0), len(true))},
        "baselines": {"most frequent": _labels(common, true)},
    }


@torch.no_grad()
def score_spans(tuned: Tuned) -> dict[str, Any]:
    """Right answers within texts, to the letter and by their words."""
    tokenizer, scores = Tokenizer(tuned.task.tokenizer_file, tuned.config.tokenizer.special_ids), []
    records = iter([one.record for one in tuned.task.held_out])
    for batch in tuned.batches():
        del batch["targets"]
        inside = batch["inside"]
        for logits, within in zip(tuned.model.logits(**batch).cpu(), inside.cpu(), strict=True):
            record = next(records)
            context = record.text(tuned.config.task.text[-1])
            begin, end = best_span(logits[:, 0], logits[:, 1])
            places = tokenizer.places(context)
            start = int(within[1:].argmax()) + 1  # where the context begins
            text = context[places[begin - start][0] : places[end - start][1]] if begin else ""
            accepted = [answer for answer, _ in answers_of(record, tuned.config.task.answer[0], context)]
            scores.append(metrics.answer_scores(text, accepted))
    both = np.array(scores)
    return {
        "metrics": {"exact_match": float(both[:, 0].mean()), "f1": float(both[:, 1].mean())},
        "intervals": {
            "exact_match": metrics.wilson(float(both[:, 0].mean()), len(both)),
            "f1": metrics.mean_interval(both[:, 1]),
        },
    }


def best_span(begins: Tensor, ends: Tensor) -> tuple[int, int]:
    """Places of the first and last token of the likeliest span of at most LONGEST_ANSWER tokens; (0, 0): no answer."""
    sums = begins[:, None] + ends[None, :]
    allowed = torch.ones_like(sums, dtype=torch.bool).triu().tril(LONGEST_ANSWER - 1)
    allowed[0, 1:] = False  # <s> is no beginning of an answer
    place = int(sums.masked_fill(~allowed, float("-inf")).argmax())
    return divmod(place, len(begins))


@torch.no_grad()
def score_rewards(tuned: Tuned) -> dict[str, Any]:
    """Pairs in the right order."""
    margins = []
    for batch in tuned.batches():
        del batch["targets"]
        chosen, rejected = tuned.model.logits(**batch).squeeze(-1).unbind(dim=1)
        margins.append((chosen - rejected).cpu().numpy())
    return _preferred(np.concatenate(margins))


@torch.no_grad()
def score_preferences(tuned: Tuned) -> dict[str, Any]:
    """Pairs in which the policy prefers the chosen answer more than its reference does."""
    margins = []
    for batch in tuned.batches():
        del batch["targets"]
        margins.append(tuned.model.margins(**batch).cpu().numpy())
    return _preferred(np.concatenate(margins))


def _preferred(margins: np.ndarray) -> dict[str, Any]:
    """Before the first step a policy is its reference: all its margins are 0, and chance is a half."""
    share = float((margins > 0).mean())
    return {
        "metrics": {"accuracy": share, "margin": float(margins.mean())},
        "intervals": {"accuracy": metrics.wilson(share, len(margins)), "margin": metrics.mean_interval(margins)},
    }
