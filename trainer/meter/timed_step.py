"""One optimizer step of a bare model, timed on this host's processor, by one rank or by several together."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

from trainer.books.layout import micro_batch
from trainer.books.lengths import lengths
from trainer.config import Config
from trainer.config.host import precision
from trainer.config.recomputation import keeps_casts


class Together:
    """What one rank does of a step with the others. Only in the processes of `ranks_seconds`."""

    def __init__(self, rank: int, size: int) -> None:
        self.rank, self.size = rank, size

    def own(self, parameters: Sequence[Any]) -> list[Any]:
        """The parameters that this rank updates."""
        return list(parameters[self.rank :: self.size])

    def reduce(self, parameters: Sequence[Any]) -> None:
        """Gradients to the ranks that update with them."""
        self._each(parameters, "grad", lambda flat, owner, dist: dist.reduce(flat, owner))

    def spread(self, parameters: Sequence[Any]) -> None:
        """Updated weights to all ranks."""
        self._each(parameters, "data", lambda flat, owner, dist: dist.broadcast(flat, owner))

    def agreed(self, more: bool) -> bool:
        """What the first rank thinks."""
        import torch
        import torch.distributed as dist

        flag = torch.tensor([float(more)])
        dist.broadcast(flag, 0)
        return bool(flag)

    def _each(self, parameters: Sequence[Any], name: str, send: Callable[[Any, int, Any], None]) -> None:
        import torch
        import torch.distributed as dist

        for owner in range(self.size):
            tensors = [getattr(one, name) for one in parameters[owner :: self.size]]
            flat = torch.cat([one.flatten() for one in tensors])
            send(flat, owner, dist)
            if name == "data" and owner != self.rank:
                parts = flat.split([one.numel() for one in tensors])
                torch._foreach_copy_(tensors, [part.view_as(one) for part, one in zip(parts, tensors, strict=True)])


def time_step(
    config: Config,
    budget_seconds: float,
    clock: Callable[[], float] = time.perf_counter,
    together: Together | None = None,
) -> float:
    """Median seconds of one optimizer step of the bare model; together: with other ranks, which all call this."""
    import torch

    from trainer.models import build, initialize
    from trainer.models.tiles import use_tiles

    model: Any = build(config)
    initialize(model, 0)
    model.recompute = config.engine.activation_checkpointing
    use_tiles(model, config.engine.feed_forward_tile)
    parameters = [one for one in model.parameters() if one.requires_grad]
    optimizer = torch.optim.AdamW(together.own(parameters) if together else parameters, lr=1e-4, fused=True)
    batch = _random_batch(config)
    cast = {
        "enabled": precision(config) == "bf16",
        "cache_enabled": keeps_casts(config.engine),
    }
    taken: list[float] = []
    began = clock()
    more = True
    while more:
        start = clock()
        with torch.autocast("cpu", dtype=torch.bfloat16, **cast):
            loss, count, _ = model(**batch)
        (loss / count).backward()
        if together:
            together.reduce(parameters)
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        if together:
            together.spread(parameters)
        model.zero_grad()
        taken.append(clock() - start)
        more = len(taken) < 4 or clock() - began < budget_seconds
        more = together.agreed(more) if together else more
    return median(taken[1:])


def _random_batch(config: Config) -> dict[str, Any]:
    """Tokens of both sides where the model has two, all of them targets."""
    import torch

    def side(length: int, prefix: str = "") -> dict[str, Any]:
        shape = (micro_batch(config), length)
        return {
            f"{prefix}tokens": torch.randint(config.vocabulary, shape),
            f"{prefix}segments": torch.zeros(shape, dtype=torch.int32),
            f"{prefix}positions": torch.arange(length).expand(shape),
        }

    source, target = lengths(config)
    batch = side(source) if not target else side(source, "source_") | side(target)
    return batch | {"targets": batch["tokens"]}
