"""Micro-batches of the shapes that an objective makes, as NumPy arrays."""

from __future__ import annotations

from typing import Any

import numpy as np

from trainer.books.layout import micro_batch
from trainer.books.lengths import lengths
from trainer.config import Config

ORDERED = ("permuted_lm", "prefix_lm", "unilm")  # objectives whose batches say who sees whom


def micro_batch_of(config: Config, seed: int = 0, rows: int | None = None) -> dict[str, Any]:
    """One micro-batch of random tokens, every position a target."""
    rng = np.random.default_rng(seed)
    rows, (source, target) = rows or micro_batch(config), lengths(config)

    def side(width: int, prefix: str = "") -> dict[str, Any]:
        return {
            f"{prefix}tokens": rng.integers(0, config.vocabulary, (rows, width)),
            f"{prefix}segments": np.zeros((rows, width), np.int32),
            f"{prefix}positions": np.tile(np.arange(width), (rows, 1)),
        }

    inputs = side(source, "source_") | side(target) if target else side(source)
    inputs["targets"] = rng.integers(0, config.vocabulary, inputs["tokens"].shape)
    if config.model.drops:
        inputs["samples"] = np.arange(rows, dtype=np.int64)
    name = config.objective.name
    if name in ORDERED or (name == "ul2" and config.model.family == "decoder"):
        inputs["order"] = np.tile(np.arange(source, dtype=np.int32), (rows, 1))
    if config.objective.question:
        inputs["sentence_label"] = np.zeros(rows, np.int64)
    return inputs
