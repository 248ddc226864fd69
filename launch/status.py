"""What the runs of a root are doing, read from their folders and from the queues of their launchers."""

from __future__ import annotations

import os
import re
import signal
import socket
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from launch.launcher import JobState, launcher_of
from launch.reasons import is_refused, reason_of
from launch.records import LaunchRecord, read_launch
from trainer.books.formatting import format_amount
from trainer.books.run_length import known_steps
from trainer.report import NOT_STARTED, RUNNING, RunData, read_run, state_of
from trainer.run_folder import RunFolder, readable, runs_of
from trainer.utils.errors import UserError

REFUSED = "refused"  # the state of a run whose launch started nothing


@dataclass(frozen=True)
class RunStatus:
    """One run at this moment; null where nothing is known."""

    run: str  # <experiment>/<run id>
    state: str  # the queue's, or: running, finished, stopped, failed, halted, interrupted, not started, refused
    reason: str | None  # why it was refused, waits or failed; null where it did none of these, or nothing tells
    launcher: str
    jobs: tuple[str, ...]  # those that the queue still knows, or all of them where none is known
    step: int
    steps: int | None  # null where a measured budget ends the run
    tokens_per_second: float | None
    price: dict[str, Any]  # amount and unit, so far: money, else energy; the amount is null where neither is known
    event: str | None
    event_seconds_ago: float | None  # negative where the clock of whoever wrote it is ahead


def read_status(root: Path) -> list[RunStatus]:
    """Every run of a root, newest launch last. Raises UserError where the root has none."""
    runs = runs_of(root)
    if not runs:
        raise UserError(f"status: no runs under {root}; name the root of some runs")
    launches = {run: read_launch(run) for run in runs}
    states = _states([launch for launch in launches.values() if launch])
    runs.sort(key=lambda run: launches[run].time if launches[run] else 0.0)  # type: ignore[union-attr]
    found = list(readable(runs, lambda run: _status(run, launches[run], states)))
    if not found:
        raise UserError(f"status: no run under {root} can be read")
    return found


def _states(launches: Sequence[LaunchRecord]) -> dict[str, JobState]:
    """The state of every job that its queue still knows; each queue is asked once."""
    jobs: dict[str, list[str]] = {}
    for launch in launches:
        jobs.setdefault(launch.launcher, []).extend(launch.jobs)
    return {job: state for name, own in jobs.items() for job, state in launcher_of(name).states(own).items()}


def _status(run: Path, launch: LaunchRecord | None, states: dict[str, JobState]) -> RunStatus:
    run_data = read_run(run)
    last = run_data.steps.kept[-1] if run_data.steps.kept else {}
    event = run_data.events[-1] if run_data.events else {}
    known = tuple(job for job in (launch.jobs if launch else ()) if job in states)
    jobs = [states[job] for job in known]
    state = _state(run_data, launch, jobs)
    when = event.get("time")
    return RunStatus(
        run=f"{run.parent.name}/{run.name}",
        state=state,
        reason=None if state == RUNNING else reason_of(run_data, launch, jobs, state),
        launcher=launch.launcher if launch else run_data.config.launch.name,
        jobs=known or (launch.jobs if launch else ()),
        step=last.get("step", 0),
        steps=known_steps(run_data.config),
        tokens_per_second=last.get("tokens_per_second"),
        price=_price(run_data),
        event=None if event.get("text") is None else str(event["text"]),
        event_seconds_ago=time.time() - when if isinstance(when, int | float) else None,
    )


def _state(run_data: RunData, launch: LaunchRecord | None, jobs: list[JobState]) -> str:
    """A live job's state is its queue's; an ended one's is what the run itself wrote down."""
    live = [job.text for job in jobs if job.live]
    if live:
        return next((state for state in live if state.startswith("running")), live[0])
    state = state_of(run_data)
    if state == NOT_STARTED and launch is not None and is_refused(run_data, launch):
        return REFUSED
    return jobs[0].text if jobs and state == NOT_STARTED else state


def _price(run_data: RunData) -> dict[str, Any]:
    """Money where it is known, else energy."""
    for key in ("cost.amount", "energy.kwh"):
        row = run_data.tag[key]
        if row.measured is not None and row.measured.value is not None:
            return {"amount": row.measured.value, "unit": row.unit, "provenance": row.measured.provenance}
    return {"amount": None, "unit": None, "provenance": "not stated"}


def status_json(runs: list[RunStatus]) -> list[dict[str, Any]]:
    return [asdict(run) for run in runs]


def print_status(runs: list[RunStatus]) -> None:
    """A table on the terminal; as wide as needed where there is none."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for name, side in (("run", "left"), ("state", "left"), ("job", "left"), ("step", "right"), ("tokens/s", "right")):
        table.add_column(name, justify=side, overflow="fold")  # type: ignore[arg-type]
    table.add_column("price so far", justify="right")
    why = any(run.reason for run in runs)
    for name in ("why", "last event") if why else ("last event",):
        table.add_column(name, overflow="fold")
    for run in runs:
        speed = "" if run.tokens_per_second is None else f"{run.tokens_per_second:,.0f}"
        step = f"{run.step}/{run.steps}" if run.steps else str(run.step)
        cells = [run.run, run.state, " ".join(run.jobs) or run.launcher, step, speed]
        cells += [_price_text(run.price), *([run.reason or ""] if why else []), _event_text(run)]
        table.add_row(*map(Text, cells))
    console = Console()
    if not console.is_terminal:
        console = Console(width=200)
    console.print(table)


def _price_text(price: dict[str, Any]) -> str:
    return "not stated" if price["amount"] is None else format_amount(price["amount"], price["unit"])


def _event_text(run: RunStatus) -> str:
    if run.event is None:
        return ""
    if run.event_seconds_ago is None:
        return run.event
    ago = run.event_seconds_ago
    when = f"{format_amount(ago, 's')} ago" if ago >= 0 else f"by a clock {format_amount(-ago, 's')} ahead of this one"
    return f"{run.event} ({when})"


def cancel(run: Path) -> str:
    """End a run: its jobs in a queue, or the process here that holds it, which saves first. Returns what was done.

    Raises UserError where nothing runs or where it runs out of reach.
    """
    launch = read_launch(run)
    if launch and launch.jobs:
        launcher = launcher_of(launch.launcher)
        states = launcher.states(launch.jobs)
        live = [job for job in launch.jobs if job in states and states[job].live]
        if not live:
            raise UserError(f"cancel: {run}: no job of it is in the queue ({' '.join(launch.jobs)})")
        launcher.cancel(live)
        return f"cancelled job {' '.join(live)}"
    holder = RunFolder(run).holder()
    if holder is None:
        raise UserError(f"cancel: {run}: nothing holds it")
    process, host = _where(holder)
    if launch and launch.process and launch.host == socket.gethostname() and _alive(launch.process):
        process, host = launch.process, launch.host  # whoever started the ranks tells them all
    if process is None or host != socket.gethostname():
        raise UserError(f"cancel: {run} is held by {holder}; cancel it there")
    os.kill(process, signal.SIGTERM)
    return f"asked process {process} to save and stop"


def _where(holder: str) -> tuple[int | None, str]:
    """The process id and host that a lock names."""
    words = holder.split()
    if len(words) >= 4 and words[0] == "process" and re.fullmatch("[1-9][0-9]*", words[1]):
        return int(words[1]), words[3]
    return None, ""


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except OSError:
        return False
    return True
