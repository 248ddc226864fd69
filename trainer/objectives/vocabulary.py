"""Tables over token ids: which are special, which begin a word and which end a sentence."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from trainer.utils.errors import UserError

SPACE, LETTER, OTHER = 0, 1, 2  # classes of characters
SENTENCE_ENDS = (".", "!", "?", "。", "！", "？", "\n")


@dataclass(frozen=True)
class Vocabulary:
    """Tables over the ids of a tokenizer, made when they are asked for: many objectives need none.

    text(id): what the id stands for, None where that is a part of a character (a byte). decoder_start: what a decoder
    beside an encoder reads first; None: <s>. second_type: the token type of a pair's second text.
    sentinel_ids: of the sentinels of spans, where they are not those of <extra_id_0>, <extra_id_1> ...
    """

    size: int
    specials: dict[str, int]
    text: Callable[[int], str | None]
    decoder_start: int | None = None
    second_type: int = 1
    sentinel_ids: tuple[int, ...] = ()

    @cached_property
    def texts(self) -> list[str]:
        """What every id stands for within a text; nothing for special tokens and for parts of a character."""
        special = set(self.specials.values())
        return ["" if token in special else self.text(token) or "" for token in range(self.size)]

    @cached_property
    def spaced(self) -> np.ndarray:
        """bool [V]: begins with white space."""
        return np.array([bool(text) and text[:1].isspace() for text in self.texts])

    @cached_property
    def first(self) -> np.ndarray:
        """int8 [V]: class of the first character, white space aside."""
        return np.array([_class((text.lstrip() or text)[:1]) if text else LETTER for text in self.texts], np.int8)

    @cached_property
    def last(self) -> np.ndarray:
        """int8 [V]: class of the last character."""
        return np.array([_class(text[-1:]) if text else LETTER for text in self.texts], np.int8)

    @cached_property
    def ends_sentence(self) -> np.ndarray:
        """bool [V]."""
        return np.array([bool(text) and text.endswith(SENTENCE_ENDS) for text in self.texts])

    @cached_property
    def ordinary(self) -> np.ndarray:
        """Ids that are no special tokens, int64."""
        return np.setdiff1d(np.arange(self.size), list(self.specials.values()))

    def id(self, piece: str, wanted_by: str) -> int:
        """The id of a special token; UserError when the tokenizer has none."""
        if piece not in self.specials:
            raise UserError(
                f"objective={wanted_by}: the tokenizer has no {piece}; train one here, or add it to its control symbols"
            )
        return self.specials[piece]

    def start(self, wanted_by: str) -> int:
        """What a decoder beside an encoder reads first; UserError when the tokenizer has no such token."""
        return self.id("<s>", wanted_by) if self.decoder_start is None else self.decoder_start

    def sentinels(self, count: int, wanted_by: str) -> np.ndarray:
        """Ids of the first `count` sentinels of spans; UserError when there are fewer."""
        named = (self.specials.get(f"<extra_id_{number}>") for number in range(count))
        found = list(self.sentinel_ids[:count]) or [token for token in named if token is not None]
        if len(found) < count:
            raise UserError(
                f"objective={wanted_by}: a sample of this length needs {count} sentinels, the tokenizer has "
                f"{len(found)}; train one with tokenizer.sentinels={count} or lower data.sequence_length"
            )
        return np.array(found, np.int64)

    def word_starts(self, tokens: np.ndarray) -> np.ndarray:
        """bool [..., S]: tokens that begin a word: a run of letters and digits or of others, its space with it."""
        starts = np.ones(tokens.shape, bool)
        before, here = self.last[tokens[..., :-1]], self.first[tokens[..., 1:]]
        starts[..., 1:] = self.spaced[tokens[..., 1:]] | (before != here)
        return starts


def _class(character: str) -> int:
    return SPACE if character.isspace() else LETTER if character.isalnum() or character == "_" else OTHER
