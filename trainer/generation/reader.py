"""Logits of the next token, from tokens that are read a few at a time, with or without a cache."""

from __future__ import annotations

import torch
from torch import Tensor

from trainer.models import EncoderDecoder, Model
from trainer.models.cache import Cache
from trainer.models.sequence import WHOLE


class Reader:
    """Reads rows of tokens, a few at a time, and gives the logits of each row's next token.

    Rows of different lengths are padded on the left, their segments -1 there and 0 elsewhere. When more than
    `max_length` tokens have been read, the last half as many are read anew and the others forgotten.
    """

    def __init__(
        self,
        model: Model,
        vocabulary: int,
        max_length: int,
        *,
        source: Tensor | None = None,
        source_segments: Tensor | None = None,
        cached: bool = True,
        sees_prompt: bool = False,
    ) -> None:
        """vocabulary: tokens that may come; rows of the head behind them are never chosen.

        source [B, source length]: what the encoder of an encoder-decoder reads. sees_prompt: the tokens of the first
        reading see each other in both directions, as a prefix LM is trained.
        """
        self.model, self.vocabulary, self.max_length, self.cached = model, vocabulary, max_length, cached
        self.sees_prompt = sees_prompt
        self.source, self.source_segments = None, source_segments
        if isinstance(model.backbone, EncoderDecoder):
            assert source is not None
            positions = None if source_segments is None else _positions(source_segments)
            with torch.no_grad():
                self.source = model.backbone.encode(source, positions, source_segments)
        self.forced: dict[int, int] = {}  # the token that comes after so many others, whatever is predicted
        self.tokens: Tensor | None = None  # [B, n], all that was read
        self.segments: Tensor | None = None
        self.first = 0  # column of the first token that is attended to
        self.prompt = 0  # tokens of the first reading
        self.cache = self._new_cache()

    def _new_cache(self) -> Cache:
        return Cache(self.model.config, self.model.backbone.depth)

    @torch.no_grad()
    def read(self, tokens: Tensor, segments: Tensor | None = None) -> Tensor:
        """Logits [B, vocabulary] in fp32 of what follows these tokens [B, n]; segments: at the first reading, or never.

        Raises ValueError where the first reading is longer than `max_length`.
        """
        if self.tokens is None:
            if tokens.shape[1] > self.max_length:
                raise ValueError(f"{tokens.shape[1]} tokens to read at once, {self.max_length} possible")
            self.tokens, self.segments, self.prompt = tokens, segments, tokens.shape[1]
        else:
            self.tokens = torch.cat((self.tokens, tokens), dim=1)
            if self.segments is not None:
                self.segments = torch.cat((self.segments, torch.zeros_like(tokens)), dim=1)
        length = self.tokens.shape[1]
        if length - self.first > self.max_length:
            self.first, self.cache = length - max(1, self.max_length // 2), self._new_cache()
        if not self.cached:
            self.cache = self._new_cache()
        return self._logits(self.first + self.cache.length)

    def _logits(self, begin: int) -> Tensor:
        """Read everything from column `begin` on; what lies between `first` and there is in the cache."""
        assert self.tokens is not None
        kept = self.tokens[:, self.first :]
        segments = None if self.segments is None else self.segments[:, self.first :]
        positions = WHOLE.places(kept) if segments is None else _positions(segments)
        unread = slice(begin - self.first, None)
        order = None
        if self.sees_prompt and begin == self.first:
            column = torch.arange(self.first, self.tokens.shape[1], device=kept.device)
            order = (column - self.prompt + 1).clamp(min=0).expand(kept.shape)
        now = None if segments is None else segments[:, unread]
        tokens, positions, backbone = kept[:, unread], positions[:, unread], self.model.backbone
        if isinstance(backbone, EncoderDecoder):
            assert self.source is not None
            hidden = backbone.decode(self.source, tokens, positions, now, self.source_segments, self.cache)
        else:
            hidden = backbone(tokens, positions, now, order, cache=self.cache)
        logits = self.model.head.logits(hidden[:, -1:])[:, 0, : self.vocabulary].float()
        only = self.forced.get(self.tokens.shape[1] - self.prompt)
        if only is None:
            return logits
        forced = torch.full_like(logits, float("-inf"))
        forced[:, only] = 0.0
        return forced

    def select(self, rows: Tensor) -> None:
        """Go on with these rows of the batch, in this order; rows may repeat."""
        self.cache.select(rows)
        self.tokens, self.segments, self.source, self.source_segments = (
            None if part is None else part[rows]
            for part in (self.tokens, self.segments, self.source, self.source_segments)
        )


def _positions(segments: Tensor) -> Tensor:
    """0, 1, ... over the tokens of each row that are not padding."""
    return ((segments >= 0).cumsum(dim=1) - 1).clamp(min=0)
