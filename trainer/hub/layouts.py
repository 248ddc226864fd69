"""How one tensor of a Hugging Face checkpoint holds one or several of ours. Every layout but a sum can be undone bit
for bit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor


class Layout(Protocol):
    def join(self, ours: Sequence[Tensor]) -> Tensor:
        """Their tensor."""
        ...

    def split(self, theirs: Tensor, shapes: Sequence[torch.Size]) -> list[Tensor]:
        """Ours, of these shapes."""
        ...


@dataclass(frozen=True)
class Stacked:
    """Ours one below the other (a single one is simply theirs); `transposed` where they store [inputs, outputs]."""

    transposed: bool = False

    def join(self, ours: Sequence[Tensor]) -> Tensor:
        whole = torch.cat(list(ours)) if len(ours) > 1 else ours[0]
        return whole.T if self.transposed else whole

    def split(self, theirs: Tensor, shapes: Sequence[torch.Size]) -> list[Tensor]:
        whole = theirs.T if self.transposed else theirs
        return list(whole.split([shape[0] for shape in shapes]))


@dataclass(frozen=True)
class ByHead:
    """Queries, keys and values of one head together, then those of the next head (GPT-NeoX, BLOOM)."""

    heads: int

    def join(self, ours: Sequence[Tensor]) -> Tensor:
        parts = [part.reshape(self.heads, -1, *part.shape[1:]) for part in ours]
        return torch.stack(parts, dim=1).flatten(0, 2)

    def split(self, theirs: Tensor, shapes: Sequence[torch.Size]) -> list[Tensor]:
        parts = theirs.reshape(self.heads, len(shapes), -1, *theirs.shape[1:])
        return [part.reshape(shape) for part, shape in zip(parts.unbind(1), shapes, strict=True)]


@dataclass(frozen=True)
class Shaped:
    """The same numbers in another shape; `transposed` where theirs begins with the inputs (XLNet)."""

    shape: tuple[int, ...]
    transposed: bool = False

    def join(self, ours: Sequence[Tensor]) -> Tensor:
        return (ours[0].T if self.transposed else ours[0]).reshape(self.shape)

    def split(self, theirs: Tensor, shapes: Sequence[torch.Size]) -> list[Tensor]:
        if self.transposed:
            return [theirs.reshape(shapes[0][::-1]).T]
        return [theirs.reshape(shapes[0])]


@dataclass(frozen=True)
class Summed:
    """The sum of ours; of theirs the first of ours is all, and the others are zero."""

    def join(self, ours: Sequence[Tensor]) -> Tensor:
        return torch.stack(list(ours)).sum(dim=0)

    def split(self, theirs: Tensor, shapes: Sequence[torch.Size]) -> list[Tensor]:
        return [theirs, *(theirs.new_zeros(shape) for shape in shapes[1:])]


SAME = Stacked()
SUMMED = Summed()
TRANSPOSED = Stacked(transposed=True)
