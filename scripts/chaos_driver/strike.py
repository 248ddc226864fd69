"""One fault: an attempt that is started, hit in the wanted phase, and judged by how it ended."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from scripts.chaos_driver.attempt import Attempt
from scripts.chaos_driver.bench import ATTEMPT_SECONDS, ORPHAN_SECONDS, Bench, Run, is_intact, last_words
from scripts.chaos_driver.disks import SmallDisk, small_disk
from scripts.chaos_driver.phases import Watch
from scripts.chaos_driver.plan import RANKS, SIGNALS, Fault

LENGTH = {
    "setup": 1.0,
    "tokenizer": 0.4,
    "encoding": 0.6,
    "loading": 3.0,
    "steps": 0.1,
    "evaluation": 0.1,
    "report": 1.2,
}
END_SECONDS = 90.0  # from a fault to the launcher's end
PAUSE_SECONDS = 2.0
STOPPED, FAILED = 75, 1  # exit codes


@dataclass
class Struck:
    """What a fault did."""

    fault: Fault
    hit: str | None = None  # the phase that was really hit; None where the attempt ended before
    target: str = ""
    code: int | None = None
    seconds: float = 0.0
    problems: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)  # temporary files that a launcher killed with -9 could not remove
    frozen: bool = False  # the run had begun before
    finished: bool = False  # the run came to its end
    console: str = ""


def strike(bench: Bench, run: Run, fault: Fault) -> Struck:
    """Start the run, hit it, and look at what is left."""
    began = time.monotonic()
    struck = Struck(fault, target=fault.target, frozen=run.is_frozen)
    if fault.phase == "between":
        _damage(bench, run, struck)
    else:
        bench.empty_cache(fault.phase)
        with contextlib.ExitStack() as stack:
            disk = stack.enter_context(small_disk(_place(bench, run, fault))) if fault.kind == "disk" else None
            _attempt(bench, run, struck, lambda attempt, watch: _hit(attempt, watch, run, struck, disk))
    left = bench.leftovers()
    if struck.code == -signal.SIGKILL:  # no process was left to clear up
        struck.left = left
    else:
        struck.problems += left
    struck.seconds = time.monotonic() - began
    return struck


def _attempt(bench: Bench, run: Run, struck: Struck, meanwhile: Callable[[Attempt, Watch], None]) -> None:
    """An attempt to which something happens; how it began and how it ended is judged here."""
    fault = struck.fault
    step, damaged = run.newest_intact()
    with bench.attempt(run, fault.layout, fault.by_name) as (attempt, watch):
        struck.console = watch.console
        meanwhile(attempt, watch)
        if struck.hit is None and attempt.code is None:
            return  # missed; what is left is ended
        if not attempt.ended(END_SECONDS):
            struck.problems.append(f"still alive {END_SECONDS:.0f} s later: {last_words(watch)}")
            return
        watch.phase()
        struck.code, struck.finished = attempt.code, watch.event("finished") is not None
        struck.problems += [f"orphan: {name}" for name in attempt.orphans(ORPHAN_SECONDS)]
        struck.problems += _began_wrongly(watch, step, damaged)
        if struck.hit is None and attempt.code != 0:
            struck.problems.append(f"ended with {attempt.code} before it was hit: {last_words(watch)}")


def _began_wrongly(watch: Watch, step: int | None, damaged: int) -> list[str]:
    """A line where the attempt did not go on from the newest intact checkpoint, or did not tell of damaged ones."""
    first = watch.event("start", "resume")
    if first is None:
        return []
    told = sum(event["name"] == "damage" for event in watch.events)
    lines = [] if first["step"] == (step or 0) else [f"went on from step {first['step']} instead of {step or 0}"]
    return lines + ([] if told == damaged else [f"{damaged} checkpoints are damaged, {told} were told"])


# --- hitting ---------------------------------------------------------------------------------------------------------


def _hit(attempt: Attempt, watch: Watch, run: Run, struck: Struck, disk: SmallDisk | None) -> None:
    fault = struck.fault
    if not reach(attempt, watch, fault):
        return
    before = watch.phase()
    if disk is not None:
        _fill(attempt, watch, struck, disk)
    elif fault.kind == "pause":
        _pause(attempt, watch, struck)
    else:
        number = signal.SIGKILL if fault.kind == "kill" else signal.Signals[f"SIG{fault.kind}"]
        struck.target = attempt.send(fault.target, number, fault.moment)
    after = watch.phase()
    struck.hit = before if disk is not None or fault.kind == "pause" else after
    attempt.ended(END_SECONDS)
    watch.phase()
    struck.problems += judge(struck, attempt.code, watch, run)


def reach(attempt: Attempt, watch: Watch, fault: Fault) -> bool:
    """Wait until the attempt is where the fault belongs. False: it is over, or past that."""
    delay = fault.moment * LENGTH.get(fault.phase, 0.0)
    comes_again = fault.phase in RANKS[1:]

    def there() -> bool:
        if watch.phase() != fault.phase or (fault.kind in SIGNALS and not attempt.listens()):
            return False
        return len(watch.made) >= fault.steps * comes_again and attempt.has(fault.target)

    while attempt.wait(there, ATTEMPT_SECONDS):
        time.sleep(delay)
        if watch.phase() == fault.phase and attempt.code is None:
            return True
        if not comes_again:
            return False
        delay /= 2
    return False


def _place(bench: Bench, run: Run, fault: Fault) -> Path:
    return {"cache": bench.cache, "run": run.folder, "checkpoints": run.checkpoints}[fault.target]


def _fill(attempt: Attempt, watch: Watch, struck: Struck, disk: SmallDisk) -> None:
    """Fill the disk until a checkpoint could not be written. Then, by `moment`, the run is stopped on a full disk, or
    the disk is freed, and it is stopped when it has saved again."""
    fault = struck.fault
    disk.fill()
    if fault.phase not in ("steps", "saving"):
        return
    refused = "checkpoint could not be written"
    if not attempt.wait(lambda: watch.phase() == "report" or watch.says(refused), END_SECONDS):
        struck.problems.append(f"nothing was told of the full disk: {last_words(watch)}")
    if fault.target == "checkpoints" and fault.moment < 0.5:
        disk.free()
        said = len(watch.said)
        if not attempt.wait(lambda: watch.phase() == "report" or _saved(watch, said), END_SECONDS):
            struck.problems.append(f"no checkpoint after the disk was freed: {last_words(watch)}")
    attempt.send("launcher", signal.SIGTERM)


def _saved(watch: Watch, since: int) -> bool:
    return any(": saved step-" in line for line in watch.said[since:])


def _pause(attempt: Attempt, watch: Watch, struck: Struck) -> None:
    """A rank stands still for a while; the run goes on afterwards, and is stopped after one more step."""
    made = len(watch.made)
    struck.target = attempt.send(struck.fault.target, signal.SIGSTOP, struck.fault.moment)
    time.sleep(PAUSE_SECONDS)
    attempt.send(struck.fault.target, signal.SIGCONT, struck.fault.moment)
    if not attempt.wait(lambda: watch.phase() == "report" or len(watch.made) > made + 1, END_SECONDS):
        struck.problems.append(f"no step after the pause: {last_words(watch)}")
    attempt.send("launcher", signal.SIGTERM)


def _damage(bench: Bench, run: Run, struck: Struck) -> None:
    """Damage the newest checkpoint; the next attempt tells of it, goes on from another one, and is stopped."""
    if run.newest_intact()[0] is None:
        saved = replace(struck.fault, target="launcher")
        _attempt(bench, run, Struck(saved), lambda attempt, watch: _stop_when(attempt, watch, lambda: _saved(watch, 0)))
    if run.newest_intact()[0] is None:
        struck.problems.append("there is no checkpoint to damage")
        return
    struck.target = f"{struck.fault.target} {run.damage_newest(struck.fault.target, struck.fault.moment)}"
    struck.hit = "between"
    begun = ("start", "resume")
    _attempt(
        bench,
        run,
        struck,
        lambda attempt, watch: _stop_when(attempt, watch, lambda: watch.event(*begun) is not None, struck, run),
    )


def _stop_when(
    attempt: Attempt, watch: Watch, ready: Callable[[], bool], struck: Struck | None = None, run: Run | None = None
) -> None:
    attempt.wait(lambda: watch.phase() == "report" or ready(), ATTEMPT_SECONDS)
    attempt.send("launcher", signal.SIGTERM)
    attempt.ended(END_SECONDS)
    watch.phase()
    if struck is not None and run is not None:
        struck.problems += judge(struck, attempt.code, watch, run)


# --- judging ---------------------------------------------------------------------------------------------------------


def judge(struck: Struck, code: int | None, watch: Watch, run: Run) -> list[str]:
    """A line for everything in which the end of this attempt is not what docs/faults.md says."""
    wanted = codes(struck)
    lines = []
    if code not in wanted:
        allowed = " or ".join(str(one) for one in sorted(wanted))
        lines.append(f"exit code {code} instead of {allowed}: {last_words(watch)}")
    if code == STOPPED and struck.hit in ("steps", "evaluation", "saving", "between"):
        stopped = watch.event("stopped")
        if stopped is None:
            lines.append("exit code 75, and the logbook has no event `stopped`")
        elif not is_intact(run.checkpoints / f"step-{stopped['step']:08d}"):
            lines.append(f"stopped at step {stopped['step']} without a checkpoint of it")
    # A signal to one rank alone, which only this driver sends, may find it importing.
    alone = struck.fault.kind == "kill" or (struck.hit == "loading" and code == FAILED and struck.fault.kind in SIGNALS)
    if not alone and watch.says("Traceback (most recent"):
        lines.append(f"a traceback: {last_words(watch)}")
    return lines


def codes(struck: Struck) -> set[int]:
    """The exit codes that the launcher may end with."""
    fault = struck.fault
    if fault.kind == "kill":
        return {-signal.SIGKILL} if fault.target in ("launcher", "all") else {FAILED}
    if fault.kind in SIGNALS:
        interrupted = {128 + signal.Signals[f"SIG{fault.kind}"]}
        if struck.hit in ("steps", "evaluation", "saving"):
            return {STOPPED}
        if struck.hit == "loading":  # a rank that imports does not listen yet, and is lost
            return {STOPPED, FAILED} if fault.target in ("rank 0", "other rank") else {STOPPED}
        if struck.hit == "report":
            return {0}
        return interrupted | {STOPPED} if struck.frozen else interrupted
    if fault.kind == "disk":
        if fault.phase in ("tokenizer", "encoding"):
            return {FAILED}
        freed = fault.target == "checkpoints" and fault.moment < 0.5
        return {FAILED} if fault.phase == "loading" else {STOPPED} if freed else {FAILED}
    return {STOPPED}
