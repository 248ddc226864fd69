"""What a step reads: its samples, decoded, with the noise marked."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

from trainer.books.run_length import known_steps
from trainer.config import Config
from trainer.data.preparation import Progress, prepare
from trainer.data.samples import Samples
from trainer.data.tokenizer import Tokenizer
from trainer.objectives import NO_TARGET, PADDING, Batch
from trainer.utils.errors import UserError


def show(config: Config, step: int, *, samples: int = 2, progress: Progress | None = None) -> dict[str, Any]:
    """The first `samples` samples of a step (the first step is 0), as plain data. Where a run left batches out, later
    steps read later batches, past the last step too: the logbook numbers them as they are numbered here.

    Noise stands in double brackets: [[<mask> -> word]] for a token that the model reads differently from what it must
    predict, [[3: word]] for the third target of a random order, [[<s>]] for a special token; >> ends a prefix.
    """
    check_step(config, step)
    prepared = prepare(config, progress)
    tokenizer = Tokenizer(prepared.tokenizer_file, config.tokenizer.special_ids)
    train = Samples(prepared, config, "train")
    first, stop = config.curriculum.batch(step)
    count = max(1, min(samples, stop - first))
    window = train.window(first, first + count)
    batch = train.batch(first, first + count)
    at = range(count) if window.owner is None else np.searchsorted(window.owner, np.arange(count)).tolist()
    where = train.where(first, first + count)
    names = None if train.mixture is None else [train.mixture.names[k] for k in train.mixture(first, first + count)[0]]
    stage = config.curriculum.stage(step)
    return {
        "step": step,
        "stage": stage.number,
        "sequence_length": stage.sequence_length,
        "reads": [first, stop],
        "objective": config.objective.name,
        "data": prepared.fingerprint,
        "mixture": None if train.mixture is None else train.mixture.realised(first, stop),
        "samples": [
            {
                "sample": first + row,
                "epoch": int(window.epoch[at[row]]),
                "place": int(window.place[at[row]]),
                "document": where[row][0],
                "offset": where[row][1],
                "origin": names[row] if names else config.data.name,
                "targets": int((batch["targets"][row] != NO_TARGET).sum()),
                **{name: int(batch[name][row]) for name in ("sentence_label",) if name in batch},
                **sample_text({name: array[row] for name, array in batch.items()}, tokenizer),
            }
            for row in range(count)
        ],
    }


def check_step(config: Config, step: int) -> None:
    """Raise UserError where the run has no such step, also counting those that may read later batches."""
    steps = known_steps(config)
    if step < 0 or (steps is not None and step >= steps + config.anomalies.limit):
        last = "on" if steps is None else f"to {steps - 1}"
        raise UserError(f"step: {step} is not a step of this run; it has steps 0 {last}")


def format_show(shown: dict[str, Any]) -> str:
    """The same for a person to read."""
    first, last = shown["reads"]
    size = f"{shown['sequence_length']} tokens each"
    lines = [f"step {shown['step']} reads samples {first} to {last - 1}, {size} (objective {shown['objective']})"]
    if shown["mixture"]:
        lines.append("mixture  " + ", ".join(f"{name} {count}" for name, count in shown["mixture"].items()))
    for sample in shown["samples"]:
        facts = f"epoch {sample['epoch']}, place {sample['place']}, {sample['origin']}, {sample['targets']} targets"
        if "records" in sample:
            facts += f", {', '.join(sample['records'])}"
        else:
            facts += f", document {sample['document']} from token {sample['offset']}"
        if "sentence_label" in sample:
            facts += f", sentence label {sample['sentence_label']}"
        lines += ["", f"--- sample {sample['sample']}: {facts}"]
        for name in ("source", "text", "decoder"):
            if name in sample:
                lines += [f"[{name}]", sample[name]]
    return "\n".join(lines)


def sample_text(row: Batch, tokenizer: Tokenizer) -> dict[str, str]:
    """What a model reads of a sample of text, and what it must write."""
    if "source_tokens" in row:
        source = row["source_tokens"][row["source_segments"] != PADDING]
        return {"source": spell(source, tokenizer), "decoder": spell(row["targets"][row["targets"] >= 0], tokenizer)}
    inside = row["segments"] != PADDING
    tokens, targets = row["tokens"][inside], row["targets"][inside]
    order = row["order"][inside] if "order" in row else None
    if _predicts_next(tokens, targets):
        return {"text": _prefixed(tokens, order, tokenizer)}
    return {"text": _marked(tokens, targets, order, tokenizer)}


def _predicts_next(tokens: np.ndarray, targets: np.ndarray) -> bool:
    """Targets are the following tokens (decoders), not those of the same place (encoders)."""
    known = targets[:-1] != NO_TARGET
    return bool((targets[:-1][known] == tokens[1:][known]).all()) and bool(known.sum() > 0)


def _prefixed(tokens: np.ndarray, order: np.ndarray | None, tokenizer: Tokenizer) -> str:
    if order is None:
        return spell(tokens, tokenizer)
    ends = np.flatnonzero((order[1:] > 0) & (order[:-1] == 0)) + 1
    return ">>".join(spell(part, tokenizer) for part in np.split(tokens, ends))


def _marked(tokens: np.ndarray, targets: np.ndarray, order: np.ndarray | None, tokenizer: Tokenizer) -> str:
    hidden = targets != NO_TARGET
    said = []
    for begin, end in _runs(hidden):
        if not hidden[begin]:
            said.append(spell(tokens[begin:end], tokenizer))
            continue
        for at in range(begin, end):
            original = spell(targets[at : at + 1], tokenizer)
            if tokens[at] != targets[at]:
                shown = spell(tokens[at : at + 1], tokenizer).strip("[]")
                said.append(f"[[{shown} -> {original}]]")
            else:
                said.append(f"[[{order[at] if order is not None and order[at] else 'kept'}: {original}]]")
    return "".join(said)


def spell(tokens: np.ndarray, tokenizer: Tokenizer) -> str:
    """Text, with the special tokens by their names."""
    names = {number: name for name, number in tokenizer.specials.items()}
    special = np.isin(tokens, list(names))
    said = []
    for begin, end in _runs(special):
        part = tokens[begin:end].tolist()
        said.append("".join(f"[[{names[token]}]]" for token in part) if special[begin] else tokenizer.decode(part))
    return "".join(said)


def _runs(flags: np.ndarray) -> list[tuple[int, int]]:
    """(begin, end) of every run of equal flags."""
    edges = [0, *(np.flatnonzero(np.diff(flags.astype(np.int8))) + 1).tolist(), len(flags)]
    return [(begin, end) for begin, end in pairwise(edges) if end > begin]
