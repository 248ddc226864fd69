"""Templates of task files, which anybody may have written: Jinja without access to Python, within bounded work."""

from __future__ import annotations

import contextlib
import resource
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import FrameType
from typing import Any

STEPS = 200_000  # lines of Python that one rendering may run; a template of a task runs some hundreds
DIGITS = 4_000  # binary digits of a product or a power
MEMORY = 1 << 28  # bytes that one rendering may add


class TooMuchWork(Exception):
    """A template that loops, calls itself or multiplies beyond the limits."""


def render(template: str, fields: Mapping[str, Any]) -> str:
    """The text of a template over the fields of a row. Raises whatever the template raises, and TooMuchWork."""
    from jinja2 import StrictUndefined
    from jinja2.sandbox import SandboxedEnvironment

    class Bounded(SandboxedEnvironment):
        intercepted_binops = frozenset(("*", "**"))

        def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
            if isinstance(left, int) and isinstance(right, int):
                digits = left.bit_length() * (right if operator == "**" else 1) + right.bit_length()
                if digits > DIGITS:
                    raise TooMuchWork(f"a number of more than {DIGITS:,} binary digits")
            return super().call_binop(context, operator, left, right)

    environment = Bounded(undefined=StrictUndefined, keep_trailing_newline=True, finalize=_not_null)
    with _bounded_memory(), _bounded_steps():
        return environment.from_string(template).render(**fields)


def _not_null(value: Any) -> Any:
    """What a template writes."""
    if value is None:
        raise ValueError("a field that is null")
    return value


@contextlib.contextmanager
def _bounded_steps() -> Iterator[None]:
    """Count lines of Python in place of seconds, so that the same template fails on every host or on none."""
    left, before = STEPS, sys.gettrace()

    def count(frame: FrameType, event: str, argument: Any) -> Any:
        nonlocal left
        left -= 1
        if left < 0:
            raise TooMuchWork(f"it runs more than {STEPS:,} steps")
        return count

    sys.settrace(count)
    try:
        yield
    finally:
        sys.settrace(before)


@contextlib.contextmanager
def _bounded_memory() -> Iterator[None]:
    """A lower limit of this process's address space meanwhile: what would not fit is a MemoryError."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + MEMORY
        resource.setrlimit(resource.RLIMIT_AS, (limit if soft < 0 else min(limit, soft), hard))
    except (OSError, ValueError):  # another system; the steps are counted there too
        yield
        return
    try:
        yield
    except MemoryError:
        raise TooMuchWork(f"it takes more than {MEMORY >> 20} MiB of memory") from None
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
