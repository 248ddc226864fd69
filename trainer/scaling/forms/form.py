"""What the form of a law is: a formula over columns of a table, and how its constants are found."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from copy import copy
from typing import ClassVar, Self

import numpy as np

EXPONENTS = (1e-3, 3.0)  # bounds of a power


class Form(ABC):
    """A formula for the loss, prepared for the runs that it is fitted to.

    The fit works in coordinates of its own, theta, that are well scaled (centred logarithms), and with predictions
    `target(loss)`: the logarithm of the loss, unless a form says otherwise. Printed and stored are `values`, the
    constants as papers state them, from which alone `loss_at` predicts.
    """

    name: ClassVar[str]  # as `form=` takes it
    title: ClassVar[str]  # the formula
    source: ClassVar[str]  # paper, section
    constants: ClassVar[tuple[str, ...]]  # names of the values
    units: ClassVar[dict[str, str]] = {}  # of constants that have one
    variables: ClassVar[tuple[str, ...]]  # columns of a table, in the order in which arrays are given
    needs: ClassVar[dict[str, int]]  # column -> how many different values the form needs of it
    together: ClassVar[bool] = False  # whether columns that follow each other by one rule are enough
    steps: ClassVar[int]  # of the grid of starts, along each exponent
    by_run: ClassVar[tuple[str, ...]]  # attributes whose first axis is the runs
    delta: ClassVar[float] = 1e-3  # residual of the target beyond which a run pulls no more (Hoffmann et al. 2022)
    normalised: ClassVar[bool] = False  # whether the loss may be negative, and is fitted itself, not its logarithm

    low: np.ndarray  # [p], bounds of theta
    high: np.ndarray

    @abstractmethod
    def __init__(self, variables: Sequence[np.ndarray], loss: np.ndarray) -> None:
        """variables: [n] each, positive; loss: [n]."""

    def over(self, rows: np.ndarray) -> Self:
        """The same coordinates over some of the runs, given by their numbers."""
        some = copy(self)
        for name in self.by_run:
            setattr(some, name, getattr(self, name)[rows])
        return some

    @classmethod
    def target(cls, loss: np.ndarray) -> np.ndarray:
        """What is fitted: [n]."""
        return loss if cls.normalised else np.log(loss)

    @abstractmethod
    def predict(self, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """theta [B, p] -> target [B, n] at the runs, and its derivatives [B, n, p]."""

    @abstractmethod
    def starts(self, steps: int, weights: np.ndarray) -> np.ndarray:
        """[B, S, p]: where the search begins, for each row of weights [B, n]."""

    @abstractmethod
    def near(self, theta: np.ndarray) -> np.ndarray:
        """[S, p]: where the search of a replicate begins, given the constants [p] of the fit."""

    @abstractmethod
    def values(self, theta: np.ndarray) -> np.ndarray:
        """[B, p]: the constants as papers state them."""

    @classmethod
    @abstractmethod
    def loss_at(cls, values: np.ndarray, variables: Sequence[np.ndarray]) -> np.ndarray:
        """Loss [B, m] at points, [m] each of the variables, by constants [B, p]."""

    def unseen(self, theta: np.ndarray) -> list[str]:
        """Along which axes these runs do not say how the loss falls: a law of them has no best size. theta: [p]."""
        return []


def soft_maximum(*lines: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
    """log of the sum of the lines' exponentials, [B, n], and each line's share in it."""
    top = lines[0]
    for line in lines[1:]:
        top = np.maximum(top, line)
    parts = [np.exp(line - top) for line in lines]
    total = sum(parts[1:], parts[0])
    return top + np.log(total), [part / total for part in parts]


def side_by_side(columns: Sequence[np.ndarray]) -> np.ndarray:
    """[B, n] each -> [B, n, p], held so that the solver's sums run along n."""
    return np.stack(columns, axis=1).transpose(0, 2, 1)
