"""How well held-out text is predicted by models that have no likelihood of a text.

Encoders have the pseudo-log-likelihood of short passages, encoder-decoders the span score of a passage's last quarter
behind the rest of it (see `scoring`). Neither is a likelihood, so there are no bits per byte.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from trainer.data import Prepared
from trainer.data.shards import TokenStream
from trainer.evaluate.scoring import MEASURES, Encoded, has_measure, score_encoded
from trainer.generation.loaded_model import Trained
from trainer.training.validation import group_by_source

PASSAGES, TOKENS = 32, 64  # of each source at most; tokens of a passage, of which an encoder is asked for one at a time
SHARE = 4  # a span is a passage's last fourth
OVERHEAD = 4  # special tokens beside a passage at most
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class PassageScore:
    """Of so many passages; tokens and bytes (UTF-8): of what was scored in them; nats: their log-probability, natural
    logarithm, so that 0 is perfect."""

    passages: int
    tokens: int
    bytes: int
    nats: float

    @classmethod
    def of(cls, parts: Sequence[PassageScore]) -> PassageScore:
        """Of several parts together."""
        columns = zip(*((one.passages, one.tokens, one.bytes, one.nats) for one in parts), strict=True)
        return cls(*map(sum, columns))

    def to_json(self) -> dict[str, Any]:
        """With means: nats per token and per byte."""
        means = {"nats_per_token": self.nats / max(1, self.tokens), "nats_per_byte": self.nats / max(1, self.bytes)}
        return {"passages": self.passages, "tokens": self.tokens, "bytes": self.bytes, **means}


@dataclass(frozen=True)
class PassageScores:
    """Of all held-out passages, and of those of each source and language of a mixture. measure: what the nats are."""

    measure: str
    whole: PassageScore
    sources: dict[str, PassageScore]
    languages: dict[str, PassageScore]

    def to_json(self) -> dict[str, Any]:
        """The numbers of the whole, and of the parts under `sources` and `languages`."""
        parts = {"sources": self.sources, "languages": self.languages}
        told = {part: {name: one.to_json() for name, one in scores.items()} for part, scores in parts.items()}
        return {"measure": self.measure, **self.whole.to_json(), **told}


def score_passages(
    trained: Trained, prepared: Prepared, progress: Progress = lambda what, done, total: None
) -> PassageScores | None:
    """None for decoders, for encoder-decoders that fill no gap, and where no document is long enough."""
    if trained.family == "decoder" or not has_measure(trained):
        return None
    measure, passages = MEASURES[trained.family], held_out_passages(trained, prepared)
    if not passages:
        return None
    total, done, scores = sum(map(len, passages.values())), 0, {}
    progress(measure, 0, total)
    for source, some in passages.items():
        before = done

        def tell(now: int, before: int = before) -> None:
            progress(measure, before + now, total)

        scores[source] = _score(_in_language(trained, source), some, tell)
        done += len(some)
    parts = {
        part: {name: PassageScore.of([scores[source] for source in of]) for name, of in groups.items()}
        for part, groups in group_by_source(trained.config, scores).items()
    }
    return PassageScores(measure, PassageScore.of(list(scores.values())), **parts)


def held_out_passages(trained: Trained, prepared: Prepared) -> dict[str, list[list[int]]]:
    """By source, the beginnings of its held-out documents, evenly spaced: ids without special tokens."""
    longest, special = min(TOKENS, trained.config.max_length - OVERHEAD), set(prepared.specials.values())
    found: dict[str, list[list[int]]] = {}
    for source in prepared.manifest["splits"]["held_out"]["origins"]:
        stream = TokenStream(prepared, "held_out", source)
        ends = np.append(stream.starts[1:], len(stream))
        chosen = np.unique(np.linspace(0, len(stream.starts) - 1, min(PASSAGES, len(stream.starts))).astype(int))
        for begin, end in zip(stream.starts[chosen], ends[chosen], strict=True):
            row = np.zeros((1, min(int(end - begin), longest + 1)), np.int64)
            stream.read(np.array([begin]), row)
            passage = [token for token in row[0].tolist() if token not in special][:longest]
            if len(passage) >= SHARE:
                found.setdefault(source, []).append(passage)
    return found


def _in_language(trained: Trained, source: str) -> Trained:
    """For the texts of this source."""
    stated, told = trained.config.data.sources.get(source), trained.reads_language or trained.config.model.languages
    return trained.for_language(stated.language if stated and told else None)


def _score(trained: Trained, passages: list[list[int]], tell: Callable[[int], None]) -> PassageScore:
    pairs = [_divided(trained, passage) for passage in passages]
    scores = score_encoded(trained, pairs, tell)
    size = sum(_bytes(trained, [*head, *tail]) - _bytes(trained, head) for head, tail in pairs)
    return PassageScore(len(pairs), sum(one.tokens for one in scores), size, sum(one.nats for one in scores))


def _divided(trained: Trained, passage: list[int]) -> Encoded:
    """What is given of a passage, and what is scored."""
    given = 0 if trained.family == "encoder" else len(passage) - len(passage) // SHARE
    return passage[:given], passage[given:]


def _bytes(trained: Trained, ids: list[int]) -> int:
    return len(trained.tokenizer.decode(ids).encode())
