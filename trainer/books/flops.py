"""Floating-point operations of a run, to the operation.

Convention: a matrix product of [m, k] with [k, n] is 2mnk operations; additions of biases, norms, activations, softmax
and the rotation of positions are not counted (as in `torch.utils.flop_counter`). Attention counts the full square of
the sequence, without halving for causality and without subtracting what a document mask hides. The backward pass of a
matrix product is two products of the same size. Model FLOPs leave out everything that is computed twice; that is
`recomputed`: a block's forward pass under activation checkpointing, and the scores that a fused attention kernel
computes again in its backward pass (one of five products, Dao et al. 2022, section 3.1).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from trainer.books.parameters import parameters
from trainer.config import Config

AttentionBackward = Literal["composed", "fused"]


@dataclass(frozen=True)
class FlopAccount:
    """Operations of one token's forward pass by part; everything else follows from them."""

    attention_projections: int
    attention_scores: int
    feed_forward: int
    head: int
    recomputed: int  # per token, beyond the model FLOPs
    tokens_per_step: int
    steps: int
    six_n: int  # 6 N per token, N = weights that multiply every token
    six_n_attention: int  # 6 N + 12 L H Q T per token (Chowdhery et al. 2022, appendix B)

    @property
    def forward(self) -> int:
        """Per token."""
        return self.attention_projections + self.attention_scores + self.feed_forward + self.head

    @property
    def backward(self) -> int:
        """Per token."""
        return 2 * self.forward

    @property
    def per_token(self) -> int:
        """Model FLOPs of training on one token: forward and backward, no recomputation."""
        return self.forward + self.backward

    @property
    def per_step(self) -> int:
        return self.per_token * self.tokens_per_step

    @property
    def total(self) -> int:
        """Model FLOPs of the whole run."""
        return self.per_step * self.steps

    @property
    def hardware_per_token(self) -> int:
        """With recomputation: the numerator of HFU."""
        return self.per_token + self.recomputed

    @property
    def six_nd(self) -> int:
        """The usual estimate 6 N D of the whole run, beside the exact count."""
        return self.six_n * self.tokens_per_step * self.steps


def flops(config: Config, attention_backward: AttentionBackward = "composed") -> FlopAccount:
    """Count the operations of training `config`.

    `attention_backward="fused"` books the scores that a fused kernel recomputes; it does not change the model FLOPs.
    """
    model, length = config.model, config.data.sequence_length
    query, key = (
        model.heads * model.head_channels,
        model.key_heads * model.head_channels,
    )
    projections = model.depth * 2 * model.width * (2 * query + 2 * key)
    scores = model.depth * 2 * 2 * query * length  # queries times keys, then probabilities times values
    feed_forward = model.depth * (3 if model.gated else 2) * 2 * model.width * model.ffn_channels
    head = 2 * model.width * config.vocabulary

    recomputed = 0
    if attention_backward == "fused":
        recomputed += scores // 2
    if config.engine.activation_checkpointing:
        # A block's forward pass but its last product: recomputation stops when everything that was saved is back.
        recomputed += projections + scores + feed_forward - model.depth * 2 * model.width * model.ffn_channels

    weights = parameters(config).matrices
    return FlopAccount(
        attention_projections=projections,
        attention_scores=scores,
        feed_forward=feed_forward,
        head=head,
        recomputed=recomputed,
        tokens_per_step=config.tokens_per_step,
        steps=config.steps,
        six_n=6 * weights,
        six_n_attention=6 * weights + 12 * model.depth * query * length,
    )
