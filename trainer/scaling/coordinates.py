"""The coordinate check of muP: how far training moves the activations of ever wider models (Yang et al. 2022)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from trainer.config import Config
from trainer.models import build, initialize
from trainer.models.parts import OutputLayer
from trainer.models.stack import Stack
from trainer.training.optimizers import make_optimizer


@dataclass(frozen=True)
class Coordinates:
    """Mean size of the change since the start, by part of the model: float64 [widths, updates]."""

    widths: tuple[int, ...]
    changes: dict[str, np.ndarray]

    def slopes(self) -> dict[str, float]:
        """Exponent of the width in the change after the last update: near 0 where the width does not matter."""
        logs = np.log(self.widths)
        return {part: float(np.polyfit(logs, np.log(change[:, -1]), 1)[0]) for part, change in self.changes.items()}


def coordinate_check(config_of: Callable[[int], Config], widths: Sequence[int], updates: int = 4) -> Coordinates:
    """Train a model of each width on one batch of random tokens and watch the residual stream and the logits.

    `config_of` gives the configuration of a width; all else must be the same."""
    rows = [_changes(config_of(width), updates) for width in widths]
    return Coordinates(tuple(widths), {part: np.array([row[part] for row in rows]) for part in rows[0]})


def _changes(config: Config, updates: int) -> dict[str, list[float]]:
    model = build(config)
    initialize(model, config.seed)
    optimizer, batch = make_optimizer(model, config.optim), _random_batch(config)
    seen: dict[str, Tensor] = {}

    def watch(name: str, module: nn.Module) -> None:
        def look(module: nn.Module, given: tuple[Tensor, ...], out: Any) -> None:
            is_output = isinstance(module, OutputLayer)  # which may have made a loss of its logits
            made = module.forward(given[0]) if is_output else out
            seen[name] = made.detach().float()

        module.register_forward_hook(look)

    for name, module in watched(model):
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


def watched(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """What is watched: each block's output and the logits."""
    parts: list[tuple[str, nn.Module]] = []
    for name, module in model.named_modules():
        if isinstance(module, Stack):
            side = f"{name} " if name else ""
            parts += [(f"{side}block {number}", block) for number, block in enumerate(module.blocks, 1)]
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
