"""One run of a publication trained again, from its frozen configuration, and compared to the bit."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from trainer.books.records import read_json, read_steps
from trainer.config import Config, load
from trainer.descriptions.trackers import trackers_on
from trainer.publish.lineage import keeping, line_of, moved, parents_of
from trainer.publish.manifest import RAW, Manifest
from trainer.run.child_process import apart
from trainer.run_folder import find_runs, read_entries
from trainer.utils.errors import UserError, nearest
from trainer.utils.outcomes import DONE

FIGURES = ("loss", "grad_norm", "tokens", "flop")  # of a step
HELD_OUT = ("loss", "bits_per_byte")
SHOWN = 3  # steps of which a difference is told
SAME_PLACE = ("torch", "deepspeed", "numpy")  # versions that a bit may depend on


@dataclass(frozen=True)
class Rerun:
    """What was trained again, and where it differs; nothing where it is the same to the bit."""

    run: str
    steps: int
    evaluations: int
    weights: int  # files of weights whose sha256 was compared
    differences: list[str]
    notes: list[str]


def rerun(folder: Path, manifest: Manifest, name: str, *, quiet: bool = False) -> Rerun:
    """Train a published run again in a temporary folder, after those that it began from. Raises UserError where there
    is no such run, where what it began from is not published, and where a training fails. quiet: nothing of it is
    printed."""
    raw = _raw(folder, manifest)
    line = line_of(raw, _run_named(raw, name))
    configs = {run: load(run / "config.yaml") for run in line}
    for run, config in configs.items():
        _refuse_what_cannot(run, config)
    found: list[Rerun] = []
    with TemporaryDirectory(prefix="isoflop-rerun-") as temporary:
        places: dict[str, Path] = {}
        for run, config in configs.items():
            whose, again = f"{run.parent.name}/{run.name}", Path(temporary) / run.parent.name / run.name
            asked = [one for other in configs.values() for one in parents_of(other) if one.name == whose]
            wanted = keeping(moved(config, places), [one.step for one in asked if one.step])
            code = apart(partial(_train, wanted, again, quiet))
            if code != DONE:
                raise UserError(f"rerun: {whose}: its training ended with code {code}; the lines above say why")
            found.append(_compared(whose, run, again))
            places[whose] = again
    return _joined(found)


def _joined(found: list[Rerun]) -> Rerun:
    """The last run, with what differs in those that it began from."""
    last, before = found[-1], found[:-1]
    differences = [f"{one.run}, from which it began: {line}" for one in before for line in one.differences]
    notes = [f"{one.run}, from which it began: {one.steps} steps were trained again too" for one in before]
    return replace(last, differences=[*differences, *last.differences], notes=[*last.notes, *notes])


def _raw(folder: Path, manifest: Manifest) -> Path:
    if not manifest.copied:
        raise UserError("rerun: the publication holds no configurations, only their hashes; publish with raw=copy")
    return folder / RAW


def _run_named(raw: Path, name: str) -> Path:
    names = {f"{run.parent.name}/{run.name}": run for run in find_runs(raw)}
    found = [run for known, run in names.items() if name in (known, run.name)]
    if len(found) != 1:
        what = "several runs" if found else f"no such run{nearest(name, names)}"
        raise UserError(f"rerun: {name}: {what}; there is {', '.join(list(names)[:8])}")
    return found[0]


def _refuse_what_cannot(run: Path, config: Config) -> None:
    """Raise UserError where a run needs another place than this host."""
    if config.launch.name != "local":
        raise UserError(f"rerun: {run.name}: was launched with launch={config.launch.name}; on this host only local")


def _train(config: Config, again: Path, quiet: bool) -> int:
    """In a process of its own: the same configuration in another folder, without trackers that tell others."""
    if quiet:
        os.dup2(2, 1)
    from launch import run_local
    from trainer.run.start import check_run, make_ready
    from trainer.run_folder import RunFolder

    place = config.run.model_copy(
        update={"root": str(again.parent.parent), "experiment": again.parent.name, "id": again.name}
    )
    off = {one.off[0]: one.off[1] for one in trackers_on(config.tracker) if one.off is not None}
    tracker = config.tracker.model_copy(update=off)
    launch = config.launch.model_copy(update={"window": None})  # which changes when it trains, and nothing else
    fresh = config.model_copy(update={"run": place, "tracker": tracker, "launch": launch})
    check_run(fresh)
    make_ready(fresh, RunFolder(again), [])
    return int(run_local(fresh, again))


def _compared(name: str, run: Path, again: Path) -> Rerun:
    old, new = read_steps(run), read_steps(again)
    differences = [
        *_records("step", old.kept, new.kept, FIGURES),
        *_records("evaluation", old.evaluations, new.evaluations, HELD_OUT),
    ]
    there, here = _weights(run), _weights(again)
    same = there.keys() & here.keys()
    differences += [f"{one}: other bytes" for one in sorted(same) if there[one] != here[one]]
    notes = _elsewhere(run, again)
    if not same:
        notes.append("weights were not compared: no checkpoint of the same step")
    return Rerun(name, len(old.kept), len(old.evaluations), len(same), differences, notes)


def _records(
    kind: str, old: tuple[dict[str, Any], ...], new: tuple[dict[str, Any], ...], names: tuple[str, ...]
) -> Iterator[str]:
    """Lines about the first records that differ in a bit of one of these figures."""
    there, here = ({record["step"]: record for record in records} for records in (old, new))
    if there.keys() != here.keys():
        yield f"{len(there)} {kind}s were published, {len(here)} came again"
    apart = [
        step for step in sorted(there.keys() & here.keys()) if _bits(there[step], names) != _bits(here[step], names)
    ]
    for step in apart[:SHOWN]:
        name = next(one for one in names if _bits(there[step], (one,)) != _bits(here[step], (one,)))
        yield f"{kind} {step}: {name} {there[step].get(name)!r} was published, {here[step].get(name)!r} came again"
    if len(apart) > SHOWN:
        yield f"... and {len(apart) - SHOWN} more {kind}s"


def _bits(record: dict[str, Any], names: tuple[str, ...]) -> list[bytes | None]:
    values = (record.get(name) for name in names)
    return [None if value is None else struct.pack("<d", value) for value in values]


def _weights(run: Path) -> dict[str, str]:
    """`<step folder>/<file>` -> sha256, of the weights in the checkpoints whose manifests lie here."""
    found: dict[str, str] = {}
    for path in run.glob("checkpoints/step-*/manifest.json"):
        said = read_json(path)
        files = said.get("files", {}) if isinstance(said, dict) else {}
        found |= {
            f"{path.parent.name}/{name}": one["sha256"] for name, one in files.items() if name.startswith("model")
        }
    return found


def _elsewhere(run: Path, again: Path) -> list[str]:
    """Notes on what the published run had otherwise than this host: a bit may hang on it."""
    old, new = (read_entries(folder / "environment.json") for folder in (run, again))
    if not old or not new:
        return []
    notes = []
    for name in ("cpu", "device", "world_size"):
        if (there := old[-1].get(name)) != (here := new[-1].get(name)):
            notes.append(f"{name}: {there} then, {here} now")
    for name in SAME_PLACE:
        there, here = ((entries[-1].get("packages") or {}).get(name) for entries in (old, new))
        if there != here:
            notes.append(f"{name}: {there} then, {here} now")
    return notes + ([f"it was trained in {len(old)} attempts"] if len(old) > 1 else [])
