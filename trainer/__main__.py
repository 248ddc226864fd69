"""`python -m trainer` is `isoflop`."""

from __future__ import annotations

import contextlib
import os
import sys

# Nothing of ours is imported above: a signal may come while it is read.


def run() -> None:
    """Run the command and leave at once: library threads must not turn a finished run into an abort."""
    try:
        code = _code()
    except KeyboardInterrupt:  # before anything listened, or once more while the first one is told
        print("isoflop: interrupted", file=sys.stderr)
        code = 130
    with contextlib.suppress(OSError):  # its reader is gone
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)


def _code() -> int:
    """The exit code of the command, however it ends."""
    from trainer.training.faults.signals import behind, interrupt_on_signals, interrupted

    interrupt_on_signals()
    from trainer.utils.errors import UserError
    from trainer.utils.outcomes import ExitCode

    try:
        from trainer.cli.main import main

        return main()
    except UserError as error:  # what stands in trainer/descriptions does not fit together
        for line in str(error).splitlines():
            print(f"isoflop: {line}", file=sys.stderr)
        return ExitCode.BAD_INPUT
    except BaseException as error:
        if (interruption := behind(error)) is None:
            raise
        return interrupted(interruption)


if __name__ == "__main__":
    run()
