"""The coordinate check of muP and CompleteP: how far training moves the activations of ever wider or deeper models
(Yang et al. 2022; Dey et al. 2025, section 4)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from trainer.config import Config
from trainer.models import build, initialize
from trainer.models.block import summed
from trainer.models.parts import OutputLayer
from trainer.models.roles import roles
from trainer.models.stack import Stack
from trainer.training.optimizers import make_optimizer
from trainer.training.optimizers.pieces import PieceOptimizer, Place


@dataclass(frozen=True)
class Coordinates:
    """Mean size of the change since the start, by part of the model: float64 [sizes, updates]."""

    sizes: tuple[int, ...]  # widths or depths
    changes: dict[str, np.ndarray]

    def slopes(self) -> dict[str, float]:
        """Exponent of the size in the change after the last update: near 0 where the size does not matter."""
        logs = np.log(self.sizes)
        return {part: float(np.polyfit(logs, np.log(change[:, -1]), 1)[0]) for part, change in self.changes.items()}


def coordinate_check(
    config_of: Callable[[int], Config], sizes: Sequence[int], updates: int = 4, *, deeper: bool = False
) -> Coordinates:
    """Train a model of each size on one batch of random tokens and watch the residual stream and the logits.

    `config_of` gives the configuration of a width, or of a depth where `deeper`; all else must be the same. Of models
    that differ in depth the blocks in the middle and at the end are watched."""
    rows = [_changes(config_of(size), updates, deeper) for size in sizes]
    return Coordinates(tuple(sizes), {part: np.array([row[part] for row in rows]) for part in rows[0]})


def _changes(config: Config, updates: int, deeper: bool) -> dict[str, list[float]]:
    model = build(config)
    initialize(model, config.seed)
    optimizer, batch = _optimizer(model, config), _random_batch(config)
    seen: dict[str, Tensor] = {}

    def watch(name: str, module: nn.Module) -> None:
        def look(module: nn.Module, given: tuple[Tensor, ...], out: Any) -> None:
            is_output = isinstance(module, OutputLayer)  # which may have made a loss of its logits
            made = module.forward(given[0]) if is_output else summed(*out)
            seen[name] = made.detach().float()

        module.register_forward_hook(look)

    for name, module in watched(model, deeper):
        watch(name, module)
    first: dict[str, Tensor] = {}
    changes: dict[str, list[float]] = {}
    for _ in range(updates + 1):
        loss, count, _ = model(**batch)
        if not first:
            first = dict(seen)
        else:
            for name, now in seen.items():
                changes.setdefault(name, []).append(float((now - first[name]).abs().mean()))
        optimizer.zero_grad()
        (loss / count).backward()
        optimizer.step()
    return changes


def _optimizer(model: nn.Module, config: Config) -> torch.optim.Optimizer:
    """Of one process, which holds all parameters whole."""
    optimizer = make_optimizer(model, config.optim)
    if isinstance(optimizer, PieceOptimizer):
        role_of = roles(model)
        stepped = [
            (one, [Place(name, role_of[name], tuple(one.shape), 0, 0, one.numel())])
            for name, one in model.named_parameters()
        ]
        optimizer.attach(stepped, optimizer.ranks, torch.float32)
    return optimizer


def watched(model: nn.Module, deeper: bool = False) -> list[tuple[str, nn.Module]]:
    """What is watched: each block's output (deeper: that in the middle and the last one) and the logits."""
    parts: list[tuple[str, nn.Module]] = []
    for name, module in model.named_modules():
        if isinstance(module, Stack):
            side = f"{name} " if name else ""
            blocks = list(module.blocks)
            named = {f"block {number}": block for number, block in enumerate(blocks, 1)}
            if deeper:
                named = {"middle block": blocks[(len(blocks) - 1) // 2], "last block": blocks[-1]}
            parts += [(f"{side}{label}", block) for label, block in named.items()]
        elif isinstance(module, OutputLayer):
            parts.append(("logits", module))
    return parts


def _random_batch(config: Config, rows: int = 4) -> dict[str, Any]:
    length = config.data.sequence_length
    stream = torch.Generator().manual_seed(config.seed)
    tokens = torch.randint(4, config.vocabulary, (rows, length), generator=stream)
    targets = torch.randint(4, config.vocabulary, (rows, length), generator=stream)
    same = {"segments": torch.zeros_like(tokens), "positions": torch.arange(length).expand(rows, length)}
    batch = {"tokens": tokens, "targets": targets, **same}
    if config.model.family == "encoder_decoder":
        batch |= {"source_tokens": tokens, **{f"source_{name}": value for name, value in same.items()}}
    return batch
