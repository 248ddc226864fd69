"""Corpus -> tokenizer -> token shards -> order -> batches."""

from __future__ import annotations

from trainer.data.loader import Examples, StepBatch, StepLoader
from trainer.data.preparation import prepare
from trainer.data.samples import Samples, check
from trainer.data.shards import Prepared, SplitInfo, open_prepared, said_unknown, unknown_share
from trainer.data.tokenizer import Tokenizer
from trainer.data.usage import DataUsage, describe, tokens_by_source

__all__ = [
    "DataUsage",
    "Examples",
    "Prepared",
    "Samples",
    "SplitInfo",
    "StepBatch",
    "StepLoader",
    "Tokenizer",
    "check",
    "describe",
    "open_prepared",
    "prepare",
    "said_unknown",
    "tokens_by_source",
    "unknown_share",
]
