"""One forward pass of one stack over a micro-batch: what the accounts of its memory read of the configuration."""

from __future__ import annotations

import math
from dataclasses import dataclass

from trainer.books import kernels
from trainer.config import Config
from trainer.config.host import fp8, precision
from trainer.config.linear import takes_fp8
from trainer.config.model import ModelConfig

FP32 = 4


@dataclass(frozen=True)
class Pass:
    """One forward pass of one stack."""

    config: Config
    model: ModelConfig
    rows: int  # sequences
    tokens: int  # per sequence, of a sequence that several ranks share those of one
    source: int = 0  # tokens of the encoder, likewise, for cross-attention

    @property
    def sharing(self) -> int:
        """Ranks that share each sequence."""
        return self.config.engine.sequence_parallel

    @property
    def by_heads(self) -> bool:
        """Whether attention is over whole sequences, of a part of the heads."""
        return self.sharing > 1 and self.config.engine.sequence_kind == "ulysses"

    @property
    def in_parts(self) -> bool:
        """Whether keys and values come part by part, so that scores are computed again whatever computes them."""
        return self.sharing > 1 and not self.by_heads

    @property
    def key_channels(self) -> int:
        """Of keys as attention is given them: of fewer heads than ranks, each is repeated."""
        heads = self.model.key_heads
        return (math.lcm(heads, self.sharing) if self.by_heads else heads) * self.model.head_channels

    @property
    def cast(self) -> bool:
        return precision(self.config) == "bf16"

    @property
    def low(self) -> int:
        return 2 if self.cast else FP32

    def in_fp8(self, inputs: int, outputs: int) -> bool:
        """Whether a linear layer of a block keeps its own copy of its input in 8 bits."""
        return fp8(self.config) and takes_fp8(inputs, outputs)

    def kept(self, inputs: int, outputs: int) -> int:
        """Bytes of its input that such a layer keeps per token."""
        return inputs * (1 if self.in_fp8(inputs, outputs) else self.low)

    @property
    def low_residual(self) -> bool:
        """A projected embedding comes out of autocast in low precision, and so does all that is added to it."""
        projected = self.model.embedding_channels != self.model.width and self.model.embedding_projection == "sum"
        return self.cast and projected

    def use(self, *, local: bool = False, across: bool = False) -> kernels.Use:
        return kernels.Use(self.model, self.source > 0 or self.model.family == "decoder", local, across)

    def composed(self, use: kernels.Use) -> bool:
        """Whether this attention keeps its probabilities: the reference, and SDPA's own operations."""
        return kernels.attention(self.config, use) == "reference" or self.of_operations(use)

    def of_operations(self, use: kernels.Use) -> bool:
        """Whether SDPA composes this attention: on a CPU under a bias that learns."""
        learns = not use.across and self.model.position in ("buckets", "relative", "disentangled")
        on_cpu = kernels.device(self.config) == "cpu"
        return learns and on_cpu and kernels.attention(self.config, use) == "sdpa"
