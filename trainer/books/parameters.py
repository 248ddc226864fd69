"""Parameters by part: the shapes of the model written once more, without torch."""

from __future__ import annotations

from dataclasses import dataclass

from trainer.config import Config


@dataclass(frozen=True)
class ParameterAccount:
    """Scalars in the model's weights, by part. A tied head is the embedding again and counts 0 in `head`."""

    embedding: int
    position: int
    attention: int
    feed_forward: int
    norm: int
    head: int
    shared: int  # scalars used a second time through a tied head; already counted in `embedding`
    block: int  # one block: attention, feed-forward and its norms
    depth: int

    @property
    def total(self) -> int:
        return self.embedding + self.position + self.attention + self.feed_forward + self.norm + self.head

    @property
    def non_embedding(self) -> int:
        """Without token and position tables and without an untied head (Kaplan et al. 2020, section 2.1)."""
        return self.attention + self.feed_forward + self.norm

    @property
    def matrices(self) -> int:
        """Weights that multiply every token: blocks and head, also a tied one. The N of 6ND."""
        return self.attention + self.feed_forward + self.norm + (self.head or self.shared)


def parameters(config: Config) -> ParameterAccount:
    """Count the parameters of `config.model` exactly."""
    model, vocabulary = config.model, config.vocabulary
    width, depth = model.width, model.depth
    query, key = (
        model.heads * model.head_channels,
        model.key_heads * model.head_channels,
    )
    hidden = model.ffn_channels
    bias = int(model.bias)

    projections = width * query + 2 * width * key + query * width
    attention = projections + bias * (query + 2 * key + width)
    feed_forward = (3 if model.gated else 2) * width * hidden
    feed_forward += bias * ((2 if model.gated else 1) * hidden + width)
    one_norm = width * (1 + (bias if model.norm == "layernorm" else 0))

    table = vocabulary * width
    return ParameterAccount(
        embedding=table,
        position=config.max_length * width if model.position == "learned" else 0,
        attention=depth * attention,
        feed_forward=depth * feed_forward,
        norm=(2 * depth + 1) * one_norm,
        head=0 if model.tied else table,
        shared=table if model.tied else 0,
        block=attention + feed_forward + 2 * one_norm,
        depth=depth,
    )
