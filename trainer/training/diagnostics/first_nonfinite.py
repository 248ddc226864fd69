"""Which module's output, or its gradient, was the first that is not finite."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from trainer.training.distributed import World
from trainer.training.engine import Engine


class FirstNonfinite:
    """Looks at the output of every module, at the gradient of every output and at those of all parameters, in the order
    in which they are made. Each is read once more; nothing waits for a device before a step has failed."""

    def __init__(self, engine: Engine, world: World) -> None:
        self.engine, self.world = engine, world
        self._forward = False  # a forward pass runs, and no recomputation of one
        self._seen: list[tuple[str, Tensor]] = []  # where, and whether all was finite
        self._passes = 0  # micro-batches begun
        engine.model.register_forward_pre_hook(self._begins)
        for name, module in engine.model.named_modules():
            module.register_forward_hook(partial(self._output, name or type(module).__name__))
        engine.model.register_forward_hook(self._ends)
        for name, parameter in engine.parameters.items():
            parameter.register_hook(partial(self._look, f"the gradient of {name}, backward"))

    def begin(self) -> None:
        """The gradients of a step are computed next."""
        self._seen, self._passes = [], 0

    def _begins(self, model: nn.Module, given: Any) -> None:
        self._forward = model.training
        self._passes += 1

    def _ends(self, *_: Any) -> None:
        self._forward = False

    def _output(self, name: str, module: nn.Module, given: Any, made: Any) -> None:
        if not self._forward:
            return
        for tensor in _tensors(made):
            if tensor.is_floating_point():
                self._look(f"the output of {name}, forward", tensor)
                if tensor.requires_grad:
                    tensor.register_hook(partial(self._look, f"the gradient of the output of {name}, backward"))

    @torch.no_grad()
    def _look(self, where: str, tensor: Tensor) -> None:
        self._seen.append((f"{where} pass of micro-batch {self._passes}", torch.isfinite(tensor.detach()).all()))

    def source(self, loss: float, norm: float) -> str:
        """Where a step with such a loss or norm first was not finite, in words; empty where both are. Collective."""
        if math.isfinite(loss) and math.isfinite(norm):
            return ""
        mine = ""
        if self._seen:
            finite = torch.stack([flag for _, flag in self._seen]).tolist()
            mine = next((where for (where, _), good in zip(self._seen, finite, strict=True) if not good), "")
        self.begin()
        found = [(where, rank) for rank, where in enumerate(self.world.gather(mine)) if where]
        if not found:
            return "no module's output or gradient; look at what adds gradients up"
        where, rank = min(found, key=lambda one: ("forward" not in one[0], one[1]))
        return f"first in {where}" + (f" on rank {rank}" if self.world.size > 1 else "")


def _tensors(made: Any) -> Iterator[Tensor]:
    """The tensors of a module's output, which may be nested."""
    if isinstance(made, Tensor):
        yield made
    elif isinstance(made, (tuple, list)):
        for one in made:
            yield from _tensors(one)
    elif isinstance(made, dict):
        yield from _tensors(list(made.values()))
