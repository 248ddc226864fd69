"""What a trained model makes of a prompt: text that follows it, or what stands in its gaps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from trainer.generation.decoding import Decoding
from trainer.generation.infilling import MASK, fill_texts
from trainer.generation.loaded_model import Trained
from trainer.generation.text import Written, continue_texts
from trainer.utils.errors import UserError


def answer_prompts(
    trained: Trained, prompts: list[str], decoding: Decoding, stop: Sequence[str] = (), **tell: Any
) -> list[Written]:
    """One text a prompt: filled where it has a <mask> or an encoder reads it, greedily unless the decoding says
    otherwise; else continued.

    Raises UserError where text that is filled shall be stopped, and as `fill_texts` and `continue_texts`.
    """
    if trained.family == "encoder" or any(MASK in prompt for prompt in prompts):
        if stop:
            raise UserError(f"generate: stop and {MASK} contradict: only what continues a prompt is stopped")
        plain = decoding.temperature is None and decoding.beams == 1 and decoding.top_k is decoding.top_p is None
        return fill_texts(trained, prompts, replace(decoding, temperature=0.0) if plain else decoding)
    return continue_texts(trained, prompts, decoding, stop=stop, **tell)
