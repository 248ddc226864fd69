"""Experts that several ranks share: each holds some of every layer's, and tokens travel to them and back (GShard,
Lepikhin et al. 2021, section 3.2).

What else a model has lies on every rank. A router counts and chooses among all experts as it does on one rank.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

BITS = 8  # of a byte


@dataclass(frozen=True)
class ExpertRanks:
    """The ranks that share experts, this one among them: rank i of n holds experts [i E / n, (i + 1) E / n)."""

    name: str  # of all such groups, as the engine's library has it
    rank: int
    size: int
    group: dist.ProcessGroup
    across: dist.ProcessGroup  # the ranks of all such groups that hold the same experts
    mark: Callable[[nn.Parameter], None]  # called with each parameter of which this rank holds a part

    def share(self, parameter: nn.Parameter) -> None:
        """This parameter, [E / n, ...], is this rank's part of one [E, ...]."""
        parameter.expert_ranks = self  # type: ignore[attr-defined]
        self.mark(parameter)


_building: ContextVar[ExpertRanks | None] = ContextVar("expert_ranks", default=None)


@contextmanager
def experts_shared(ranks: ExpertRanks | None) -> Iterator[None]:
    """Models that are built inside of this hold their rank's experts alone; None: all of them."""
    token = _building.set(ranks)
    try:
        yield
    finally:
        _building.reset(token)


def building() -> ExpertRanks | None:
    """Who shares the experts of a model that is being built."""
    return _building.get()


# --- parameters of which each rank holds a part ---


def ranks_of(parameter: Tensor) -> ExpertRanks | None:
    """Who shares a parameter; None: every rank has its whole."""
    found: ExpertRanks | None = getattr(parameter, "expert_ranks", None)
    return found


def whole_shape(parameter: Tensor) -> tuple[int, ...]:
    """The shape of the whole, also of a parameter that ZeRO divides."""
    shape, ranks = tuple(getattr(parameter, "ds_shape", parameter.shape)), ranks_of(parameter)
    return shape if ranks is None else (shape[0] * ranks.size, *shape[1:])


def first_element(parameter: Any) -> int:
    """Elements of the flattened whole that lie before this rank's part."""
    ranks = ranks_of(parameter)
    return 0 if ranks is None else ranks.rank * int(getattr(parameter, "ds_numel", parameter.numel()))


def own_part(parameter: Tensor, whole: Tensor) -> Tensor:
    """Of values of the whole those that this rank holds."""
    ranks = ranks_of(parameter)
    return whole if ranks is None else whole.chunk(ranks.size)[ranks.rank]


def of_all_ranks(parameter: Tensor) -> Tensor:
    """The whole of a parameter that ZeRO does not divide, or has gathered. Collective."""
    ranks, values = ranks_of(parameter), parameter.detach()
    if ranks is None:
        return values
    whole = values.new_empty(whole_shape(parameter))
    dist.all_gather(list(whole.chunk(ranks.size)), values.contiguous(), group=ranks.group)
    return whole


# --- tokens on their way ---


class Trip(ABC):
    """Rows, sorted by their expert, on the way to who computes them."""

    ends: Tensor  # int32, where each expert's end among the rows that are computed here

    @abstractmethod
    def there(self, rows: Tensor) -> Tensor:
        """The rows [R, ...] of all ranks that are computed here, by expert; differentiable."""

    @abstractmethod
    def back(self, rows: Tensor) -> Tensor:
        """What was made of this rank's own rows, [R, ...] in the order in which they left; differentiable."""


class AtHome(Trip):
    """Every expert is here."""

    def __init__(self, ends: Tensor) -> None:
        self.ends = ends

    def there(self, rows: Tensor) -> Tensor:
        return rows

    def back(self, rows: Tensor) -> Tensor:
        return rows


class Abroad(Trip):
    """Rows go to the ranks that hold their experts. Making it is collective, and so is every trip."""

    def __init__(self, ends: Tensor, ranks: ExpertRanks) -> None:
        """ends: int32 [E], where each expert's end among this rank's own rows."""
        self.group = ranks.group
        mine = ends.long().diff(prepend=ends.new_zeros(1).long()).view(ranks.size, -1)  # [rank, expert of it]
        theirs = torch.empty_like(mine)  # [rank, expert of this one]
        dist.all_to_all_single(theirs, mine, group=self.group)
        self.sent, self.received = mine.sum(1).tolist(), theirs.sum(1).tolist()
        experts = torch.arange(theirs.shape[1], device=theirs.device).repeat(ranks.size)
        # Rows come by rank, and of each rank by expert; they are computed by expert.
        self.line = experts.repeat_interleave(theirs.flatten(), output_size=sum(self.received)).argsort(stable=True)
        self.ends = theirs.sum(0).cumsum(0).int()

    def there(self, rows: Tensor) -> Tensor:
        return _swapped(rows, self.sent, self.received, self.group).index_select(0, self.line)

    def back(self, rows: Tensor) -> Tensor:
        by_rank = torch.zeros_like(rows).index_copy(0, self.line, rows)
        return _swapped(by_rank, self.received, self.sent, self.group)


def trip(ends: Tensor, ranks: ExpertRanks | None) -> Trip:
    """Of rows whose experts end there; int32 [E]."""
    return AtHome(ends) if ranks is None else Abroad(ends, ranks)


class _Swap(torch.autograd.Function):
    """Rows for other ranks against rows of theirs; their gradients go the same way back."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, sent: list[int], received: list[int], group: dist.ProcessGroup) -> Tensor:
        ctx.sent, ctx.received, ctx.group = sent, received, group
        return _exchanged(rows, sent, received, group)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:  # type: ignore[override]
        return _exchanged(gradient, ctx.received, ctx.sent, ctx.group), None, None, None


def _swapped(rows: Tensor, sent: list[int], received: list[int], group: dist.ProcessGroup) -> Tensor:
    swapped: Tensor = _Swap.apply(rows, sent, received, group)  # type: ignore[no-untyped-call]
    return swapped


def _exchanged(rows: Tensor, sent: list[int], received: list[int], group: dist.ProcessGroup) -> Tensor:
    """The first `sent[0]` rows for rank 0, and so on; of rank r come `received[r]`, one rank's after the other's."""
    found = rows.new_empty(sum(received), *rows.shape[1:])
    dist.all_to_all_single(found, rows.contiguous(), received, sent, group=group)
    return found


def packed(kept: Tensor) -> Tensor:
    """bool [R, n] as bytes [R, n / 8], rounded up."""
    rows, bytes_of_row = len(kept), -(-kept.shape[1] // BITS)
    padded = nn.functional.pad(kept, (0, bytes_of_row * BITS - kept.shape[1])).view(rows, bytes_of_row, BITS)
    powers = 2 ** torch.arange(BITS, dtype=torch.uint8, device=kept.device)
    return (padded * powers).sum(-1, dtype=torch.uint8)


def unpacked(bits: Tensor, numbers: int) -> Tensor:
    """bool [R, numbers] of `packed`."""
    places = torch.arange(BITS, dtype=torch.uint8, device=bits.device)
    return ((bits[..., None] >> places) & 1).bool().flatten(1)[:, :numbers]
