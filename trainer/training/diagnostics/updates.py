"""Gradients, weights and updates by part of the model, on this rank's share of what the optimizer steps on."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import torch
from torch import Tensor

from trainer.descriptions.optimizers import Role
from trainer.training.distributed import World
from trainer.training.engine import Engine
from trainer.training.engine.expert_groups import holders

KINDS = ("gradient", "weight", "update")


def part_of(name: str, role: Role) -> str:
    """The part that a parameter counts to: all embeddings, all heads, all vectors, and of each layer the matrices of
    its attention, cross-attention and feed-forward; another matrix is a part by itself."""
    if role != "matrix":
        return "vectors" if role == "vector" else role
    words = name.split(".")
    return ".".join(words[: words.index("blocks") + 3] if "blocks" in words else words[:-1])


class Updates:
    """Norms around the optimizer's own step, every so many steps.

    What is stepped on is copied for the length of that step: 4 bytes a parameter at ZeRO 0, a rank's share of that at
    stages 1 to 3, where DeepSpeed steps on one group after the other and only that group is copied.
    """

    def __init__(self, every: int, engine: Engine, world: World) -> None:
        self.every, self.world = every, world
        # Where ranks share experts each has something of its own, also at stage 0.
        self.alone = engine.layout.alone and engine.experts_shared is None
        self.inner = engine.layout.inner
        self.places: dict[int, list[tuple[str, int, int]]] = defaultdict(list)  # part, offset and length by tensor
        self.held: dict[int, int] = {}  # how many ranks step on the same
        for tensor, place in engine.layout.places():
            self.held[id(tensor)] = holders(tensor, world)[0] if engine.layout.alone else 1
            if place.numel:
                self.places[id(tensor)].append((part_of(place.name, place.role), place.offset, place.numel))
        self.parts = list(dict.fromkeys(part_of(name, role) for name, role in engine.layout.roles.items()))
        self._handles: list[Any] = []
        self._before: dict[int, Tensor] = {}
        self._norms: dict[tuple[str, str], list[Tensor]] = defaultdict(list)

    def begin(self, step: int) -> None:
        """Update number `step` is made next."""
        if step % self.every == 0:
            hooks = (self.inner.register_step_pre_hook, self._begins), (self.inner.register_step_post_hook, self._ended)
            self._handles = [register(hook) for register, hook in hooks]  # type: ignore[operator]

    @torch.no_grad()
    def _begins(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        for tensor in self._stepped(optimizer):
            assert tensor.grad is not None
            self._before[id(tensor)] = tensor.detach().view(-1).clone()
            self._add("weight", tensor, tensor.detach())
            self._add("gradient", tensor, tensor.grad)

    @torch.no_grad()
    def _ended(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        for tensor in self._stepped(optimizer):
            if (before := self._before.pop(id(tensor), None)) is not None:
                self._add("update", tensor, before.sub_(tensor.detach().view(-1)))

    def _stepped(self, optimizer: torch.optim.Optimizer) -> list[Tensor]:
        """What the call of `step` steps on: at stages 1 to 3 one group, or a part of one, a call."""
        found = [tensor for group in optimizer.param_groups for tensor in group["params"]]
        return [one for one in found if one.grad is not None and id(one) in self.places]

    def _add(self, kind: str, tensor: Tensor, values: Tensor) -> None:
        flat = values.reshape(-1)
        for part, offset, numel in self.places[id(tensor)]:
            norm = torch.linalg.vector_norm(flat.narrow(0, offset, numel), dtype=torch.float32)
            self._norms[part, kind].append(norm if self.alone else norm / self.held[id(tensor)] ** 0.5)

    def record(self) -> dict[str, dict[str, float | None]]:
        """Norms by part and kind, and `ratio`: RMS of the update over RMS of the weights, null where those are zero.
        Gradients as the optimizer got them, clipped. Empty where the step was not measured. Collective."""
        if not self._handles:
            return {}
        for handle in self._handles:
            handle.remove()
        self._handles = []
        names = [(part, kind) for part in self.parts for kind in KINDS]
        squares = [float(sum(norm.double().square() for norm in self._norms[name])) for name in names]
        self._norms.clear()
        if not self.alone:
            squares = self.world.sum(*squares)
        found = dict(zip(names, squares, strict=True))
        return {part: self._figures({kind: found[part, kind] ** 0.5 for kind in KINDS}) for part in self.parts}

    @staticmethod
    def _figures(norms: dict[str, float]) -> dict[str, float | None]:
        return {**norms, "ratio": norms["update"] / norms["weight"] if norms["weight"] else None}
