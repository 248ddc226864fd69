"""Whether the disk of a run has room for its checkpoints, asked before anything is trained."""

from __future__ import annotations

import math
import os
import sys
from pathlib import Path

from trainer.books.formatting import format_amount
from trainer.books.layout import checkpoint_bytes
from trainer.books.run_length import known_steps
from trainer.config import Config
from trainer.utils.errors import UserError

BESIDE_BYTES = 32 << 20  # records, logs, report
NOT_ON_DISK = (Path("/proc"), Path("/sys"))  # whose folders say that root may write to them
NEARLY = 0.8  # share of the free bytes from which on a run that fits is told of it


def require_room(config: Config, run: Path) -> None:
    """Raise UserError where the checkpoints that will lie there at once do not fit; a line where they nearly do not."""
    each, count = checkpoint_bytes(config), checkpoints_at_once(config)
    needed = max(each * count - _bytes_in(run / "checkpoints"), 0)
    place = next(one for one in (run, *run.parents) if one.exists() or one.is_symlink())
    if not place.is_dir():
        raise UserError(f"run.root: cannot write to {run} ({place} is no folder); choose another folder")
    if place in NOT_ON_DISK or not os.access(place, os.W_OK):
        raise UserError(f"run.root: cannot write to {run} ({place} takes no files); choose another folder")
    try:
        disk = os.statvfs(place)
    except OSError:  # it will be told when it is written to
        return
    free = disk.f_bavail * disk.f_frsize
    what = (
        f"{count} checkpoint{'s' if count > 1 else ''} of {format_amount(each, 'bytes')} that lie there at once need "
        f"{format_amount(needed, 'bytes')}, the disk of {place} has {format_amount(free, 'bytes')} free"
    )
    way = f"free some space, {_fewer(config)}or set run.root to another disk"
    if needed > free:
        raise UserError(f"run.root: {what}; {way}")
    if needed + BESIDE_BYTES > NEARLY * free:
        print(f"isoflop: run.root: the disk is nearly full: {what}; {way}", file=sys.stderr)


def checkpoints_at_once(config: Config) -> int:
    """The most checkpoints that a run has at a time, with the one that is written before an older one is deleted."""
    keep, steps = config.checkpoint, known_steps(config)
    kept = keep.keep_last + keep.keep_best
    if steps is None:
        return kept + 1
    first = config.branch.step or 0
    saves = 1 if keep.every_steps is None else -(-steps // keep.every_steps) - first // keep.every_steps
    named = [step for step in keep.at_steps if first < step < steps]
    saves += sum(keep.every_steps is None or step % keep.every_steps != 0 for step in named)
    for_good = len(named)  # of those that are older than the last ones, when the last checkpoint of the run is written
    if keep.keep_every is not None and keep.every_steps is not None:
        older = (steps - 1) // keep.every_steps - keep.keep_last
        for_good += max(0, older * keep.every_steps // math.lcm(keep.every_steps, keep.keep_every))
    return min(saves, kept + for_good + 1)


def _fewer(config: Config) -> str:
    """The keys that make the checkpoints fewer, where they can be."""
    keep = config.checkpoint
    words = [
        *(["checkpoint.keep_last=1"] if keep.keep_last > 1 else []),
        *(["checkpoint.keep_best=false"] if keep.keep_best else []),
        *(["checkpoint.keep_every=null"] if keep.keep_every is not None else []),
        *(["checkpoint.at_steps=[]"] if keep.at_steps else []),
    ]
    return f"keep fewer ({', '.join(words)}), " if words else ""


def _bytes_in(folder: Path) -> int:
    """Of the checkpoints that are there already, and will make room or count among those that are kept."""
    return sum(file.stat().st_size for file in folder.glob("step-*/*") if file.is_file()) if folder.is_dir() else 0
