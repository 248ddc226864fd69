"""Sequences that several ranks share: which, and that one of them reads what all of them train on."""

from __future__ import annotations

import json
from collections.abc import Generator, Iterator
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from trainer.config import Config
from trainer.config.sequence import zigzag
from trainer.data import StepBatch
from trainer.models.sequence import WHOLE, Ring, Sequences, Ulysses
from trainer.objectives import Batch
from trainer.training.distributed import World
from trainer.training.groups import Group, consecutive
from trainer.utils.errors import UserError


class Sharing:
    """The group of ranks that share each sequence with this one. Made once a run; collective."""

    def __init__(self, config: Config, world: World) -> None:
        """Raises UserError where the ranks that there are, after a node was lost, are no whole groups."""
        ranks = config.engine.sequence_parallel
        if world.size % ranks:
            raise UserError(f"engine.sequence_parallel: {ranks} does not divide the {world.size} ranks that are left")
        self.group: Group | None = consecutive(ranks) if ranks > 1 else None
        self.data_rank, self.data_ranks = world.rank // ranks, world.size // ranks  # among those of other samples
        self.sequences: Sequences = WHOLE
        if self.group is not None and self.group.handle is not None:
            mine = self.group.handle, self.group.rank, self.group.size
            rings = config.engine.sequence_kind == "ring"
            self.sequences = Ring(*mine, zigzag=zigzag(config)) if rings else Ulysses(*mine)

    def steps(self, batches: Generator[StepBatch, None, None]) -> Generator[StepBatch, None, None]:
        """Steps as the first rank of the group reads them, each rank its own positions. Only that rank draws any; it
        tells how long it waited."""
        if self.group is None:
            yield from batches
            return
        try:
            while True:
                batch = next(batches, None) if self.group.rank == 0 else None
                facts = None if batch is None else [batch.step, batch.seconds_waited]
                facts, arrays = self._from_first(facts, [] if batch is None else batch.micro_batches)
                if facts is None:
                    return
                yield StepBatch(facts[0], [self._mine(one) for one in arrays], facts[1])
        finally:
            batches.close()

    def batches(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """As `steps`, of single batches."""
        numbered = (StepBatch(number, [one], 0.0) for number, one in enumerate(batches))
        return (step.micro_batches[0] for step in self.steps(numbered))

    def _mine(self, batch: Batch) -> Batch:
        return self.sequences.slices.batch(batch)

    def _from_first(self, facts: Any, batches: list[Batch]) -> tuple[Any, list[Batch]]:
        """Plain facts and arrays of the first rank of the group; nothing that the network brings is unpickled."""
        assert self.group is not None
        first, described = self.group.rank == 0, b""
        if first:
            shapes = [{name: [array.dtype.str, array.shape] for name, array in one.items()} for one in batches]
            described = json.dumps([facts, shapes]).encode()
        length = self._broadcast(np.array([len(described)], np.int64))
        text = self._broadcast(np.frombuffer(described, np.uint8) if first else np.empty(int(length[0]), np.uint8))
        facts, shapes = json.loads(text.tobytes())
        given: list[Batch] = batches if first else [{} for _ in shapes]
        for one, arrays in zip(given, shapes, strict=True):
            for name, (dtype, shape) in arrays.items():
                one[name] = self._broadcast(one[name] if first else np.empty(shape, np.dtype(dtype)))
        return facts, given

    def _broadcast(self, array: np.ndarray) -> np.ndarray:
        """The first rank's, on every rank of the group; others give one of the same shape."""
        assert self.group is not None
        array = np.ascontiguousarray(array)
        raw = torch.from_numpy(array.reshape(-1).view(np.uint8).copy())
        dist.broadcast(raw, src=self.group.ranks[0], group=self.group.handle)
        return raw.numpy().view(array.dtype).reshape(array.shape)
