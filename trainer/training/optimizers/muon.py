"""Muon: the momentum of every matrix made orthogonal (Jordan et al. 2024), scaled to the root mean square of Adam's
updates (Liu et al. 2025, section 2.2), and AdamW for embeddings, heads and vectors.

A matrix is made orthogonal as a whole: where ranks hold a part of it each, the parts go to one of them, and the result
comes back. What a step sends is counted in trainer/books/wire.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from trainer.config import OptimConfig
from trainer.training.optimizers.adamw import adamw_update
from trainer.training.optimizers.pieces import Held, Piece, PieceOptimizer
from trainer.utils.errors import UserError

COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of Jordan's quintic iteration
ITERATIONS = 5
RMS_OF_ADAM = 0.2  # Liu et al. 2025, equation 4


def muon(groups: list[dict[str, Any]], optim: OptimConfig) -> torch.optim.Optimizer:
    """Raises UserError where the model has no matrix: all of it would be trained by AdamW."""
    if not any(group["role"] == "matrix" for group in groups):
        raise UserError("optim.name: muon trains matrices, and this model has none; take adamw")
    return Muon(groups, optim, momentum=optim.muon_momentum)


class Muon(PieceOptimizer):
    def update(self, group: dict[str, Any], tensor: Tensor) -> None:
        lr, decay, optim, momentum = group["lr"], group["weight_decay"], self.optim, group["momentum"]
        if group["role"] != "matrix":
            epsilon = group.get("eps", optim.epsilon)
            adamw_update(tensor, self.states_of(tensor), lr, decay, (optim.beta1, optim.beta2), epsilon)
            return
        tensor.mul_(1 - lr * decay)
        for piece in self.pieces(tensor).values():
            piece.states["momentum"].lerp_(piece.gradient, 1 - momentum)
            kept = momentum if optim.nesterov else 1.0
            piece.gradient.lerp_(piece.states["momentum"], kept)
        for piece, update in self._orthogonal(tensor):
            piece.weight.add_(update, alpha=-lr * RMS_OF_ADAM * max(piece.place.shape[-2:]) ** 0.5)

    def _orthogonal(self, tensor: Tensor) -> Iterator[tuple[Piece, Tensor]]:
        """Every piece, and its part of the orthogonal matrix that is nearest to the whole gradient."""
        pieces = self.pieces(tensor)
        if self.ranks.alone:
            for piece in pieces.values():
                yield piece, orthogonal(piece.gradient.view(-1, *piece.place.shape[1:]), self.products).view(-1)
            return
        held, mine = self.held[id(tensor)], self.ranks.rank
        owners = owners_of(held)
        owned = [name for name, owner in owners.items() if owner == mine]
        ranks = range(self.ranks.size)
        to_owners = [[name for name in pieces if owners[name] == rank] for rank in ranks]
        of_owned = [[(name, part) for name in owned for part in held[name] if part.rank == rank] for rank in ranks]

        empty = tensor.new_empty(0)
        sent = [torch.cat([empty, *(pieces[name].gradient for name in names)]) for names in to_owners]
        numels = [[part.numel for _, part in parts] for parts in of_owned]
        received = self.ranks.swap(sent, [sum(one) for one in numels])
        wholes = {name: tensor.new_empty(sum(part.numel for part in held[name])) for name in owned}
        for parts, lengths, values in zip(of_owned, numels, received, strict=True):
            for (name, part), value in zip(parts, values.split(lengths), strict=True):
                wholes[name][part.start : part.start + part.numel] = value

        for name, whole in wholes.items():
            whole.copy_(orthogonal(whole.view(pieces[name].place.shape), self.products).view(-1))
        back = [
            torch.cat([empty, *(wholes[name][part.start : part.start + part.numel] for name, part in parts)])
            for parts in of_owned
        ]
        wanted = [[pieces[name].place.numel for name in names] for names in to_owners]
        updates = self.ranks.swap(back, [sum(one) for one in wanted])
        for names, lengths, values in zip(to_owners, wanted, updates, strict=True):
            for name, value in zip(names, values.split(lengths), strict=True):
                yield pieces[name], value


def owners_of(held: dict[str, list[Held]]) -> dict[str, int]:
    """The rank that makes each matrix orthogonal: of those that hold a part of it, the one with the least to do."""
    busy: dict[int, int] = {}
    owners = {}
    for name, parts in held.items():
        owners[name] = min((part.rank for part in parts), key=lambda rank: (busy.get(rank, 0), rank))
        busy[owners[name]] = busy.get(owners[name], 0) + sum(part.numel for part in parts)
    return owners


def orthogonal(matrix: Tensor, products: torch.dtype) -> Tensor:
    """U V^T of the singular value decomposition U S V^T, its singular values within about 0.7 to 1.2, by Newton and
    Schulz' iteration with products in the dtype `products`; fp32, of the same shape. Of experts' matrices [E, out, in]
    each by itself."""
    a, b, c = COEFFICIENTS
    x = matrix.to(products)
    tall = x.shape[-2] > x.shape[-1]
    x = x.mT if tall else x
    x = x / x.norm(dim=(-2, -1), keepdim=True).clamp(min=1e-7)
    for _ in range(ITERATIONS):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return (x.mT if tall else x).float().contiguous()
