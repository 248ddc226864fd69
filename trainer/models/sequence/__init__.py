"""Sequences whose positions several ranks share. A rank embeds, normalises, multiplies and predicts at the positions
that it holds; attention alone sees the others. `Sequences` is what the parts of a model ask; each rank holds all of
every sequence unless `use_sequences` says otherwise.

Ulysses (Jacobs et al. 2023): around attention, ranks exchange positions for heads. Ring (Liu et al. 2023): keys and
values go around, and what attention makes of each part is merged by its log-sum-exp.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from trainer.models.sequence.ring import Ring
from trainer.models.sequence.slices import Slices
from trainer.models.sequence.ulysses import Ulysses
from trainer.models.sequence.whole import WHOLE, BiasOfHeads, Sequences

__all__ = ["WHOLE", "BiasOfHeads", "Ring", "Sequences", "Slices", "Ulysses", "use_sequences", "whole_sequences"]


def use_sequences(model: nn.Module, sequences: Sequences) -> None:
    """Have every part of a model share its sequences in this way."""
    for module in model.modules():
        if isinstance(getattr(module, "sequences", None), Sequences):
            setattr(module, "sequences", sequences)  # noqa: B010 - no parameter of it


@contextmanager
def whole_sequences(model: nn.Module) -> Iterator[None]:
    """Inside of this the model reads whole sequences by itself, as for text that it writes."""
    held = {module: module.sequences for module in model.modules() if hasattr(module, "sequences")}
    use_sequences(model, WHOLE)
    try:
        yield
    finally:
        for module, sequences in held.items():
            setattr(module, "sequences", sequences)  # noqa: B010 - no parameter of it
