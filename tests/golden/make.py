"""Make golden fixtures anew: `python -m tests.golden.make <kind> ...`, or `all`.

From the root of the repository, with the environment's Python. See README.md beside this file for when that is right.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from tests.golden import curves, folders, interface, orders, outputs, science, text

KINDS: dict[str, Callable[[Path], None]] = {
    "text": lambda folder: text.make(),
    "curves": curves.make,
    "orders": orders.make,
    "science": science.make,
    "runs": folders.make,
    "answers": folders.make_answers,
    "interface": interface.make,
    "outputs": outputs.make,
}


def main(arguments: list[str]) -> int:
    kinds = [*KINDS] if arguments == ["all"] else arguments
    if not kinds or any(kind not in KINDS for kind in kinds):
        print(f"name what to make: {', '.join(KINDS)}, or all; got {' '.join(arguments) or 'nothing'}", file=sys.stderr)
        return 2
    for kind in kinds:
        with tempfile.TemporaryDirectory() as folder:
            KINDS[kind](Path(folder).resolve())
        print(f"made: {kind}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
