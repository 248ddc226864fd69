"""Muon (Jordan et al. 2024; Liu et al. 2025)."""

from __future__ import annotations

from typing import ClassVar

from trainer.descriptions.optimizers import Role, Shape, Shapes, _ByRole, size
from trainer.descriptions.optimizers.keys import Betas, Epsilon, Nesterov
from trainer.utils.schema import key


class Muon(_ByRole):
    name = "muon"
    help = "the momentum of every matrix made orthogonal; AdamW for embeddings, heads and vectors"
    implementation = "trainer.training.optimizers.muon:muon"
    states = ("momentum", "exp_avg", "exp_avg_sq")
    momentum = "muon_momentum"
    counts_steps = True
    # An update has the spectral norm lr x 0.2 sqrt(the larger side); that of the matrix shall move as much at any width
    # (Yang et al. 2023, A Spectral Condition for Feature Learning).
    mup_power: ClassVar[float | None] = 0.5

    class Keys(Epsilon, Betas, Nesterov):
        muon_momentum: float = key(0.95, "decay of the momentum that is made orthogonal", ge=0, lt=1, introduced=0.95)

    def state_shapes(self, role: Role, shape: Shape) -> dict[str, Shape]:
        if role == "matrix":
            return {"momentum": shape}
        return {"exp_avg": shape, "exp_avg_sq": shape}

    def bytes_sent(self, shapes: Shapes, ranks: int, stage: int) -> float:
        """Parts of matrices to the rank that makes them whole, and back. At stage 3 a rank has an equal part of each
        matrix. Before, only the matrices at the ends of partitions are parted: as many as there are ends, large ones
        more often than small ones, and on average in their middle."""
        sizes = [(size(shape), count) for (role, shape), count in shapes.items() if role == "matrix"]
        whole = sum(one * count for one, count in sizes)
        every, ends = whole * (ranks - 1) / ranks, (ranks - 1) * sum(one * one * count for one, count in sizes) / whole
        return 4 * 2 * (every if stage == 3 else min(every, ends / 2)) / ranks

    def flop(self, role: Role, shape: Shape) -> int:
        """Five iterations of x x^T, its square and their product with x, x having fewer rows than columns."""
        if role != "matrix":
            return 0
        *experts, rows, columns = *shape[:-2], *sorted(shape[-2:])
        return size(tuple(experts)) * 5 * (4 * rows * rows * columns + 2 * rows**3)
