"""The command `isoflop`, also as `python -m isoflop`."""

from __future__ import annotations

import sys

# Nothing is imported above that takes time: a signal may come meanwhile.


def run() -> None:
    """Run the command and leave; exit code 2 and one line where a foreign package hides one of ours."""
    try:
        from isoflop.own_packages import require_own_packages

        require_own_packages()
        from trainer.__main__ import run as run_command
    except ImportError as error:
        print(f"isoflop: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("isoflop: interrupted", file=sys.stderr)
        sys.exit(130)

    run_command()


if __name__ == "__main__":
    run()
