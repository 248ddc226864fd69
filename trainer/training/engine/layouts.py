"""Where a rank's share of weights, gradients and optimizer states lies, at each of DeepSpeed's ZeRO stages.

Whatever differs between stages is here, and so is most of what DeepSpeed has no public call for (`private.py`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from trainer.config import OptimConfig
from trainer.descriptions.optimizers import OPTIMIZERS, Role
from trainer.models.expert_ranks import first_element, whole_shape
from trainer.training.distributed import World
from trainer.training.engine.expert_groups import gradient_norm, holders
from trainer.training.engine.half_sender import HalfSender
from trainer.training.engine.partitions import hold_once, put_together
from trainer.training.optimizers.pieces import PieceOptimizer, Place, Ranks

Read = Callable[[str, str, int, int], Tensor]  # (name, kind, start, numel) -> fp32 slice of a flattened parameter


@dataclass(frozen=True)
class Fragment:
    """A slice of a parameter's optimizer state on this rank: elements [start, start + numel) of `name`."""

    name: str
    kind: str  # one of the optimizer's `states`
    start: int
    tensor: Tensor  # 1-D fp32 view; writing into it changes the state


class Layout(ABC):
    """What the stages have in common. `attach` is called once DeepSpeed has made its optimizer, before all but
    `building`, `whole` and the class attributes."""

    forward_waits = False  # whether a forward pass waits for other ranks
    alone = False  # whether every rank steps on everything by itself
    stay_half = False  # whether weights that travel in bf16 at stages 1 and 2 are kept so

    def __init__(self, deepspeed: Any, world: World, optim: OptimConfig) -> None:
        self.deepspeed, self.world, self.clip = deepspeed, world, optim.clip
        self.description = OPTIMIZERS[optim.name]

    def building(self, settings: dict[str, Any]) -> AbstractContextManager[Any]:
        """The context in which the model is built."""
        return torch.device("cpu")

    def whole(self, parameter: nn.Parameter, *, to_write: bool = False) -> AbstractContextManager[Any]:
        """The context in which a parameter is there as a whole. Collective; `to_write`: what rank 0 leaves in it goes
        to all ranks."""
        return nullcontext()

    def built(self, model: nn.Module, half: Set[str], whole: Sequence[nn.Module] = ()) -> None:  # noqa: B027
        """Called with the model before its first pass, for stages that have something to do then. half: names of
        parameters that travel in bf16. whole: modules that call the layers in them several times a pass."""

    def attach(
        self,
        optimizer: Any,
        parameters: Mapping[str, Any],
        roles: Mapping[str, Role],
        products: torch.dtype,
        half: Set[str] = frozenset(),
    ) -> None:
        """products: the dtype of matrix products in an update; half: as in `built`."""
        self.optimizer, self.parameters, self.roles = optimizer, parameters, roles
        if isinstance(self.inner, PieceOptimizer):
            places: dict[int, list[Place]] = {id(tensor): [] for tensor in self.stepped()}
            for tensor, place in self.places():
                places[id(tensor)].append(place)
            ranks = Ranks(self.world.rank, self.world.size, alone=self.alone, gather=self.world.gather)
            self.inner.attach([(tensor, places[id(tensor)]) for tensor in self.stepped()], ranks, products)
        self._attached(half)

    def _attached(self, half: Set[str]) -> None:  # noqa: B027 - not every stage has something to do here
        """Optimizer and parameters are known."""

    @abstractmethod
    def stepped(self) -> list[Tensor]:
        """What the inner optimizer steps on, in the order of its steps, as many on every rank."""

    @abstractmethod
    def places(self) -> Iterator[tuple[Tensor, Place]]:
        """This rank's part of every parameter, if it has one, and in what the optimizer steps on it lies."""

    def place(self, name: str, offset: int, start: int, numel: int) -> Place:
        """start: in what this rank's experts have of the parameter."""
        parameter = self.parameters[name]
        return Place(name, self.roles[name], whole_shape(parameter), offset, first_element(parameter) + start, numel)

    @abstractmethod
    def gradient_norm(self) -> Tensor:
        """Of the step's gradients over all ranks, before clipping: fp32, no dimension, on the device of the gradients;
        not finite where any of them is not. Nothing waits for it but where gradients are divided or offloaded."""

    def before_update(self) -> None:  # noqa: B027 - not every stage has something to do here
        """Called once the norm was measured and the update is decided."""

    def settle(self) -> None:  # noqa: B027 - not every stage has something to do here
        """Let `whole` show the trained weights in fp32 from here to the next pass, also those that came in bf16.
        Collective."""

    def fragments(self, *, to_save: bool = False) -> Iterator[Fragment]:
        """This rank's slices of the optimizer's states, created as zeros where no step was taken yet; `to_save`: every
        element on one rank only."""
        for tensor, place in self.shares() if to_save else self.places():
            if not place.numel:
                continue
            state = self.states_of(tensor)
            for kind, shape in self.description.state_shapes(place.role, place.shape).items():
                if shape == place.shape:
                    part = state[kind].view(-1).narrow(0, place.offset, place.numel)
                    yield Fragment(place.name, kind, place.start, part)
                elif place.start == 0 or not to_save:
                    assert isinstance(self.inner, PieceOptimizer)
                    whole = self.inner.whole_state(place, kind, shape, tensor.device)
                    yield Fragment(place.name, kind, 0, whole.view(-1))

    def _equal_share(self, tensor: Tensor, place: Place) -> Place:
        """This rank's share of what every rank holds, or every rank with the same experts."""
        ranks, mine, _ = holders(tensor, self.world)
        share = -(-place.numel // ranks)
        begin = min(share * mine, place.numel)
        return replace(place, offset=begin, start=place.start + begin, numel=min(share, place.numel - begin))

    def shares(self) -> Iterator[tuple[Tensor, Place]]:
        """This rank's share of every parameter, and in what the optimizer steps on it lies: every element is on one
        rank only."""
        for tensor, place in self.places():
            if self.alone:
                place = self._equal_share(tensor, place)
            if place.numel:
                yield tensor, place

    def share(self) -> Iterator[tuple[Place, Tensor]]:
        """The same with 1-D views of the fp32 weights."""
        for tensor, place in self.shares():
            yield place, tensor.detach().view(-1).narrow(0, place.offset, place.numel)

    @abstractmethod
    def spread(self) -> None:
        """Let all forward passes read what every rank wrote into its share of the weights. Collective."""

    @contextmanager
    def showing(self, values: Sequence[Tensor] | None) -> Iterator[None]:
        """Other weights in place of the trained ones, which are back to the bit afterwards. values: those of this
        rank's share; None: no others. Collective."""
        if values is None:
            yield
            return
        weights = [weight for _, weight in self.share()]
        kept = [weight.clone() for weight in weights]
        torch._foreach_copy_(weights, list(values))
        self.spread()
        try:
            yield
        finally:
            torch._foreach_copy_(weights, kept)
            self.spread()

    def used(self, optim: OptimConfig) -> list[Tensor] | None:
        """Of this rank's share, the weights that are used of a trained model where these are not the trained ones."""
        if (extrapolated := self.description.used(optim)) is None:
            return None
        kind, share = extrapolated
        values = []
        for tensor, place in self.shares():
            weight, states = tensor.detach().view(-1).narrow(0, place.offset, place.numel), self.states_of(tensor)
            state = states[kind].view(-1).narrow(0, place.offset, place.numel)
            values.append(weight.lerp(state, share if float(states["step"]) else 0.0))
        return values

    @abstractmethod
    def load_weight(self, name: str, parameter: Any, read: Read) -> None:
        """Take over a parameter, and the fp32 copy that the optimizer steps on."""

    def loaded(self) -> None:  # noqa: B027
        """All weights were loaded."""

    @property
    def inner(self) -> torch.optim.Optimizer:
        """torch's optimizer, which DeepSpeed wraps at stages 1 to 3."""
        found: torch.optim.Optimizer = getattr(self.optimizer, "optimizer", self.optimizer)
        return found

    def states_of(self, tensor: Tensor) -> dict[str, Tensor]:
        """The inner optimizer's state of what it steps on, created where there is none yet."""
        if isinstance(self.inner, PieceOptimizer):
            return self.inner.states_of(tensor)
        state: dict[str, Tensor] = self.inner.state[tensor]
        if not state:
            if self.description.counts_steps:
                state["step"] = torch.zeros((), dtype=torch.float32, device=tensor.device)
            for kind in self.description.states:
                state[kind] = torch.zeros_like(tensor, memory_format=torch.preserve_format).detach()
        return state


class Replicated(Layout):
    """Stage 0: every rank holds everything. DeepSpeed clips inside its step and does not tell the norm, so both are
    done here."""

    alone = True

    def gradient_norm(self) -> Tensor:
        self.norm = gradient_norm(self.parameters.values())
        return self.norm

    def before_update(self) -> None:
        if self.clip is not None:
            nn.utils.clip_grads_with_norm_(self.parameters.values(), self.clip, self.norm)

    def stepped(self) -> list[Tensor]:
        return list(self.parameters.values())

    def places(self) -> Iterator[tuple[Tensor, Place]]:
        for name, parameter in self.parameters.items():
            yield parameter, self.place(name, 0, 0, parameter.numel())

    def load_weight(self, name: str, parameter: Any, read: Read) -> None:
        parameter.view(-1).copy_(read(name, "weight", 0, parameter.numel()))

    def spread(self) -> None:
        for parameter in self.parameters.values():
            ranks, mine, group = holders(parameter, self.world)
            if ranks == 1:
                continue
            flat, share = parameter.detach().view(-1), -(-parameter.numel() // ranks)
            padded = flat.new_zeros(share * ranks)
            padded[: flat.numel()] = flat
            part = padded[share * mine :][:share].clone()
            torch.distributed.all_gather_into_tensor(padded, part, group=group)
            flat.copy_(padded[: flat.numel()])


class PartitionedStates(Layout):
    """Stages 1 and 2: weights on every rank, and an equal part of their fp32 copy and of the states."""

    sender: HalfSender | None = None  # until the optimizer is known

    def _attached(self, half: Set[str]) -> None:
        """The norm is wanted before the step. DeepSpeed, which measures it inside and reads it on the host, is told of
        one that is finite; gradients are clipped by the one that was measured, where they are."""
        optimizer = self.optimizer
        self.measure, self.offloads = optimizer.scaled_global_norm, bool(optimizer.cpu_offload)
        optimizer.scaled_global_norm = lambda *_: 0.0
        optimizer.unscale_and_clip_grads = self._clip
        halves = {id(self.parameters[name]) for name in half & self.parameters.keys()}
        outputs = {id(one) for name, one in self.parameters.items() if self.roles[name] == "head"}
        self.sender = HalfSender(optimizer, halves, outputs, stay=self.stay_half)

    def before_update(self) -> None:
        assert self.sender is not None
        self.sender.lend()

    def settle(self) -> None:
        assert self.sender is not None
        if self.sender.groups and not self.sender.kept:
            self.spread()

    @contextmanager
    def whole(self, parameter: nn.Parameter, *, to_write: bool = False) -> Iterator[None]:
        """One that is kept in bf16 is put together in fp32, of the parts that ranks hold."""
        if self.sender is None or id(parameter) not in self.sender.kept:
            yield
            return
        low, parameter.data = parameter.data, put_together(parameter, self.world)
        try:
            yield
        finally:
            parameter.data = low

    def gradient_norm(self) -> Tensor:
        self.optimizer._wait_for_offload_copies()
        self.norm = torch.as_tensor(self.measure()) if self.offloads else self._norm()
        return self.norm

    def _norm(self) -> Tensor:
        """As DeepSpeed measures it, by group of parameters, but for what it reads on the host."""
        of_groups = []
        for _, gradients in sorted(self.optimizer.averaged_gradients.items()):
            own = [one for one in gradients or () if not getattr(one, "_zero_padding", False)]
            norms = [torch.linalg.vector_norm(one.detach(), dtype=torch.float32) for one in own]
            zero = torch.zeros((), device=self.world.device)
            squares = torch.stack(norms).square().sum() if norms else zero
            torch.distributed.all_reduce(squares)
            of_groups.append(squares.sqrt())
        return torch.linalg.vector_norm(torch.stack(of_groups))

    def _clip(self, gradients: Sequence[Tensor], norm: object) -> None:
        """Of one group, in the place of `unscale_and_clip_grads`; the norm that DeepSpeed names is not the measured."""
        if self.clip is not None:
            share = 1.0 / torch.clamp((self.norm + 1e-6) / self.clip, min=1.0)
            for gradient in gradients:
                gradient.mul_(share)

    def stepped(self) -> list[Tensor]:
        return list(self.optimizer.single_partition_of_fp32_groups)

    def places(self) -> Iterator[tuple[Tensor, Place]]:
        for name, parameter in self.parameters.items():
            mapping = parameter._hp_mapping
            if mapping is not None:  # else this rank holds nothing of it
                flat = self.optimizer.single_partition_of_fp32_groups[mapping.param_group_index]
                address, start = mapping.hp_fragment_address, mapping.lp_fragment_address.start
                yield flat, self.place(name, address.start, start, address.numel)

    def load_weight(self, name: str, parameter: Any, read: Read) -> None:
        values = read(name, "weight", 0, parameter.numel())
        parameter.view(-1).copy_(values)
        mapping = parameter._hp_mapping
        if mapping is not None:
            address = mapping.lp_fragment_address
            mapping.get_hp_fragment().copy_(values.view(-1).narrow(0, address.start, address.numel))

    def spread(self) -> None:
        assert self.sender is not None
        self.optimizer.update_lp_params()
        self.sender.repoint()


class PartitionedParameters(Layout):
    """Stage 3: an equal part of everything on each rank; no rank ever holds the whole model."""

    forward_waits = True

    def building(self, settings: dict[str, Any]) -> AbstractContextManager[Any]:
        # Without dtype: DeepSpeed reads "float32" there as half precision on hosts that support it.
        context: AbstractContextManager[Any] = self.deepspeed.zero.Init(config_dict_or_path=settings)
        return context

    def whole(self, parameter: nn.Parameter, *, to_write: bool = False) -> AbstractContextManager[Any]:
        rank = 0 if to_write else None
        gathered: AbstractContextManager[Any] = self.deepspeed.zero.GatheredParameters([parameter], modifier_rank=rank)
        return gathered

    def built(self, model: nn.Module, half: Set[str], whole: Sequence[nn.Module] = ()) -> None:
        """A module that reads parameters of the layers in it (`reads`) has them gathered around its own passes, and one
        that calls them several times all of them."""
        for name, parameter in model.named_parameters():
            if name in half:
                parameter.comm_dtype = torch.bfloat16  # type: ignore[attr-defined]  # in which passes gather it
        for module in whole:
            self.deepspeed.utils.set_z3_leaf_module(module, True)
        for module in model.modules():
            for layer in getattr(module, "reads", ()):
                for parameter in layer.parameters(recurse=False):
                    self.deepspeed.zero.register_external_parameter(module, parameter)

    def _attached(self, half: Set[str]) -> None:
        """As at stages 1 and 2, but the norm is kept by group of parameters."""
        from deepspeed.runtime.utils import combine_grad_norm_groups  # type: ignore[import-untyped]

        self.combine, self.measure = combine_grad_norm_groups, self.optimizer._get_norm_groups
        self.optimizer._get_norm_groups = lambda *_: self.norms
        # An update gathers these at once, each by itself and in fp32. Passes gather what they lack, in its own dtype
        # and several at a time, and keep these as well.
        self.optimizer.persistent_parameters = []
        hold_once(self.optimizer)

    def settle(self) -> None:
        self.optimizer._partition_all_parameters()

    def gradient_norm(self) -> Tensor:
        self.norms = self.measure()
        return torch.as_tensor(self.combine(self.norms))

    def stepped(self) -> list[Tensor]:
        return list(self.optimizer.fp32_partitioned_groups_flat)

    def places(self) -> Iterator[tuple[Tensor, Place]]:
        # DeepSpeed's safe_get_local_optimizer_state gives a copy where states are offloaded; these are views.
        for name, parameter in self.parameters.items():
            group, offset, start, numel = self._place(parameter)
            yield self.optimizer.fp32_partitioned_groups_flat[group], self.place(name, offset, start, numel)

    def load_weight(self, name: str, parameter: Any, read: Read) -> None:
        group, offset, start, numel = self._place(parameter)
        if numel:
            values = read(name, "weight", start, numel)
            parameter.ds_tensor.view(-1).narrow(0, 0, numel).copy_(values)
            self.optimizer.fp32_partitioned_groups_flat[group].narrow(0, offset, numel).copy_(values)

    def spread(self) -> None:
        for parameter in self.parameters.values():
            group, offset, _, numel = self._place(parameter)
            own = self.optimizer.fp32_partitioned_groups_flat[group].narrow(0, offset, numel)
            parameter.ds_tensor.view(-1).narrow(0, 0, numel).copy_(own)
        self.loaded()

    def loaded(self) -> None:
        self.settle()  # what is gathered, and second copies within groups, are of the weights before
        self.optimizer.invalidate_secondary_tensor()

    def _place(self, parameter: Any) -> tuple[int, int, int, int]:
        """Which flat group holds this rank's part of a parameter and from which element on; the part's first element in
        the parameter, and how many there are without padding."""
        group, offset, padded = self.optimizer.grad_position[self.optimizer.get_param_id(parameter)]
        start = min(padded * parameter.ds_zero_partition_rank, parameter.ds_numel)
        return group, offset, start, min(padded, parameter.ds_numel - start)


def of_part(read: Read, parameter: Tensor) -> Read:
    """Reads of a parameter what this rank's experts have of it."""
    first = first_element(parameter)
    return lambda name, kind, start, numel: read(name, kind, first + start, numel)


def layout_of(stage: int) -> type[Layout]:
    """The layout of a ZeRO stage."""
    return (Replicated, PartitionedStates, PartitionedStates, PartitionedParameters)[stage]
