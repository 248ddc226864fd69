"""The command `isoflop`, also as `python -m isoflop`."""

from __future__ import annotations

import sys

from isoflop.own_packages import require_own_packages


def run() -> None:
    """Run the command and leave; exit code 2 and one line where a foreign package hides one of ours."""
    try:
        require_own_packages()
    except ImportError as error:
        print(f"isoflop: {error}", file=sys.stderr)
        sys.exit(2)
    from trainer.__main__ import run as run_command

    run_command()


if __name__ == "__main__":
    run()
