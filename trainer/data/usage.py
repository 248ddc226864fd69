"""What a run has read of each source: the mixture as it was, not as it was wished for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from trainer.books.formatting import format_amount


@dataclass(frozen=True)
class Reading:
    """What one source gave in one stage."""

    stage: int
    source: str
    samples: int
    tokens: int
    epochs: float


def tokens_by_source(readings: Sequence[Reading]) -> dict[str, int]:
    """Tokens of each source over all stages."""
    counts: Counter[str] = Counter()
    for reading in readings:
        counts[reading.source] += reading.tokens
    return dict(counts)


def describe(readings: Sequence[Reading]) -> str:
    """One line: each source's tokens, share and epochs, over all stages."""
    tokens = tokens_by_source(readings)
    epochs = {name: sum(reading.epochs for reading in readings if reading.source == name) for name in tokens}
    whole = sum(tokens.values())
    parts = [
        f"{name} {format_amount(count, 'tokens')} ({count / whole:.1%}, {epochs[name]:.3g} epochs)"
        for name, count in tokens.items()
    ]
    return f"read so far: {', '.join(parts)}"
