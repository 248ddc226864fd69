"""Held-out loss of a checkpoint, outside of training."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch

from trainer.compose import change
from trainer.data import Samples, prepare
from trainer.folder import RunFolder
from trainer.trained import load_model


@torch.no_grad()
def held_out(run: Path, overrides: list[str]) -> dict[str, Any]:
    """Loss of the newest intact checkpoint on all held-out text, in fp32; for causal models also bits per byte."""
    config = change(RunFolder(run).load_config(), overrides)
    model, config, step = load_model(run, config)
    prepared = prepare(config)
    samples = Samples(prepared, config, "held_out")
    device = next(model.parameters()).device
    loss_sum, targets = 0.0, 0
    for first in range(0, len(samples), 16):
        batch = samples.batch(first, min(first + 16, len(samples)))
        loss, count, _ = model(**{name: torch.from_numpy(array).to(device) for name, array in batch.items()})
        loss_sum, targets = loss_sum + float(loss), targets + int(count)
    # Only a causal model's loss is a likelihood of the text.
    causal = config.objective.name == "causal"
    bits_per_byte = loss_sum / math.log(2) / prepared.held_out.bytes if causal else None
    yardstick = prepared.held_out.unigram_bits_per_byte
    return {
        "run": str(run),
        "step": step,
        "loss": loss_sum / max(targets, 1),
        "targets": targets,
        "bits_per_byte": bits_per_byte,
        "unigram_bits_per_byte": yardstick if bits_per_byte is not None else None,
        "below_unigram": 1 - bits_per_byte / yardstick if bits_per_byte is not None else None,
    }
