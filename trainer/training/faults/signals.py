"""Signals become a request to stop, which the loop obeys at the next step boundary.

A signal that was ignored when the command started stays ignored: HUP under nohup, INT and QUIT of a background job.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, ClassVar, NoReturn

from trainer.utils.outcomes import STOPPED

if TYPE_CHECKING:
    from trainer.run_folder import RunFolder

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR2)
FROM_KEYBOARD = (signal.SIGINT, signal.SIGQUIT)
AGAIN_SECONDS = 0.05
ECHO_SECONDS = 1.0  # a terminal and a wrapper may each pass on the same key press
LAUNCHED = "ISOFLOP_LAUNCHED"  # variable: process id of the agent that started this rank
BEGUN = "begun"  # file beside that one: the ranks have something to save
STOP_FILE = "ISOFLOP_STOP_FILE"  # variable: where the agent of this rank writes the signal that it was sent


def heeded() -> list[signal.Signals]:
    """The stop signals that this process does not ignore."""
    return [number for number in STOP_SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]


class StopRequest:
    """Remembers the first stop signal of this process, or the one that its agent was sent.

    Further signals change nothing: a terminal that closes sends several, a scheduler sends another one before it kills.
    Only INT or QUIT twice, with more than a second between them, is a person who does not want to wait: the process
    ends at once and says how to go on with `run`. A rank under an agent leaves that to the agent: a slow step may make
    it hear an echo much later.

    at_once: until `begin` there is nothing to save, and a signal raises Interrupted; nor is there after it, of a run
    that is not `saves`. verb: of the command that goes on.
    """

    pressed: ClassVar[float | None] = None  # when a key was first pressed in this process, monotonic

    def __init__(
        self, run: Path | None = None, verb: str = "train", *, at_once: bool = False, saves: bool = True
    ) -> None:
        self._run, self._verb, self._saves = run, verb, saves
        self.interrupted: int | None = None  # the signal for which Interrupted was raised, whatever came of it
        self._at_once, self._over = at_once, False
        self._signal: str | None = None
        self._file = Path(os.environ[STOP_FILE]) if saves and STOP_FILE in os.environ else None
        for number in heeded():
            signal.signal(number, self._heard)

    def begin(self) -> None:
        """From now on there is something to save, if ever."""
        self._at_once = not self._saves
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.with_name(BEGUN).touch()

    def end(self) -> None:
        """From now on there is only the report to be written."""
        self._over = True

    def _heard(self, number: int, frame: FrameType | None) -> None:
        if self._at_once:
            self.interrupted = number
            raise Interrupted(number)
        first = self._signal is None
        self._signal = self._signal or signal.Signals(number).name
        if number not in FROM_KEYBOARD or self._file is not None:
            return
        now = time.monotonic()
        if StopRequest.pressed is not None and now - StopRequest.pressed > ECHO_SECONDS:
            say_at_once(f"{signal.Signals(number).name} again: {self._ways_on()}")
            self._leave(128 + number)
        if first and self._run is not None and not self._over:
            say_at_once(f"{signal.Signals(number).name}: stops after a checkpoint; once more ends at once")
        StopRequest.pressed = StopRequest.pressed or now

    def _ways_on(self) -> str:
        if self._run is None:
            return "ended at once"
        if self._over:
            from trainer.run_folder import RunFolder  # not above: this module is read before everything else

            return f"the report was not written; later: {RunFolder(self._run).command('report', str(self._run))}"
        return go_on_with(self._run, self._verb)

    def _leave(self, code: int) -> NoReturn:
        os._exit(code)

    @property
    def signal(self) -> str | None:
        """Name of the signal, or null where no stop was asked for."""
        if self._signal is None and self._file is not None:
            with contextlib.suppress(OSError):
                self._signal = self._file.read_text() or None
        return self._signal

    def __bool__(self) -> bool:
        return self.signal is not None


def say_at_once(text: str) -> None:
    """A line on standard error past Python's buffers, which a signal may have found at work."""
    with contextlib.suppress(OSError):
        os.write(2, f"isoflop: {text}\n".encode(errors="replace"))


