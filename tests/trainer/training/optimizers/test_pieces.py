"""An optimizer that sees parts of parameters makes the update of one that sees them whole, wherever they are cut."""

from __future__ import annotations

import random
import threading
from typing import Any

import pytest
import torch
from torch import Tensor

from trainer.config import OptimConfig
from trainer.descriptions.optimizers import OPTIMIZERS, Role
from trainer.training.optimizers.adafactor import blocks
from trainer.training.optimizers.pieces import PieceOptimizer, Place, Ranks

PARAMETERS: dict[Role, dict[str, tuple[int, ...]]] = {
    "matrix": {"a": (3, 7), "b": (8, 2), "c": (1, 5), "d": (4, 4), "h": (2, 3, 4)},
    "embedding": {"e": (9, 3)},
    "vector": {"f": (5,), "g": (2, 3)},
}


class Threads:
    """Ranks that are threads of this process."""

    def __init__(self, size: int) -> None:
        self.size, self.barrier, self.slots = size, threading.Barrier(size), [None] * size

    def gather(self, rank: int, value: Any) -> list[Any]:
        self.slots[rank] = value
        self.barrier.wait(120)
        values = list(self.slots)
        self.barrier.wait(120)
        return values

    def ranks(self, rank: int) -> Ranks:
        group, made = self, Ranks(rank, self.size, alone=False, gather=lambda value: self.gather(rank, value))

        def add(values: Tensor, stepped: Tensor) -> None:
            values.copy_(sum(group.gather(rank, values.clone())))

        def swap(parts: list[Tensor], numels: list[int]) -> list[Tensor]:
            received = [given[rank].clone() for given in group.gather(rank, parts)]
            assert [len(one) for one in received] == list(numels)
            return received

        made.sum, made.swap = add, swap  # type: ignore[method-assign, assignment]
        return made


def flats(seed: int) -> dict[Role, Tensor]:
    chance = torch.Generator().manual_seed(seed)
    sizes = {role: sum(torch.Size(shape).numel() for shape in named.values()) for role, named in PARAMETERS.items()}
    return {role: torch.randn(size, generator=chance) for role, size in sizes.items()}


def places(role: Role, first: int, last: int) -> list[Place]:
    """What lies in elements [first, last) of the role's parameters, one behind the other."""
    found, begin = [], 0
    for name, shape in PARAMETERS[role].items():
        end = begin + torch.Size(shape).numel()
        low, high = max(begin, first), min(end, last)
        if low < high:
            found.append(Place(name, role, shape, low - first, low - begin, high - low))
        begin = end
    return found


def trained(name: str, cuts: dict[Role, list[int]], rank: int, ranks: Ranks, steps: int = 3) -> dict[Role, Tensor]:
    optim = OptimConfig(name=name, lr=0.1)
    weights = {
        role: torch.nn.Parameter(flat[cuts[role][rank] : cuts[role][rank + 1]]) for role, flat in flats(0).items()
    }
    groups = [
        {"params": [weights[role]], "weight_decay": 0.1 * (role != "vector"), "lr_scale": 1.0, "role": role}
        for role in weights
    ]
    optimizer: PieceOptimizer = OPTIMIZERS.implementation(name)(groups, optim)
    found = [(weights[role], places(role, cuts[role][rank], cuts[role][rank + 1])) for role in weights]
    optimizer.attach(found, ranks, torch.float32)
    for step in range(steps):
        for role, flat in flats(1 + step).items():
            weights[role].grad = flat[cuts[role][rank] : cuts[role][rank + 1]].clone()
        optimizer.step()
    return {role: weight.detach() for role, weight in weights.items()}


@pytest.mark.parametrize("name", ["muon", "lamb", "adafactor"])
@pytest.mark.parametrize("seed", range(4))
def test_cut_anywhere(name: str, seed: int) -> None:
    chance, size = random.Random(seed), 1 + seed
    cuts = {}
    for role, flat in flats(0).items():
        inner = sorted(chance.choices(range(len(flat) + 1), k=size - 1))  # some ranks get nothing
        cuts[role] = [0, *inner, len(flat)]
    whole = trained(
        name, {role: [0, len(flat)] for role, flat in flats(0).items()}, 0,
        Ranks(0, 1, alone=True, gather=lambda value: [value]),
    )  # fmt: skip
    group, parts = Threads(size), {}

    def work(rank: int) -> None:
        parts[rank] = trained(name, cuts, rank, group.ranks(rank))

    threads = [threading.Thread(target=work, args=(rank,)) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    for role, wanted in whole.items():
        torch.testing.assert_close(torch.cat([parts[rank][role] for rank in range(size)]), wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("seed", range(20))
def test_blocks_cover_a_part_once(seed: int) -> None:
    chance = random.Random(seed)
    rows, columns = chance.randint(1, 6), chance.randint(1, 6)
    start = chance.randint(0, rows * columns)
    numel = chance.randint(0, rows * columns - start)
    matrix = torch.arange(rows * columns).view(rows, columns)
    part, seen = matrix.view(-1)[start : start + numel], []
    for block in blocks(start, numel, (rows, columns)):
        assert torch.equal(block.of(part), matrix[block.rows, block.columns])
        seen += block.of(part).flatten().tolist()
    assert seen == part.tolist()
    assert len([*blocks(start, numel, (rows, columns))]) <= 3
