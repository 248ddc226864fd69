"""Optimizers that must know more than single numbers: the parameters, and the parts of them that are on this rank.

At ZeRO stages 1 to 3 DeepSpeed gives an optimizer flat tensors, in which slices of many parameters lie one behind the
other; other ranks have the rest of each. An optimizer that is derived from `PieceOptimizer` is told what lies where.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from trainer.config import OptimConfig
from trainer.descriptions.optimizers import OPTIMIZERS, Role, Shape
from trainer.models.expert_ranks import ranks_of


@dataclass(frozen=True)
class Place:
    """Elements [start, start + numel) of a flattened parameter, at `offset` of a tensor that the optimizer steps on."""

    name: str
    role: Role
    shape: Shape  # of the whole parameter
    offset: int
    start: int
    numel: int


@dataclass(frozen=True)
class Piece:
    """A part of a parameter in an update, as 1-D views of what the optimizer steps on."""

    place: Place
    weight: Tensor
    gradient: Tensor
    states: dict[
        str, Tensor
    ]  # those of the parameter's shape: the part's own elements; the others whole, in their shape


class Held(NamedTuple):
    """The part of a parameter that one rank holds."""

    rank: int
    start: int
    numel: int


class Ranks:
    """The ranks among which the parameters are divided. `alone`: every rank holds everything."""

    def __init__(self, rank: int, size: int, *, alone: bool, gather: Callable[[Any], list[Any]]) -> None:
        """gather: the value of every rank, plain data, on every rank."""
        self.rank, self.size, self.alone, self.gather = rank, size, alone, gather

    def sum(self, values: Tensor, stepped: Tensor) -> None:
        """Add up in place over the ranks that hold parts of what lies in a tensor that is stepped on."""
        if not self.alone:
            torch.distributed.all_reduce(values)
        elif (shared := ranks_of(stepped)) is not None:
            torch.distributed.all_reduce(values, group=shared.group)

    def swap(self, parts: Sequence[Tensor], numels: Sequence[int]) -> list[Tensor]:
        """Give rank r the 1-D tensor `parts[r]` and get `numels[r]` numbers of it. Collective."""
        sent = torch.cat(list(parts))
        received = sent.new_empty(sum(numels))
        torch.distributed.all_to_all_single(received, sent, list(numels), [one.numel() for one in parts])
        return list(received.split(list(numels)))


class PieceOptimizer(torch.optim.Optimizer, ABC):
    """An optimizer whose `update` gets the pieces of a group. `attach` says where they lie, before the first step."""

    def __init__(self, groups: list[dict[str, Any]], optim: OptimConfig, **defaults: Any) -> None:
        """defaults: what a group has beside `lr`, for a schedule to change."""
        super().__init__(groups, {"lr": optim.lr, **defaults})
        self.optim, self.description = optim, OPTIMIZERS[optim.name]
        # By the id of a tensor that is stepped on: what lies in it here, and on all ranks.
        self.places: dict[int, list[Place]] = {}
        self.held: dict[int, dict[str, list[Held]]] = {}
        self.shapes: dict[str, Shape] = {}  # of every parameter, also of those that only others hold
        self.roles: dict[str, Role] = {}
        self.whole: dict[tuple[str, str], Tensor] = {}  # (parameter, state) -> a state that is not divided
        self.ranks = Ranks(0, 1, alone=True, gather=lambda value: [value])
        self.products = torch.float32  # dtype of matrix products

    def attach(self, stepped: Iterable[tuple[Tensor, list[Place]]], ranks: Ranks, products: torch.dtype) -> None:
        """stepped: every tensor that is stepped on, in the order of the steps, with what lies in it."""
        self.ranks, self.products = ranks, products
        self.places = {id(tensor): [one for one in places if one.numel] for tensor, places in stepped}
        self.held = {key: {} for key in self.places}
        here = [
            [[one.name, one.start, one.numel, one.shape, one.role] for one in places] for places in self.places.values()
        ]
        for rank, theirs in enumerate(ranks.gather(here)):
            for held, places in zip(self.held.values(), theirs, strict=True):
                for name, start, numel, shape, role in places:
                    held.setdefault(name, []).append(Held(rank, start, numel))
                    self.shapes[name], self.roles[name] = tuple(shape), role

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for tensor in group["params"]:
                if tensor.grad is not None and id(tensor) in self.places:
                    state = self.states_of(tensor)
                    if self.description.counts_steps:
                        state["step"] += 1
                    self.update(group, tensor)

    @abstractmethod
    def update(self, group: dict[str, Any], tensor: Tensor) -> None:
        """Change a tensor that is stepped on, and its states, in place; its gradient may be changed too. Collective
        where parameters are divided: all ranks come with their tensors in the same order, some with no piece."""

    def states_of(self, tensor: Tensor) -> dict[str, Tensor]:
        """The states of the shape of what is stepped on, created where there are none yet."""
        state: dict[str, Tensor] = self.state[tensor]
        if not state:
            if self.description.counts_steps:
                state["step"] = torch.zeros((), dtype=torch.float32, device=tensor.device)
            for kind in self._divided(tensor):
                state[kind] = torch.zeros_like(tensor, memory_format=torch.preserve_format).detach()
        return state

    def whole_state(self, place: Place, kind: str, shape: Shape, device: torch.device) -> Tensor:
        """A state that is not divided, created where there is none yet."""
        key = place.name, kind
        if key not in self.whole:
            self.whole[key] = torch.zeros(shape, dtype=torch.float32, device=device)
        return self.whole[key]

    def _divided(self, tensor: Tensor) -> list[str]:
        """The states of the shape of a tensor, which holds parameters of one role, here or on other ranks."""
        kinds: list[str] = []
        for name in self.held[id(tensor)]:
            of_name = self.description.state_shapes(self.roles[name], self.shapes[name])
            kinds += [kind for kind, shape in of_name.items() if shape == self.shapes[name] and kind not in kinds]
        return kinds

    def pieces(self, tensor: Tensor) -> dict[str, Piece]:
        """The parts of parameters in a tensor that is stepped on, by name."""
        weight, gradient, state = tensor.view(-1), tensor.grad.reshape(-1), self.states_of(tensor)  # type: ignore[union-attr]
        pieces = {}
        for place in self.places[id(tensor)]:
            states = {}
            for kind, shape in self.description.state_shapes(place.role, place.shape).items():
                if shape == place.shape:
                    states[kind] = state[kind].view(-1).narrow(0, place.offset, place.numel)
                else:
                    states[kind] = self.whole_state(place, kind, shape, tensor.device)
            of_weight, of_gradient = (one.narrow(0, place.offset, place.numel) for one in (weight, gradient))
            pieces[place.name] = Piece(place, of_weight, of_gradient, states)
        return pieces
