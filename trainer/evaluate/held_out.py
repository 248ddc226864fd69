"""Held-out loss of a checkpoint, outside of training."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from trainer.compose import change
from trainer.data import Examples, Prepared, Tokenizer
from trainer.evaluate.passages import score_passages
from trainer.folder import RunFolder
from trainer.held_out import Sums, accounts, parts
from trainer.source import prepare
from trainer.trained import Trained, load_model

BATCH = 16


def held_out(run: Path, overrides: list[str]) -> dict[str, Any]:
    """Loss of the newest intact checkpoint on all held-out text, in fp32, with what `trainer.held_out.accounts` tells.

    measure: what the loss is one of. passages: what `trainer.evaluate.passages` tells of encoders and encoder-decoders.
    """
    config = change(RunFolder(run).load_config(), overrides)
    model, config, step = load_model(run, config)
    prepared = prepare(config)
    sums = {name: _sums(model, samples) for name, samples in parts(prepared, config).items()}
    found = accounts(prepared, config, sums)
    bits, yardstick = found["bits_per_byte"], found["unigram_bits_per_byte"]
    passages = None
    if isinstance(prepared, Prepared):
        trained = Trained(run, step, config, model, Tokenizer(prepared.tokenizer_file))
        passages = score_passages(trained, prepared)
    return {
        "run": str(run),
        "step": step,
        "measure": "likelihood of the text" if bits is not None else f"objective={config.objective.name}",
        **found,
        "below_unigram": 1 - bits / yardstick if bits is not None else None,
        "passages": asdict(passages) if passages else None,
    }


@torch.no_grad()
def _sums(model: torch.nn.Module, samples: Examples) -> Sums:
    device = next(model.parameters()).device
    nats, targets = 0.0, 0
    for first in range(0, len(samples), BATCH):
        batch = samples.batch(first, min(first + BATCH, len(samples)))
        loss, count, _ = model(**{name: torch.from_numpy(array).to(device) for name, array in batch.items()})
        nats, targets = nats + float(loss), targets + int(count)
    return nats, targets
