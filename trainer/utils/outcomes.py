"""How a run ends: in one word of its files, and in the exit code of its command."""

from __future__ import annotations

from enum import IntEnum, StrEnum


class ExitCode(IntEnum):
    """What a command's caller hears."""

    DONE = 0
    FAILED = 1
    BAD_INPUT = 2
    HALTED = 3  # by a policy: to start again would end the same
    STOPPED = 75  # before the end, and can be resumed (EX_TEMPFAIL)


DONE, FAILED, BAD_INPUT, HALTED, STOPPED = ExitCode


class Status(StrEnum):
    """What events, ledger and tables call the end of a run."""

    FINISHED = "finished"
    STOPPED = "stopped"
    FAILED = "failed"
    HALTED = "halted"
    INTERRUPTED = "interrupted"  # its process could say nothing any more


SAID = (Status.FINISHED, Status.STOPPED, Status.FAILED, Status.HALTED)  # by the loop, as its last event
EXIT_CODES = dict(zip(SAID, (ExitCode.DONE, ExitCode.STOPPED, ExitCode.FAILED, ExitCode.HALTED), strict=True))
TRAINED = tuple(EXIT_CODES.values())  # of a command that came as far as training: there is something to report
