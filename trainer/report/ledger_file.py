"""runs/ledger.jsonl: a line for every run of a root, which outlives its folder.

The last line of a run wins. Runs that have not finished are read from their folders where these still lie there: one
that was killed could write no line, one that runs again has an old one. The line of an attempt is reserved at its
start, so that a disk that is full at its end has room for it.
"""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

from trainer.books.branch import own_values, read_branch
from trainer.books.continued import read_lineage
from trainer.books.layout import world_size
from trainer.books.records import read_lines
from trainer.report.run_data import RUNNING, RunData, read_run, state_of
from trainer.run_folder import RunFolder, readable, runs_of
from trainer.utils.errors import DiskFull, UserError, left_out
from trainer.utils.files import FULL
from trainer.utils.outcomes import Status

ROOM_BYTES, ROOM_OF_A_RANK = 3072, 128  # by which the last line of an attempt may be longer than its first


def reserve_ledger(run: Path) -> None:
    """Add a line that says that this run is under way, with what an earlier attempt cost, and with room for the line
    that says how it ended. Raises UserError where the disk has none."""
    config, ledger, name = RunFolder(run).load_config(), _ledger_of(run), _name(run)
    first = {
        "run": name,
        "experiment": run.parent.name,
        "project": config.run.project,
        "science_hash": config.science_hash(),
        "time": None,
        "steps": 0,
    }
    before: dict[str, Any] = next((line for line in reversed(read_lines(ledger)) if line.get("run") == name), {})
    room = ROOM_BYTES + ROOM_OF_A_RANK * world_size(config)
    try:
        _append(ledger, _text({**first, **before, "status": RUNNING}) + b" " * room)
    except OSError as error:
        if error.errno in FULL:
            raise DiskFull(f"run.root: the disk of {ledger} is full; free some space") from None
        raise UserError(f"run.root: cannot write to {ledger} ({error.strerror})") from None


def append_ledger(run: Path, status: Status | None = None, run_data: RunData | None = None) -> None:
    """Renew this run's line in the ledger of its root, the folder above the experiment: the one that was reserved where
    there is one, else a new one. status: how the attempt ended, where its logbook could not say it.
    run_data: of the run, where it was read already."""
    run_data = run_data or read_run(run)
    line, ledger = _text(_of(run_data, status or run_data.status)), _ledger_of(run)
    place, size = _reserved(ledger, _name(run))
    if len(line) > size:
        _append(ledger, line)
        return
    descriptor = os.open(ledger, os.O_WRONLY)
    try:
        os.pwrite(descriptor, line.ljust(size), place)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _ledger_of(run: Path) -> Path:
    return run.parent.parent / "ledger.jsonl"


def _name(run: Path) -> str:
    return f"{run.parent.name}/{run.name}"


def _reserved(ledger: Path, name: str) -> tuple[int, int]:
    """Where the run's last line begins, and its bytes without the line's end, if it was reserved; else (0, 0)."""
    place, found = 0, (0, 0)
    for line in ledger.read_bytes().split(b"\n") if ledger.is_file() else ():
        if _text({"run": name})[1:-1] in line:
            reserved = line.endswith(b" ") and _text({"status": RUNNING})[1:-1] in line
            found = (place, len(line)) if reserved else (0, 0)
        place += len(line) + 1
    return found


