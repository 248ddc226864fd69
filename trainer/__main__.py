"""`python -m trainer` is `isoflop`."""

from __future__ import annotations

import contextlib
import os
import sys

from trainer.cli import main
from trainer.faults.signals import interrupt_on_signals


def run() -> None:
    """Run the command and leave at once: library threads must not turn a finished run into an abort."""
    interrupt_on_signals()
    code = main()
    with contextlib.suppress(OSError):  # nobody reads it any more
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    run()
