"""What commands spend outside of the ranks of a run: preparing text, evaluating, calibrating, starting, reporting.

A command that works has one record, `cost-<verb>-<time>-<pid>.jsonl`, once it has said where it belongs: in the folder
of the run that it works on, else in `costs` of the root. Its lines are those of a run's energy files, from the start of
the process on, and an `end` with the totals; `trainer/books/cost_records.py` reads them. While a rank trains in this
process its own meter reads, and the record rests.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from trainer.books.cost_records import FOLDER, VERSION, totals
from trainer.books.energy import fold
from trainer.books.records import read_lines
from trainer.config import Config
from trainer.meter.instrument import Reading
from trainer.meter.meter import Meter, estimates, gpu_instrument
from trainer.meter.nvml import Gpu
from trainer.meter.process import Earlier, begin, claim, started
from trainer.meter.rapl import Host, host_counters
from trainer.utils.errors import UserError, code_of
from trainer.utils.outcomes import DONE, STOPPED, ExitCode
from trainer.utils.secrets import without_secrets

Place = tuple[Path, Config]  # a folder, and by which configuration what is spent is metered and priced
# Their ranks, or the commands that they start, read the host's counters.
LAUNCHING = ("train", "launch", "sweep", "finetune", "grid", "lab", "preflight", "profile")
REFUSED_SECONDS = 60.0  # within which a command that is refused did no work


def metered(
    verb: str,
    words: Sequence[str],
    work: Callable[[], int],
    *,
    whole: bool = False,
    place: Callable[[], Place | None] = lambda: None,
    early: bool = False,
    counters: bool | None = None,
) -> int:
    """The exit code of `work`, a command of this process; what it spends is written down where `into` says, or else
    where `place` does.

    whole: from the process's start on, of a process that does nothing else. early: `place` is asked before the work
    begins, so that a command that is killed has a record; else, and where it knew of none, when the work is done.
    counters: whether this process reads the host's; by default unless it starts others that do.
    """
    global _current
    reads = verb not in LAUNCHING if counters is None else counters
    outer, record, code = _current, _Record(verb, words, whole, reads), None
    _current = record
    try:
        if early:
            record.open_at(place)
        code = work()
        if code != ExitCode.BAD_INPUT:
            record.open_at(place)
        return code
    except UserError as error:
        if code_of(error) == ExitCode.BAD_INPUT:
            record.forget()
        raise
    finally:
        _current = outer
        record.close(code)


def metered_child(work: Callable[[], int]) -> int:
    """The same in a process that was forked off a command's: its share has a record of its own."""
    parent = _current
    return work() if parent is None else metered(parent.verb, parent.words, work, whole=True)


def into(folder: Path, config: Config) -> None:
    """The command works on this run; where it does so on none, see `into_root`. The first word counts."""
    if (record := _own()) is not None:
        record.open(folder, config)


def into_root(config: Config) -> None:
    """The command works for all runs of the root."""
    into(Path(config.run.root) / FOLDER, config)


def for_now(config: Config) -> None:
    """The command is about to work on a run whose folder is not there yet: until `into` names it the record lies with
    the root, so that of one that is killed meanwhile it stays."""
    if (record := _own()) is not None:
        record.open(Path(config.run.root) / FOLDER, config, moves=True)


@contextlib.contextmanager
def phase(name: str) -> Iterator[None]:
    """What the command spends in here belongs to `name`."""
    record = _own()
    before = record.phase(name) if record else ""
    try:
        yield
    finally:
        if record:
            record.phase(before)


def uses(gpu: Gpu | None) -> None:
    """The command computes on this GPU from now on; None: on none."""
    if gpu is not None and (record := _own()) is not None:
        record.uses(gpu)


@contextlib.contextmanager
def handed_over() -> Iterator[None]:
    """A rank works in this process in here, and its meter reads what that takes from the first moment on."""
    record = _own()
    if record:
        record.pause()
        begin(reads_host=True, whole=False)
    try:
        yield
    finally:
        if record:
            claim()
            record.resume()


