"""Work in a process of its own."""

from __future__ import annotations

import contextlib
import os
import sys
import traceback
from collections.abc import Callable
from typing import NoReturn

from trainer.meter.costs import metered_child
from trainer.training.faults.signals import Interrupted, die_with_parent, interrupt_on_signals, interrupted, passed_on
from trainer.utils.errors import UserError, code_of, tell
from trainer.utils.outcomes import FAILED


def apart(one: Callable[[], int]) -> int:
    """Run in a process of its own, so that every run starts from the same clean state; returns its exit code.

    Raises Interrupted where this process was sent a stop signal meanwhile, which the other one was told of and obeyed.
    """
    pid = os.fork()
    if pid == 0:
        os.setsid()  # what a terminal sends goes to the parent, which passes it on
        die_with_parent()

        def work() -> int:
            interrupt_on_signals()
            return one()

        exit_with(work)
    with passed_on(pid) as heard:
        status = os.waitpid(pid, 0)[1]
    if heard:
        raise Interrupted(heard[0])
    return os.waitstatus_to_exitcode(status)


def exit_with(one: Callable[[], int]) -> NoReturn:
    """End this process with the exit code that `one` returns, or that stands for what it raises and is shown here."""
    code: int = FAILED
    try:
        code = metered_child(one)
    except UserError as error:
        tell(error)
        code = code_of(error)
    except KeyboardInterrupt as error:
        code = interrupted(error)
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)  # library threads must not turn a finished run into an abort
