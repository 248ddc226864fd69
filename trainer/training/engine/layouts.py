"""Where a rank's share of weights, gradients and optimizer states lies, at each of DeepSpeed's ZeRO stages.

Whatever differs between stages is here, and so is whatever DeepSpeed has no public call for: `PRIVATE` names it, and
tests/trainer/training/engine/test_contract.py holds that the installed version still has it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from trainer.config import OptimConfig
from trainer.descriptions.optimizers import OPTIMIZERS
from trainer.training.distributed import World

Read = Callable[[str, str, int, int], Tensor]  # (name, kind, start, numel) -> fp32 slice of a flattened parameter

# What is used of DeepSpeed beside its documented calls -> the file of the package that defines it.
PRIVATE = {
    # the norm before the step, and an update that is skipped
    "optimizer": "runtime/zero/stage_1_and_2.py",
    "scaled_global_norm": "runtime/zero/stage_1_and_2.py",
    "_wait_for_offload_copies": "runtime/zero/stage_1_and_2.py",
    "_get_norm_groups": "runtime/zero/stage3.py",
    "combine_grad_norm_groups": "runtime/utils.py",
    # stages 1 and 2: the flat partitions, and the fragments of parameters in them
    "single_partition_of_fp32_groups": "runtime/zero/stage_1_and_2.py",
    "_hp_mapping": "utils/tensor_fragment.py",
    "param_group_index": "utils/tensor_fragment.py",
    "hp_fragment_address": "utils/tensor_fragment.py",
    "lp_fragment_address": "utils/tensor_fragment.py",
    "get_hp_fragment": "utils/tensor_fragment.py",
    # stage 3: partitioned parameters
    "fp32_partitioned_groups_flat": "runtime/zero/stage3.py",
    "grad_position": "runtime/zero/stage3.py",
    "get_param_id": "runtime/zero/stage3.py",
    "persistent_parameters": "runtime/zero/stage3.py",
    "ds_tensor": "runtime/zero/partition_parameters.py",
    "ds_numel": "runtime/zero/partition_parameters.py",
    "ds_shape": "runtime/zero/partition_parameters.py",
    "partition": "runtime/zero/partition_parameters.py",
    # importing without a compiler
    "__compatible_ops__": "ops/__init__.py",
}


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

    def __init__(self, deepspeed: Any, world: World, optim: OptimConfig) -> None:
        self.deepspeed, self.world, self.clip = deepspeed, world, optim.clip
        self.description = OPTIMIZERS[optim.name]
        self.kinds = self.description.states

    def building(self, settings: dict[str, Any]) -> AbstractContextManager[Any]:
        """The context in which the model is built."""
        return torch.device("cpu")

    def whole(self, parameter: nn.Parameter, *, to_write: bool = False) -> AbstractContextManager[Any]:
        """The context in which a parameter is there as a whole. Collective; `to_write`: what rank 0 leaves in it goes
        to all ranks."""
        return nullcontext()

    def attach(self, optimizer: Any, parameters: Mapping[str, Any]) -> None:
        self.optimizer, self.parameters = optimizer, parameters

    @abstractmethod
    def gradient_norm(self) -> float:
        """Of the step's gradients over all ranks, before clipping; infinite where any of them is not finite."""

    def before_update(self) -> None:  # noqa: B027 - not every stage has something to do here
        """Called once the norm is known and the update is decided."""

    @abstractmethod
    def fragments(self, *, to_save: bool = False) -> Iterator[Fragment]:
        """This rank's slices of the optimizer's states, created as zeros where no step was taken yet; `to_save`: every
        element on one rank only."""

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

    def states_of(self, parameter: Tensor) -> dict[str, Tensor]:
        """The inner optimizer's state of one of its own parameters, created where there is none yet."""
        state: dict[str, Tensor] = self.inner.state[parameter]
        if not state:
            if self.description.counts_steps:
                state["step"] = torch.zeros((), dtype=torch.float32, device=parameter.device)
            for kind in self.kinds:
                state[kind] = torch.zeros_like(parameter, memory_format=torch.preserve_format).detach()
        return state


