"""How well held-out text is predicted by models that have no likelihood of a text.

Encoders have the pseudo-log-likelihood of short passages, encoder-decoders the span score of a passage's last quarter
behind the rest of it (see `scoring`). Neither is a likelihood, so there are no bits per byte.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from trainer.data import Prepared
from trainer.data.shards import TokenStream
from trainer.evaluate.scoring import MEASURES, Encoded, has_measure, score_encoded
from trainer.trained import Trained

PASSAGES, TOKENS = 32, 64  # at most; tokens of a passage, of which an encoder is asked for one at a time
SHARE = 4  # a span is a passage's last fourth
OVERHEAD = 4  # special tokens beside a passage at most


@dataclass(frozen=True)
class PassageScore:
    """Of so many passages; tokens and bytes (UTF-8): of what was scored in them; nats: mean log-probability, natural
    logarithm, so that 0 is perfect."""

    measure: str
    passages: int
    tokens: int
    bytes: int
    nats_per_token: float
    nats_per_byte: float


def score_passages(trained: Trained, prepared: Prepared) -> PassageScore | None:
    """None for decoders, for encoder-decoders that fill no gap, and where no document is long enough."""
    if trained.family == "decoder" or not has_measure(trained):
        return None
    pairs = [_divided(trained, passage) for passage in held_out_passages(trained, prepared)]
    if not pairs:
        return None
    scores = score_encoded(trained, pairs)
    nats, tokens = sum(one.nats for one in scores), sum(one.tokens for one in scores)
    size = sum(_bytes(trained, [*head, *tail]) - _bytes(trained, head) for head, tail in pairs)
    measure = MEASURES[trained.family]
    return PassageScore(measure, len(pairs), tokens, size, nats / tokens, nats / max(1, size))


def held_out_passages(trained: Trained, prepared: Prepared) -> list[list[int]]:
    """The beginnings of held-out documents, evenly spaced: ids without special tokens."""
    stream = TokenStream(prepared, "held_out")
    ends = np.append(stream.starts[1:], len(stream))
    chosen = np.unique(np.linspace(0, len(stream.starts) - 1, min(PASSAGES, len(stream.starts))).astype(int))
    room, special = min(TOKENS, trained.config.max_length - OVERHEAD), set(prepared.specials.values())
    found = []
    for begin, end in zip(stream.starts[chosen], ends[chosen], strict=True):
        row = np.zeros((1, min(int(end - begin), room + 1)), np.int64)
        stream.read(np.array([begin]), row)
        found.append([token for token in row[0].tolist() if token not in special][:room])
    return [passage for passage in found if len(passage) >= SHARE]


def _divided(trained: Trained, passage: list[int]) -> Encoded:
    """What is given of a passage, and what is scored."""
    given = 0 if trained.family == "encoder" else len(passage) - len(passage) // SHARE
    return passage[:given], passage[given:]


def _bytes(trained: Trained, ids: list[int]) -> int:
    return len(trained.tokenizer.decode(ids).encode())
