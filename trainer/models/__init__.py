"""The zoo: models are assembled here from typed configuration; they know nothing of ranks or engines."""

from __future__ import annotations

from trainer.config import Config
from trainer.models.decoder import NOT_A_TARGET, Decoder
from trainer.models.parts import initialize

__all__ = ["NOT_A_TARGET", "Decoder", "build", "initialize"]


def build(config: Config) -> Decoder:
    """The model of this configuration on the current default device, its parameters not yet initialised."""
    return Decoder(config.model, config.vocabulary, config.max_length, backend=config.kernels.attention)
