"""A model: a backbone, which makes hidden states of tokens, and a head, which makes logits and a loss of those."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn

from trainer.config.model import ModelConfig
from trainer.config.recomputation import Recomputation
from trainer.models.parts import Embedding
from trainer.models.routing import given_loads, targets_of_rows, watched
from trainer.models.sequence import WHOLE, Sequences

Output = tuple[Tensor, Tensor, dict[str, Tensor]]  # sum of the loss (fp32), number of targets, named side sums


class Backbone(nn.Module):
    """From tokens to hidden states, whatever is predicted from those.

    `forward` takes the tensors of a batch that are named in `inputs`, [B, S] each but `samples` [B], and returns the
    hidden states after the last norm, [B, S, width].
    """

    inputs: ClassVar[tuple[str, ...]]
    tokens: Embedding
    depth: int  # layers of the stack whose hidden states are returned
    recompute: Recomputation  # activation checkpointing; the engine sets it


class Head(nn.Module, ABC):
    """From hidden states to logits and to a loss. It is given the whole batch, and reads the tensors that it names."""

    @abstractmethod
    def logits(self, hidden_states: Tensor, **batch: Tensor) -> Tensor:
        """From hidden states [..., S, width]."""

    @abstractmethod
    def forward(self, hidden_states: Tensor, targets: Tensor, **batch: Tensor) -> Output:
        """Sum of the loss in nats over the targets that are not NOT_A_TARGET, their number, and side sums."""


class NamedAsStored(nn.Module):
    """A module whose modules and parameters are named as checkpoints have them, wherever they are in the tree.

    `names`: beginning of a name in the tree -> beginning of the name in checkpoints; the longest one counts. Initial
    weights are drawn, learning rates set and checkpoints written by these names. `state_dict` has those of the tree.
    """

    names: Mapping[str, str]

    def named_modules(
        self, memo: set[nn.Module] | None = None, prefix: str = "", remove_duplicate: bool = True
    ) -> Iterator[tuple[str, nn.Module]]:
        """As `nn.Module.named_modules`, and so for `named_parameters` and `named_buffers`."""
        for name, module in super().named_modules(memo, "", remove_duplicate):
            yield f"{prefix}.{self._stored(name)}".strip("."), module

    def _stored(self, name: str) -> str:
        name += "."
        begin = max((one for one in self.names if name.startswith(one)), key=len, default="")
        return (self.names.get(begin, "") + name.removeprefix(begin)).strip(".")


class Model(NamedAsStored):
    """A backbone under a head; tuning puts another head on the same backbone."""

    sequences: Sequences = WHOLE  # how their positions are divided over ranks

    def __init__(self, config: ModelConfig, backbone: Backbone, head: Head, names: Mapping[str, str]) -> None:
        super().__init__()
        self.config, self.names = config, names
        self.backbone, self.head = backbone, head
        self.rows_stand_alone = False  # in training, `Config.rows_stand_alone`: attention then needs no segments

    @property
    def recompute(self) -> Recomputation:
        """Activation checkpointing; the engine sets it."""
        return self.backbone.recompute

    @recompute.setter
    def recompute(self, value: Recomputation) -> None:
        self.backbone.recompute = value

    def hidden_states(self, tokens: Tensor, **batch: Tensor) -> Tensor:
        """[..., S, width] of tokens [..., S]: one row for each record, or several. `batch` may hold more than the
        backbone reads."""
        read = {name: batch[name] for name in self.backbone.inputs if name in batch}
        if self.training and self.rows_stand_alone:
            read.pop("segments", None)
        if tokens.dim() == 2:
            return self.backbone(tokens=tokens, **read)
        rows = {name: value.flatten(0, tokens.dim() - 2) for name, value in read.items()}
        return self.backbone(tokens=tokens.flatten(0, -2), **rows).unflatten(0, tokens.shape[:-1])

    def logits(
        self, tokens: Tensor, positions: Tensor | None = None, segments: Tensor | None = None, **more: Tensor | None
    ) -> Tensor:
        """What the head makes of the hidden states."""
        more |= {"positions": positions, "segments": segments}
        batch = {name: value for name, value in more.items() if value is not None}
        return self.head.logits(self.hidden_states(tokens, **batch), **batch)

    def forward(self, targets: Tensor, **batch: Tensor) -> Output:
        """As `Head.forward`, of a batch as an objective or a task makes it; in training with the losses of routers."""
        if not (self.training and self.config.experts.count):
            return self.head(self.hidden_states(**batch), targets, **batch)
        with watched(self.backbone) as routing:
            hidden_states = self.hidden_states(**batch)
        loss, count, sums = self.head(hidden_states, targets, **batch)
        of_rows = targets_of_rows(targets, batch["tokens"].shape[:-1].numel())
        added, routed = routing.losses(self.config.experts, of_rows, *given_loads(batch), sequences=self.sequences)
        return loss + added, count, {**sums, **routed}


def stored_buffers(model: nn.Module, *, trained: bool = False) -> dict[str, Tensor]:
    """What a checkpoint holds beside the parameters, by name: what training moves without a gradient. trained: without
    those of frozen modules."""
    found = {}
    for prefix, module in model.named_modules():
        frozen = not any(parameter.requires_grad for parameter in module.parameters())
        for name, buffer in module.named_buffers(recurse=False):
            if name not in module._non_persistent_buffers_set and not (trained and frozen):
                found[f"{prefix}.{name}".lstrip(".")] = buffer
    return found


@torch.no_grad()
def load_weights(model: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Copy a checkpoint's weights, by their names there. Raises KeyError for a parameter that has none."""
    for name, parameter in [*model.named_parameters(), *stored_buffers(model).items()]:
        parameter.copy_(weights[name])
