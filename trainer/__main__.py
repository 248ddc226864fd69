"""`python -m trainer` is `isoflop`."""

from __future__ import annotations

import os
import sys

from trainer.cli import main


def run() -> None:
    """Run the command and leave at once: library threads must not turn a finished run into an abort."""
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    run()
