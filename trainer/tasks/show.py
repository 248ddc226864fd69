"""What a step reads where labelled tasks are mixed into the text: its samples, decoded, each with its task."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from typing import Any

import numpy as np

from trainer.books.run_length import run_steps
from trainer.config import Config
from trainer.data import Tokenizer, prepare
from trainer.data.preparation import Progress
from trainer.data.show import check_step, sample_text, spell
from trainer.data.show import show as show_text
from trainer.data.summary import card as card_of_text
from trainer.objectives import NO_TARGET, PADDING, Batch
from trainer.tasks.labelled import MixedData, MixedSamples, described, open_mixed
from trainer.tasks.rates import TEXT
from trainer.utils.errors import UserError


def show(config: Config, step: int, *, samples: int = 2, progress: Progress | None = None) -> dict[str, Any]:
    """As `trainer.data.show.show`. A sample of a task has `records` in place of a document: file and line of each; its
    prompts end with >> where a decoder reads them. Raises UserError for a tuned run, which reads no corpus."""
    if config.task.kind is not None:
        raise UserError(f"data show: a run of task={config.task.name} reads its records, and no samples of a corpus")
    if not config.data.tasks:
        return show_text(config, step, samples=samples, progress=progress)
    check_step(config, step)
    source = open_mixed(config, prepare(config, progress))
    tokenizer = Tokenizer(source.tokenizer_file, config.tokenizer.special_ids)
    mixed = MixedSamples(source, config)
    first, stop = config.curriculum.batch(step)
    drawn = mixed.of(first, stop)
    count, stage = max(1, min(samples, stop - first)), config.curriculum.stage(step)
    batch = mixed.batch(first, first + count)
    return {
        "step": step,
        "stage": stage.number,
        "sequence_length": stage.sequence_length,
        "reads": [first, stop],
        "objective": config.objective.name,
        "data": source.fingerprint,
        "mixture": dict.fromkeys(mixed.mixing.names, 0) | Counter(name for name, _ in drawn),
        "samples": [
            {
                "sample": first + row,
                **_place(mixed, source, *drawn[row]),
                "targets": int((batch["targets"][row] != NO_TARGET).sum()),
                **_text({name: array[row] for name, array in batch.items()}, tokenizer, drawn[row][0]),
            }
            for row in range(count)
        ],
    }


def _place(mixed: MixedSamples, source: MixedData, name: str, number: int) -> dict[str, Any]:
    """Where a sample comes from: the one of this number of the text, or of a task."""
    if name == TEXT:
        window = mixed.text.window(number, number + 1)
        document, offset = mixed.text.where(number, number + 1)[0]
        mixture = mixed.text.mixture
        origin = mixed.text.corpus if mixture is None else mixture.names[int(mixture(number, number + 1)[0][0])]
        place = {"epoch": int(window.epoch[0]), "place": int(window.place[0]), "document": document, "offset": offset}
        return place | {"origin": origin}
    task = mixed.tasks[name]
    row, _ = task.where(number, number + 1)[0]
    records = [source.tasks[name].train[member].record.where for member in task.members(row)]
    return {"epoch": number // len(task), "place": row, "records": records, "origin": name}


def _text(row: Batch, tokenizer: Tokenizer, name: str) -> dict[str, str]:
    if name == TEXT or "source_tokens" in row:
        return sample_text(row, tokenizer)
    said = []
    for number in range(int(row["segments"].max()) + 1):
        mine = row["segments"] == number
        tokens, targets = row["tokens"][mine], row["targets"][mine]
        answer = int(np.argmax(targets != NO_TARGET)) + 1
        said.append(f"{spell(tokens[:answer], tokenizer)}>>{spell(targets[targets != NO_TARGET], tokenizer)}")
    return {"text": "\n".join(said)} if row["segments"].max() != PADDING else {"text": ""}


def card(config: Config, progress: Progress | None = None) -> dict[str, Any]:
    """As `trainer.data.summary.card`; with `tasks`, what is known of each, and how much the run reads of them."""
    found = card_of_text(config, progress)
    if not config.data.tasks:
        return found
    source = open_mixed(config, prepare(config, progress))
    mixed = MixedSamples(source, config)
    tasks = [one | _stated(config, one["name"]) for one in described(source, config, mixed)]
    read = [asdict(one) for one in mixed.usage(config.curriculum.samples(run_steps(config)))]
    return found | {"tasks": tasks, "mixture": read, "bound": mixed.mixing.bound}


def _stated(config: Config, name: str) -> dict[str, Any]:
    """Where its records come from."""
    if name == TEXT:
        return {"from": [config.data.name]}
    given = config.data.tasks[name]
    return {"from": [*given.train, *given.held_out] or [given.source or given.templates]}
