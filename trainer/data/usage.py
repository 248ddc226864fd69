"""Data usage: samples, tokens and epochs that a run has read of each source."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from trainer.books.formatting import format_amount


@dataclass(frozen=True)
class DataUsage:
    """What a run has read of one source in one stage."""

    stage: int
    source: str
    samples: int
    tokens: int
    epochs: float


def tokens_by_source(usage: Sequence[DataUsage]) -> dict[str, int]:
    """Tokens of each source over all stages."""
    counts: Counter[str] = Counter()
    for used in usage:
        counts[used.source] += used.tokens
    return dict(counts)


def describe(usage: Sequence[DataUsage]) -> str:
    """One line: each source's tokens, share and epochs, over all stages."""
    tokens = tokens_by_source(usage)
    epochs = {name: sum(used.epochs for used in usage if used.source == name) for name in tokens}
    whole = sum(tokens.values())
    parts = [
        f"{name} {format_amount(count, 'tokens')} ({count / whole:.1%}, {epochs[name]:.3g} epochs)"
        for name, count in tokens.items()
    ]
    return f"read so far: {', '.join(parts)}"
