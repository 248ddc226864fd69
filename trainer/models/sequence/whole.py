"""Sequences that a rank holds whole, and what every other way to hold them overrides."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from kernels import Dense, attention, prepare_mask
from trainer.models.sequence.slices import Slices, Stretch

# A bias that is made of queries and keys [B, whole length, heads, D] of these heads of all.
BiasOfHeads = Callable[[Tensor, Tensor, slice], Dense]


class Sequences:
    """What parts of a model ask of the sequences whose positions they are given."""

    slices = Slices()

    def whole_length(self, length: int) -> int:
        """Positions of a whole sequence of which this rank holds so many."""
        return length * self.slices.ranks

    def stretches(self, length: int) -> tuple[Stretch, ...]:
        """Which positions it holds, `length` in all."""
        return self.slices.stretches(length)

    def places(self, tokens: Tensor) -> Tensor:
        """Positions 0, 1, ... of every row, as far as this rank holds them, [B, S]."""
        held = self.stretches(tokens.shape[1])
        numbers = [torch.arange(first, first + length, device=tokens.device) for first, length in held]
        return torch.cat(numbers).expand(tokens.shape)

    def own(self, index: Tensor) -> Tensor:
        """[B, S] of this rank, of numbers of whole sequences [B, whole length]."""
        held = self.stretches(index.shape[1] // self.slices.ranks)
        return torch.cat([index[:, first : first + length] for first, length in held], dim=1)

    def total(self, counts: Tensor) -> Tensor:
        """Of counts of this rank's positions, those of the whole sequences; no gradient. Collective where they are
        shared."""
        return counts

    def mask(self, q_len: int, k_len: int, **asked: Any) -> Any:
        """Who sees whom, for `attend`; arguments as those of `kernels.prepare_mask`, of whole sequences."""
        return prepare_mask(q_len, k_len, **asked)

    def attend(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        mask: Any,
        *,
        bias: BiasOfHeads | None = None,
        again: bool = False,
        **options: Any,
    ) -> Tensor:
        """Attention of query [B, Sq, H, D] over key and value [B, Sk, Hkv, D] of this rank and, where sequences are
        shared, of the others; options as those of `kernels.attention`.

        again: what the backend keeps of the scores, and what `bias` computes, is computed again in the backward pass.
        """

        def scored() -> Tensor:
            own = None if bias is None else bias(query, key, slice(None))
            mixed = attention(query, key, value, mask=mask, bias=own, **options)
            assert isinstance(mixed, Tensor)
            return mixed

        return checkpoint(scored, use_reentrant=False, preserve_rng_state=False) if again else scored()


WHOLE = Sequences()