class Replicated(Layout):
    """Stage 0: every rank holds everything. DeepSpeed clips inside its step and does not tell the norm, so both are
    done here."""

    def gradient_norm(self) -> float:
        found = [p.grad for p in self.parameters.values() if p.grad is not None]
        self.norm = nn.utils.get_total_norm(found)
        return float(self.norm)

    def before_update(self) -> None:
        if self.clip is not None:
            nn.utils.clip_grads_with_norm_(self.parameters.values(), self.clip, self.norm)

    def fragments(self, *, to_save: bool = False) -> Iterator[Fragment]:
        for name, parameter in self.parameters.items():
            state = self.states_of(parameter)
            share = -(-parameter.numel() // self.world.size) if to_save else parameter.numel()
            start = min(share * self.world.rank, parameter.numel()) if to_save else 0
            numel = min(share, parameter.numel() - start)
            for kind in self.kinds if numel else ():
                yield Fragment(name, kind, start, state[kind].view(-1).narrow(0, start, numel))

    def load_weight(self, name: str, parameter: Any, read: Read) -> None:
        parameter.view(-1).copy_(read(name, "weight", 0, parameter.numel()))


class PartitionedStates(Layout):
    """Stages 1 and 2: weights on every rank, and an equal part of their fp32 copy and of the states."""

    def attach(self, optimizer: Any, parameters: Mapping[str, Any]) -> None:
        """The norm is wanted before the step; DeepSpeed, which measures it inside, is given what was measured."""
        super().attach(optimizer, parameters)
        self.measure = optimizer.scaled_global_norm
        optimizer.scaled_global_norm = lambda *_: self.norm

    def gradient_norm(self) -> float:
        self.optimizer._wait_for_offload_copies()
        self.norm = self.measure()
        return float(self.norm)

    def fragments(self, *, to_save: bool = False) -> Iterator[Fragment]:
        for name, parameter in self.parameters.items():
            mapping = parameter._hp_mapping
            if mapping is None:  # this rank holds nothing of it
                continue
            flat = self.optimizer.single_partition_of_fp32_groups[mapping.param_group_index]
            state, address = self.states_of(flat), mapping.hp_fragment_address
            for kind in self.kinds:
                tensor = state[kind].narrow(0, address.start, address.numel)
                yield Fragment(name, kind, mapping.lp_fragment_address.start, tensor)

    def load_weight(self, name: str, parameter: Any, read: Read) -> None:
        parameter.view(-1).copy_(read(name, "weight", 0, parameter.numel()))
        mapping = parameter._hp_mapping
        if mapping is not None:
            address = mapping.lp_fragment_address
            mapping.get_hp_fragment().copy_(parameter.view(-1).narrow(0, address.start, address.numel))


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

    def attach(self, optimizer: Any, parameters: Mapping[str, Any]) -> None:
        """As at stages 1 and 2, but the norm is kept by group of parameters."""
        from deepspeed.runtime.utils import combine_grad_norm_groups  # type: ignore[import-untyped]

        super().attach(optimizer, parameters)
        self.combine, self.measure = combine_grad_norm_groups, optimizer._get_norm_groups
        optimizer._get_norm_groups = lambda *_: self.norms

    def gradient_norm(self) -> float:
        self.norms = self.measure()
        return float(self.combine(self.norms))

    def fragments(self, *, to_save: bool = False) -> Iterator[Fragment]:
        # DeepSpeed's safe_get_local_optimizer_state gives a copy where states are offloaded; these are views.
        for name, parameter in self.parameters.items():
            group, offset, start, numel = self._place(parameter)
            state = self.states_of(self.optimizer.fp32_partitioned_groups_flat[group])
            for kind in self.kinds if numel else ():
                yield Fragment(name, kind, start, state[kind].narrow(0, offset, numel))

    def load_weight(self, name: str, parameter: Any, read: Read) -> None:
        group, offset, start, numel = self._place(parameter)
        if numel:
            values = read(name, "weight", start, numel)
            parameter.ds_tensor.view(-1).narrow(0, 0, numel).copy_(values)
            self.optimizer.fp32_partitioned_groups_flat[group].narrow(0, offset, numel).copy_(values)

    def loaded(self) -> None:
        if kept := self.optimizer.persistent_parameters:
            kept[0].partition(kept, has_been_updated=False)  # small ones are kept whole: gather them anew

    def _place(self, parameter: Any) -> tuple[int, int, int, int]:
        """Which flat group holds this rank's part of a parameter and from which element on; the part's first element in
        the parameter, and how many there are without padding."""
        group, offset, padded = self.optimizer.grad_position[self.optimizer.get_param_id(parameter)]
        start = min(padded * self.world.rank, parameter.ds_numel)
        return group, offset, start, min(padded, parameter.ds_numel - start)


def layout_of(stage: int) -> type[Layout]:
    """The layout of a ZeRO stage."""
    return (Replicated, PartitionedStates, PartitionedStates, PartitionedParameters)[stage]