class _Record:
    """One command's."""

    def __init__(self, verb: str, words: Sequence[str], whole: bool, reads: bool) -> None:
        self.verb, self.words, self.pid, self._reads = verb, words, os.getpid(), reads
        self._host = host_counters() if reads else Host([], "its ranks read counters")
        now = time.monotonic()
        self._began = started() if whole else now
        self._start = datetime.now(UTC).timestamp() - (now - self._began)
        self._marks = [(self._began, "work", 0.0 if whole else time.process_time())]  # begin of a phase, CPU seconds
        self._first = now, [one.read(now) for one in self._host.found]
        self._meters: list[Meter] = []
        self._config: Config | None = None
        self._file, self._moves = Path(), False
        self._made = list[Path]()  # folders that were not there, the innermost first

    def open(self, folder: Path, config: Config, *, moves: bool = False) -> None:
        """Begin it in this folder, unless it was begun. moves: where it can be written there, and until the next word
        says where it belongs."""
        if self._meters:
            if self._moves and not moves:
                self._move(folder)
            return
        made = [one for one in (folder, *folder.parents) if not one.exists()]
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError:  # who writes says what is wrong
            if moves:
                return
        stamp = datetime.fromtimestamp(self._start, UTC)
        self._config, self._file = config, folder / f"cost-{self.verb}-{stamp:%Y%m%dT%H%M%SZ}-{self.pid}.jsonl"
        self._made, self._moves = made, moves
        rank = int(not self._reads)  # what is stated of a host is the ranks' to count
        found = self._host.found or estimates(config, rank, str(self.pid), self._host.why)
        meter = Meter(config, folder, found=found, file=self._file, phase=self._marks[-1][1])
        meter.start(
            self._before(meter, self._first),
            cost=VERSION,
            verb=self.verb,
            command=[without_secrets(word) for word in self.words],
            project=config.run.project,
            stated=config.model_dump(mode="json", include={"site", "meter"}, exclude_defaults=True),
            start=_text(self._start),
        )
        self._meters = [meter]

    def _move(self, folder: Path) -> None:
        """Let it go on in another folder of the root."""
        there, before, self._moves = folder / self._file.name, self._made, False
        self._made = [one for one in (folder, *folder.parents) if not one.exists()]
        with contextlib.suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            self._meters[0].move(there)
            self._file = there
            for one in before:
                one.rmdir()  # unless something else is in it

    def open_at(self, place: Callable[[], Place | None]) -> None:
        """Open it where this says, unless somebody said it before, or it knows of no place."""
        if self._meters:
            return
        with contextlib.suppress(UserError, OSError):  # whoever works there says what is wrong
            if (found := place()) is not None and _can_be_written(found[0]):
                self.open(*found)

    def _before(self, meter: Meter, first: tuple[float, list[Reading]]) -> list[Earlier]:
        """What is known of the time before the record was opened: of the host from a first reading, of this process
        from its begin, by phase."""
        if self._host.found:
            return [Earlier(first[0], "work", [one.joules for one in first[1]])]
        phases = ["", *(name for _, name, _ in self._marks)]
        return [
            Earlier(when, ended, meter.values_at(when, cpu), cpu)
            for (when, _, cpu), ended in zip(self._marks, phases, strict=False)
        ]

    def phase(self, name: str) -> str:
        """Begin a phase; the one before."""
        before = self._marks[-1][1]
        self._marks.append((time.monotonic(), name, time.process_time()))
        for meter in self._meters:
            meter.phase(name)
        return before

    def uses(self, gpu: Gpu) -> None:
        if self._config is not None and len(self._meters) == 1:
            found, now = [gpu_instrument(gpu)], self._marks[-1][1]
            meter = Meter(self._config, self._file.parent, found=found, file=self._file, phase=now)
            meter.start(cost=VERSION)
            self._meters.append(meter)

    def pause(self) -> None:
        for meter in self._meters:
            meter.pause()

    def resume(self) -> None:
        for meter in self._meters:
            meter.resume()

    def forget(self) -> None:
        """Leave nothing behind of a command that was refused before it did any work."""
        if not self._meters or self.pid != os.getpid() or time.monotonic() - self._began > REFUSED_SECONDS:
            return
        for meter in self._meters:
            meter.close()
        self._meters = []
        with contextlib.suppress(OSError):
            self._file.unlink(missing_ok=True)
            for folder in self._made:
                folder.rmdir()  # unless something else is in it

    def close(self, code: int | None) -> None:
        if not self._meters or self.pid != os.getpid():
            return
        for meter in self._meters:
            meter.close()
        lines = read_lines(self._file) if self._file.is_file() else []
        outcome = "done" if code == DONE else "stopped" if code == STOPPED else "failed"
        end: dict[str, Any] = {"kind": "end", "segment": self._meters[0].segment, "end": _text(time.time())}
        end |= {"seconds": round(time.monotonic() - self._began, 3), "outcome": outcome}
        self._meters[0].write(end | totals(fold(lines).account()))


def _can_be_written(folder: Path) -> bool:
    """Whether a record may lie there: others' runs can be compared, too, where nothing may be written."""
    there = next(one for one in (folder, *folder.absolute().parents) if one.exists())
    return os.access(there, os.W_OK)


def _text(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%SZ}"


def _own() -> _Record | None:
    """The record of this process's command; a forked child has none."""
    return _current if _current is not None and _current.pid == os.getpid() else None


_current: _Record | None = None
