"""What masks leave of attention: the pairs of query and key that documents, windows and causality let through.

Model FLOPs count the whole square, as is the convention (`trainer.books.flops`); this is what the mathematics needs.
What is executed lies between: the Triton kernels skip blocks that are hidden as a whole, a causal SDPA call without
documents or windows skips its upper half, all other calls and the reference compute the square.
"""

from __future__ import annotations

from collections.abc import Sequence

from trainer.config import Config
from trainer.errors import UserError


def visible_pairs(length: int, causal: bool, window: int | None = None) -> int:
    """Pairs within one document of `length` tokens, where a token sees at most `window` others to each side."""
    reach = max(length - 1, 0) if window is None else min(window, length - 1)
    one_side = reach * length - reach * (reach + 1) // 2
    return length + one_side * (1 if causal else 2)


def visible_scores(config: Config, documents: Sequence[int]) -> int:
    """FLOPs of the forward pass's scores of one sample that holds documents of these lengths, hidden pairs left out.

    Raises UserError where the lengths are not those of a sample, and for models and objectives whose masks are others.
    """
    model, tokens = config.model, config.data.sequence_length
    causal = model.family == "decoder"
    wanted = ("causal", "fim") if causal else ("masked_lm", "replaced_token")
    if config.objective.name not in wanted or model.position == "relative":
        raise UserError(
            f"documents: objective={config.objective.name} has another mask; decoders with causal or fim and "
            "encoders with masked_lm or replaced_token are counted"
        )
    if min(documents, default=0) < 1 or sum(documents) > tokens:
        raise UserError(
            f"documents: lengths of 1 and more are wanted that make up a sample of {tokens} tokens, got "
            f"{', '.join(map(str, documents)) or 'none'}"
        )
    channels, pairs = model.heads * model.head_channels, 0
    for layer in range(model.depth):
        window = model.window if model.local(layer) else None
        pairs += sum(visible_pairs(length, causal, window) for length in documents)
    return 4 * channels * pairs
