"""The one error that every public function of this package raises for bad input."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches


class KernelInputError(ValueError):
    """One line: which argument, what was given, what is wanted."""


def refuse(function: str, argument: str, got: object, wanted: str) -> KernelInputError:
    return KernelInputError(f"{function}: {argument} is {got}, wanted {wanted}")


def refuse_name(function: str, argument: str, got: object, allowed: Sequence[str]) -> KernelInputError:
    near = get_close_matches(str(got), allowed, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return KernelInputError(f"{function}: {argument} is {got!r}, wanted one of {', '.join(allowed)}{hint}")


def shape(tensor: object) -> str:
    """`[2, 8, 4, 64]`: how a shape is written in a message."""
    return str(list(tensor.shape))  # type: ignore[attr-defined]
