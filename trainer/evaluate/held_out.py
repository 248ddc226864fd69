"""Held-out loss of a checkpoint, outside of training."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from trainer.compose import change
from trainer.data import Examples, Tokenizer, unknown_share
from trainer.evaluate.passages import Progress, score_passages
from trainer.generation.loaded_model import Trained, load_model, writer_of
from trainer.run_folder import RunFolder
from trainer.trackers.records import below_unigram
from trainer.training.dataset import prepare, text_of
from trainer.training.unigram import Unigram, unigram_of
from trainer.training.validation import Batch, Sums, of_whole, sums_by_split, validation_metrics, validation_splits
from trainer.utils.which_weights import NEWEST, Which

BATCH = 16


def held_out(
    run: Path, overrides: list[str], progress: Progress = lambda what, done, total: None, which: Which = NEWEST
) -> dict[str, Any]:
    """Loss of the newest intact checkpoint, or of the weights that are meant, on all held-out text, in fp32, with what
    `trainer.training.validation` tells.

    unknown_share: share of <unk> among its tokens, of which no text is predicted; null: there is none.
    measure: what the loss is one of. below_unigram: share by which it lies below that of a model without context; null:
    it has other terms than the cross-entropy of targets. passages: what `trainer.evaluate.passages` tells of encoders
    and encoder-decoders.
    """
    config = change(RunFolder(run).load_config(), overrides)
    model, config, step = load_model(run, config, which)
    source = prepare(config, progress)
    if (prepared := text_of(source)) is not None:
        prepared.verify("held_out", progress)
    splits = validation_splits(source, config)
    sums = _sums(model, splits, unigram_of(source, config, of_whole(config, splits).values()), progress)
    found = validation_metrics(source, config, sums)
    passages = None
    if prepared is not None:
        trained = Trained(
            run, step, config, writer_of(model), Tokenizer(prepared.tokenizer_file, config.tokenizer.special_ids)
        )
        passages = score_passages(trained, prepared, progress)
    return {
        "run": str(run),
        "step": step,
        **({} if which.average is None else {"average": which.average}),
        "measure": "likelihood of the text"
        if found["bits_per_byte"] is not None
        else f"objective={config.objective.name}",
        **found,
        "below_unigram": below_unigram(found),
        "unknown_share": unknown_share(prepared, "held_out") if prepared else None,
        "passages": passages.to_json() if passages else None,
    }


@torch.no_grad()
def _sums(
    model: torch.nn.Module, splits: Mapping[str, Examples], unigram: Unigram | None, progress: Progress
) -> dict[str, Sums]:
    device = next(model.parameters()).device
    done, total = 0, sum(map(len, splits.values()))

    def forward(batch: Batch) -> tuple[Tensor, Tensor]:
        loss, count, _ = model(**{key: torch.from_numpy(array).to(device) for key, array in batch.items()})
        return loss, count

    def tell(rows: int) -> None:
        nonlocal done
        done += rows
        progress("held-out loss", done, total)

    tell(0)
    return sums_by_split({name: _batches(samples) for name, samples in splits.items()}, forward, unigram, tell)


def _batches(samples: Examples) -> Iterator[Batch]:
    for first in range(0, len(samples), BATCH):
        yield samples.batch(first, min(first + BATCH, len(samples)))
