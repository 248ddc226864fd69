"""How one tensor of a Hugging Face checkpoint holds one or several of ours. Every layout but a sum can be undone bit
for bit."""

from __future__ import annotations

import re
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


@dataclass(frozen=True)
class Beside:
    """Ours side by side in the second dimension: the gate and up projections of stacked experts."""

    def join(self, ours: Sequence[Tensor]) -> Tensor:
        return torch.cat(list(ours), dim=1)

    def split(self, theirs: Tensor, shapes: Sequence[torch.Size]) -> list[Tensor]:
        return list(theirs.split([shape[1] for shape in shapes], dim=1))


@dataclass(frozen=True)
class ByExpert:
    """A tensor of all experts whose parts are tensors of their own in published files.

    whole: the end of its name; parts: the ends of theirs, {} for an expert's number. The parts of one expert lie below
    each other in the whole, whose first dimension is the expert. A single part without {} is another name for it.
    """

    whole: str
    parts: tuple[str, ...]

    @property
    def several(self) -> bool:
        return "{}" in self.parts[0]

    def matches(self, name: str) -> tuple[str, int, int] | None:
        """(beginning, which part, number of the expert) of the name of a part; null for other names."""
        for kind, part in enumerate(self.parts):
            found = re.fullmatch("(.*)" + re.escape(part).replace(r"\{\}", r"(0|[1-9]\d{0,5})"), name)
            if found:
                return found[1], kind, int(found[2]) if self.several else 0
        return None

    def join(self, parts: Sequence[Tensor]) -> Tensor:
        """The whole of parts in the order of `names`."""
        if not self.several:
            return parts[0]
        each = len(self.parts)
        return torch.stack([torch.cat(list(parts[at : at + each])) for at in range(0, len(parts), each)])

    def names(self, begin: str, experts: int) -> list[str]:
        """The names of all parts, expert by expert."""
        return [begin + part.format(expert) for expert in range(experts if self.several else 1) for part in self.parts]

    def split(self, name: str, whole: Tensor) -> dict[str, Tensor]:
        """The parts by name; empty where the tensor of this name is none that this is about."""
        if not name.endswith(self.whole):
            return {}
        begin = name.removesuffix(self.whole)
        if not self.several:
            return {begin + self.parts[0]: whole}
        parts = [part for expert in whole for part in expert.chunk(len(self.parts))]
        return dict(zip(self.names(begin, len(whole)), parts, strict=True))


SAME = Stacked()
SUMMED = Summed()
BESIDE = Beside()
TRANSPOSED = Stacked(transposed=True)
