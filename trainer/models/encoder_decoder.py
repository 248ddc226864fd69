"""The encoder-decoder: the transformer as it was first published, and T5, BART and mBART after it."""

from __future__ import annotations

from torch import Tensor

from trainer.config.model import ModelConfig
from trainer.config.recomputation import Recomputation
from trainer.models.cache import Cache
from trainer.models.dropout import attention_fields
from trainer.models.model import Backbone
from trainer.models.parts import Embedding
from trainer.models.products import computing_dtype
from trainer.models.stack import Stack


class EncoderDecoder(Backbone):
    """Reads the source in both directions and the target from left to right (Vaswani et al. 2017)."""

    inputs = ("source_tokens", "source_positions", "source_segments", "tokens", "positions", "segments", "samples")

    def __init__(self, config: ModelConfig, vocabulary: int, max_length: int, *, backend: str = "auto") -> None:
        super().__init__()
        self.config, self.backend = config, backend
        self.encoder = Stack(config, vocabulary, max_length, causal=False, backend=backend)
        tokens = self.encoder.tokens
        self.decoder = Stack(
            config.decoder_side, vocabulary, max_length, causal=True, cross=True, tokens=tokens, backend=backend
        )
        self.decoder.tower = "decoder"

    @property
    def tokens(self) -> Embedding:  # type: ignore[override]
        """The embedding that both sides use."""
        return self.encoder.tokens

    @property
    def depth(self) -> int:  # type: ignore[override]
        """Layers of the decoder."""
        return self.decoder.depth

    @property
    def recompute(self) -> Recomputation:
        """Activation checkpointing; the engine sets it."""
        return self.encoder.recompute

    @recompute.setter
    def recompute(self, value: Recomputation) -> None:
        self.encoder.recompute = self.decoder.recompute = value

    def encode(
        self,
        tokens: Tensor,
        positions: Tensor | None = None,
        segments: Tensor | None = None,
        samples: Tensor | None = None,
    ) -> Tensor:
        """The encoder's output, [B, source length, width]."""
        positions = self.encoder.sequences.places(tokens) if positions is None else positions
        drop = self.encoder.dropping(samples)
        x = self.encoder.embed(tokens, positions, drop=drop)
        return self.encoder.run(x, self.encoder.context(x, positions, segments, drop=drop))

    def decode(
        self,
        source: Tensor,
        tokens: Tensor,
        positions: Tensor | None = None,
        segments: Tensor | None = None,
        source_segments: Tensor | None = None,
        cache: Cache | None = None,
        samples: Tensor | None = None,
    ) -> Tensor:
        """The decoder's hidden states [B, S, width] over an encoded source [B, source length, width].

        A decoder token sees the source tokens of its own segment number; without `segments` all are of segment 0.
        cache: of the decoder tokens before these, which are added to it, and of the source.
        """
        positions = self.decoder.sequences.places(tokens) if positions is None else positions
        drop = self.decoder.dropping(samples)
        x = self.decoder.embed(tokens, positions, drop=drop)
        sequences, pair = self.decoder.sequences, None
        q_len, k_len = (sequences.whole_length(one.shape[1]) for one in (x, source))
        if source_segments is not None:
            own = source_segments.new_zeros((len(tokens), q_len)) if segments is None else segments
            pair = (own, source_segments)
        mask = sequences.mask(
            q_len,
            k_len,
            device=x.device,
            dtype=computing_dtype(x),
            segments=pair,
            backend=self.backend,
            head_dim=self.config.head_channels,
            fields=attention_fields(self.config, drop),
        )
        context = self.decoder.context(x, positions, segments, cache=cache, drop=drop)
        return self.decoder.run(x, context._replace(source=source, source_mask=mask), cache)

    def forward(
        self,
        tokens: Tensor,
        source_tokens: Tensor,
        source_positions: Tensor | None = None,
        source_segments: Tensor | None = None,
        positions: Tensor | None = None,
        segments: Tensor | None = None,
        samples: Tensor | None = None,
    ) -> Tensor:
        """The decoder's hidden states [B, S, width] over the source, which is read first.

        samples: [B], the numbers of the rows, by which dropout goes in training.
        """
        source = self.encode(source_tokens, source_positions, source_segments, samples)
        return self.decode(source, tokens, positions, segments, source_segments, samples=samples)
