"""Text from trained models: decoding, beam search, infilling, with a key-value cache."""

from __future__ import annotations

from trainer.generation.decoding import GREEDY, Decoding
from trainer.generation.infilling import MASK, fill_texts
from trainer.generation.prompts import answer_prompts
from trainer.generation.reader import Reader
from trainer.generation.search import search, write
from trainer.generation.text import Written, continue_texts

__all__ = [
    "GREEDY",
    "MASK",
    "Decoding",
    "Reader",
    "Written",
    "answer_prompts",
    "continue_texts",
    "fill_texts",
    "search",
    "write",
]