def _append(ledger: Path, line: bytes) -> None:
    """One write to a file opened for appending, so that runs that end together do not mix their lines."""
    # A crash of another process may have left half a line: begin a new one.
    torn = ledger.is_file() and ledger.stat().st_size and not ledger.read_bytes().endswith(b"\n")
    data = (b"\n" if torn else b"") + line + b"\n"
    descriptor = os.open(ledger, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    try:
        if os.write(descriptor, data) < len(data):  # a disk that fills up takes part of a line
            raise OSError(28, os.strerror(28), str(ledger))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _text(plain: Any) -> bytes:
    return json.dumps(plain, ensure_ascii=False, allow_nan=False).encode()


def _line(run: Path) -> dict[str, Any]:
    """As seen from outside, where whoever holds the folder runs."""
    run_data = read_run(run)
    return _of(run_data, state_of(run_data))


def _of(run_data: RunData, status: str) -> dict[str, Any]:
    run, best, lineage = run_data.run, run_data.best, read_lineage(run_data.run)
    parent = {name: lineage[name] for name in ("run", "step", "weights")} if lineage else None
    trunk = read_branch(run)
    branch = {name: trunk[name] for name in ("run", "step", "checkpoint")} if trunk else None
    return {
        "run": _name(run),
        "experiment": run.parent.name,
        "project": run_data.config.run.project,
        "science_hash": run_data.config.science_hash(),
        "numerics": run_data.numerics,
        "status": status,
        "time": run_data.events[-1].get("time") if run_data.events else None,
        "steps": run_data.steps.kept[-1]["step"] if run_data.steps.kept else 0,
        "replayed_steps": len(run_data.steps.replayed),
        "held_out_bits_per_byte": best.get("bits_per_byte") if best and math.isfinite(best["loss"]) else None,
        "measured": own_values(run_data.tag.values("measured")),
        "currency": run_data.config.site.currency,
        "segments": run_data.energy.segments,
        **({"init": parent} if parent else {}),
        **({"branch": branch} if branch else {}),
    }


def _newer(seen: dict[str, Any], said: dict[str, Any]) -> dict[str, Any]:
    """What a folder shows, but how the attempt ended as the ledger says it where the folder's logbook could not."""
    if seen["status"] == Status.INTERRUPTED and said.get("status") != RUNNING and said.get("time") == seen["time"]:
        return {**seen, "status": said.get("status", seen["status"])}
    return seen


def is_root(root: Path) -> bool:
    """Whether runs lie below this folder: its ledger tells of some, or there are folders of killed ones, or records of
    other commands."""
    return (root / "ledger.jsonl").is_file() or bool(runs_of(root)) or any(root.glob("costs/cost-*.jsonl"))


def read_ledger(root: Path) -> dict[str, dict[str, Any]]:
    """The last line of every run of a root, by `<experiment>/<run id>`; of unfinished runs what their folders say."""
    lines = {line["run"]: line for line in read_lines(root / "ledger.jsonl") if isinstance(line.get("run"), str)}
    for name, line in list(lines.items()):
        if wrong := _misfit(line):
            left_out(name, UserError(f"{root / 'ledger.jsonl'}: {wrong}"))
            del lines[name]
    here = runs_of(root)
    unfinished = [run for run in here if lines.get(_name(run), {}).get("status") != Status.FINISHED]
    lines |= {line["run"]: _newer(line, lines.get(line["run"], {})) for line in readable(unfinished, _line)}
    gone = {name for name, line in lines.items() if line.get("status") == RUNNING} - {_name(run) for run in here}
    return lines | {name: {**lines[name], "status": Status.INTERRUPTED} for name in gone}


def _misfit(line: dict[str, Any]) -> str | None:
    """A word about a figure of a line that is no number, or null."""
    tables = {"measured": line.get("measured") or {}, "segments": line.get("segments") or {}}
    if wrong := next((name for name, table in tables.items() if not isinstance(table, dict)), None):
        return f"{wrong}: {tables[wrong]!r} given, numbers by name wanted"
    figures = {"held_out_bits_per_byte": line.get("held_out_bits_per_byte"), **tables["segments"]}
    for group, part in tables["measured"].items():
        figures |= (
            {f"{group}.{name}": value for name, value in part.items()} if isinstance(part, dict) else {group: part}
        )
    for name, value in figures.items():
        if value is not None and not (isinstance(value, int | float) and math.isfinite(value)):
            return f"{name}: {value!r} given, a number wanted"
    return None
