"""Adafactor: the second moment of a matrix from its sums over rows and columns (Shazeer and Stern 2018, algorithm 4),
without momentum, as T5 was trained (Raffel et al. 2020, section 3.1.2).

The rate is the schedule's, times the root mean square of the parameter where `optim.scale_by_parameter` says so
(section 8 of the paper). Sums are those of whole parameters: over the ranks that hold their parts.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from trainer.config import OptimConfig
from trainer.descriptions.optimizers import Shape, size
from trainer.training.optimizers.pieces import Piece, PieceOptimizer

SQUARE_FLOOR = 1e-30  # epsilon 1 of the paper, added to squared gradients
SMALLEST_SCALE = 1e-3  # epsilon 2, the least root mean square of a parameter


def adafactor(groups: list[dict[str, Any]], optim: OptimConfig) -> torch.optim.Optimizer:
    return Adafactor(groups, optim)


class Block(NamedTuple):
    """A rectangle of a matrix in a part of its flattened elements."""

    rows: slice
    columns: slice
    elements: slice  # of the part

    def of(self, part: Tensor) -> Tensor:
        """Its elements, [rows, columns], a view of the part."""
        return part[self.elements].view(-1, self.columns.stop - self.columns.start)


def blocks(start: int, numel: int, shape: Shape) -> Iterator[Block]:
    """Elements [start, start + numel) of a flattened matrix as at most three rectangles: the end of a row, whole rows,
    the beginning of a row. Of experts' matrices [E, rows, columns] so of each; rows count through all of them."""
    place, end = start, start + numel
    height, columns = shape[-2:]
    while place < end:
        row, column = divmod(place, columns)
        rows = min(max(1, (end - place) // columns), height - row % height) if column == 0 else 1
        width = min(columns - column, end - place)
        taken = rows * width
        yield Block(slice(row, row + rows), slice(column, column + width), slice(place - start, place - start + taken))
        place += taken


class Adafactor(PieceOptimizer):
    def update(self, group: dict[str, Any], tensor: Tensor) -> None:
        pieces, names = self.pieces(tensor), list(self.held[id(tensor)])
        steps = float(self.states_of(tensor)["step"]) if pieces else 1.0
        decay = 1 - steps**-self.optim.moment_decay_power
        self._moments(pieces, names, tensor, decay)
        updates = {name: self._update(piece) for name, piece in pieces.items()}
        sums = torch.zeros(2, len(names), dtype=torch.float64, device=tensor.device)
        for index, name in enumerate(names):
            if name in pieces:
                sums[0, index] = updates[name].square().sum()
                sums[1, index] = pieces[name].weight.square().sum()
        self.ranks.sum(sums, tensor)
        for name, (of_update, of_weight) in zip(names, sums.T.tolist(), strict=True):
            if name in pieces:
                numel = size(pieces[name].place.shape)
                lr = group["lr"]
                if self.optim.scale_by_parameter:
                    lr *= max(SMALLEST_SCALE, (of_weight / numel) ** 0.5)
                clip = max(1.0, (of_update / numel) ** 0.5 / self.optim.update_clip)
                pieces[name].weight.mul_(1 - lr * group["weight_decay"]).add_(updates[name], alpha=-lr / clip)

    def _moments(self, pieces: dict[str, Piece], names: list[str], tensor: Tensor, decay: float) -> None:
        """Take the squared gradients into the second moments."""
        factored = [name for name in names if len(self.shapes[name]) > 1 and self.roles[name] != "vector"]
        state_shapes = {name: _sides(self.shapes[name]) for name in factored}
        sums = {name: [tensor.new_zeros(shape) for shape in state_shapes[name]] for name in factored}
        for name, piece in pieces.items():
            squares = piece.gradient.square().add_(SQUARE_FLOOR)
            if name not in sums:
                piece.states["exp_avg_sq"].lerp_(squares, 1 - decay)
                continue
            by_row, by_column = sums[name]
            height = piece.place.shape[-2]
            for block in blocks(piece.place.start, piece.place.numel, piece.place.shape):
                by_row[block.rows] += block.of(squares).sum(1)
                by_column[block.rows.start // height, block.columns] += block.of(squares).sum(0)
        if not sums:
            return
        together = torch.cat([one.flatten() for both in sums.values() for one in both])
        self.ranks.sum(together, tensor)
        lengths = [size(shape) for name in factored for shape in state_shapes[name]]
        whole = iter(together.split(lengths))
        for name in factored:
            by_row, by_column = next(whole), next(whole)
            if name in pieces:
                rows, columns = self.shapes[name][-2:]
                states = pieces[name].states
                states["row"].lerp_((by_row / columns).view_as(states["row"]), 1 - decay)
                states["column"].lerp_((by_column / rows).view_as(states["column"]), 1 - decay)

    def _update(self, piece: Piece) -> Tensor:
        """The gradient over the root of its second moment, 1-D."""
        states = piece.states
        if "exp_avg_sq" in states:
            return states["exp_avg_sq"].rsqrt().mul_(piece.gradient)
        height, columns = piece.place.shape[-2:]
        of_row = (states["row"] / states["row"].mean(-1, keepdim=True)).rsqrt_().flatten()
        of_column = states["column"].rsqrt().view(-1, columns)
        update = piece.gradient.clone()
        for block in blocks(piece.place.start, piece.place.numel, piece.place.shape):
            of_matrix = of_column[block.rows.start // height]
            block.of(update).mul_(of_row[block.rows, None]).mul_(of_matrix[block.columns])
        return update


def _sides(shape: Shape) -> tuple[Shape, Shape]:
    """The shapes of a parameter's sums: over all its rows; over the columns of each of its matrices."""
    *experts, rows, columns = shape
    matrices = size(tuple(experts))
    return (matrices * rows,), (matrices, columns)