class Interrupted(KeyboardInterrupt):
    """A stop signal where there is nothing to save. `advice`: how to go on, where a folder was frozen."""

    def __init__(self, number: int, advice: str = "") -> None:
        super().__init__(number)
        self.number, self.advice = number, advice


_last: Interrupted | None = None  # that a signal of this process has raised


def interrupt_on_signals() -> None:
    """From now on a stop signal raises Interrupted, as Ctrl-C does, so that what was begun is tidied up."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        global _last
        _last = Interrupted(number)
        raise _last

    for number in heeded():
        signal.signal(number, interrupt)
    sys.unraisablehook = _interrupt_again


def _interrupt_again(lost: sys.UnraisableHookArgs) -> None:
    """A stop signal that the interpreter dropped, as in a destructor or a callback, comes again."""
    if isinstance(lost.exc_value, Interrupted):
        again = threading.Timer(AGAIN_SECONDS, os.kill, (os.getpid(), lost.exc_value.number))
        again.daemon = True
        again.start()
    else:
        sys.__unraisablehook__(lost)


def behind(error: BaseException) -> KeyboardInterrupt | None:
    """The interruption that an error comes of: itself, or one that a library took for a failure of its own."""
    return error if isinstance(error, KeyboardInterrupt) else _last


@contextlib.contextmanager
def resumable(folder: RunFolder, verb: str = "train") -> Iterator[None]:
    """An interruption in here ends the command as a stop where the folder is frozen by then: the run can go on."""
    try:
        yield
    except KeyboardInterrupt as error:
        if folder.config.is_file():
            raise Interrupted(getattr(error, "number", signal.SIGINT), go_on_with(folder.path, verb)) from None
        raise


def interrupted(error: KeyboardInterrupt) -> int:
    """Say in one line that the command was interrupted, where the terminal still takes it; returns its exit code."""
    number = getattr(error, "number", signal.SIGINT)
    advice = getattr(error, "advice", "")
    by = "" if number == signal.SIGINT else f" by {signal.Signals(number).name}"
    with contextlib.suppress(OSError):
        print(f"isoflop: {advice or f'interrupted{by}'}", file=sys.stderr, flush=True)
    return STOPPED if advice else 128 + number


def go_on_with(run: Path, verb: str = "train") -> str:
    """What to tell of a run that was stopped."""
    from trainer.run_folder import RunFolder  # not above: this module is read before everything else

    return f"stopped before the end; go on with: {RunFolder(run).command(verb, f'resume={run}')}"


@contextlib.contextmanager
def passed_on(process: int) -> Iterator[list[int]]:
    """Pass stop signals on to another process as TERM meanwhile, the second press of a key as KILL; yields them."""
    before = {number: signal.getsignal(number) for number in heeded()}
    heard: list[int] = []
    pressed: list[float] = []

    def pass_on(number: int, frame: FrameType | None) -> None:
        heard.append(number)
        if number in FROM_KEYBOARD:
            pressed.append(time.monotonic())
        insists = number in FROM_KEYBOARD and pressed[-1] - pressed[0] > ECHO_SECONDS
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL if insists else signal.SIGTERM)

    for number in before:
        signal.signal(number, pass_on)
    try:
        yield heard
    finally:
        for number, handler in before.items():
            signal.signal(number, handler or signal.SIG_DFL)


def signal_defaults() -> None:
    """Undo in a forked process what its parent has done about stop signals."""
    for number in heeded():
        signal.signal(number, signal.SIG_DFL)


def die_with_parent(parent: int | None = None) -> None:
    """A rank must not train on when the process that started it was killed. `parent`: the id of that process, where it
    may be gone by now because this one has imported its modules first."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    if parent is not None and os.getppid() != parent:
        os._exit(128 + signal.SIGKILL)
