"""`python -m trainer` is `isoflop`."""

from __future__ import annotations

import contextlib
import io
import os
import sys

# Nothing of ours is imported above: a signal may come while it is read.


def run() -> None:
    """Run the command and leave at once: library threads must not turn a finished run into an abort."""
    _open_streams()
    try:
        code = _code()
    except KeyboardInterrupt:  # before anything listened, or once more while the first one is told
        print("isoflop: interrupted", file=sys.stderr)
        code = 130
    try:
        sys.stdout.flush()
    except BrokenPipeError:  # its reader has seen enough
        pass
    except OSError as error:
        with contextlib.suppress(OSError):
            print(f"isoflop: standard output: {error.strerror}", file=sys.stderr)
        code = code or 1
    with contextlib.suppress(OSError):
        sys.stderr.flush()
    os._exit(code)


def _open_streams() -> None:
    """A stream that was closed (`>&-`) becomes /dev/null, and no file takes its number. What standard output cannot
    spell is escaped, as on standard error."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    sys.stdout = sys.stdout or open(1, "w", closefd=False)  # noqa: SIM115 - until the process ends
    sys.stderr = sys.stderr or open(2, "w", closefd=False)  # noqa: SIM115
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")


def _code() -> int:
    """The exit code of the command, however it ends."""
    from trainer.training.faults.signals import behind, interrupt_on_signals, interrupted

    interrupt_on_signals()
    from trainer.utils.errors import UserError, tell
    from trainer.utils.outcomes import ExitCode

    try:
        from trainer.cli.main import main

        return main()
    except UserError as error:  # what stands in trainer/descriptions does not fit together
        tell(error)
        return ExitCode.BAD_INPUT
    except BaseException as error:
        if (interruption := behind(error)) is None:
            raise
        return interrupted(interruption)


if __name__ == "__main__":
    run()
