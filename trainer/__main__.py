"""`python -m trainer` is `isoflop`."""

from __future__ import annotations

import contextlib
import os
import sys

from trainer.training.faults.signals import interrupt_on_signals, interrupted
from trainer.utils.errors import UserError, tell
from trainer.utils.outcomes import ExitCode


def run() -> None:
    """Run the command and leave at once: library threads must not turn a finished run into an abort."""
    interrupt_on_signals()
    try:
        from trainer.cli.main import main  # not above: a signal may come while this is read

        code = main()
    except UserError as error:  # what stands in trainer/descriptions does not fit together
        tell(error)
        code = ExitCode.BAD_INPUT
    except KeyboardInterrupt as error:
        code = interrupted(error)
    with contextlib.suppress(OSError):  # its reader is gone
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    run()
