"""Prepared data that are damaged while a run reads them: all ranks decide alike, at a step boundary.

The ranks of a host divide its files among themselves, so that every host hashes what it reads: from a disk of its own,
or through its own page cache. Records of a task lie in memory; there is nothing to watch.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from trainer.data.shards import Damage
from trainer.data.verification import Verification
from trainer.trackers import read_events
from trainer.training.checkpoint import set_aside
from trainer.training.dataset import Source, text_of
from trainer.training.distributed import World
from trainer.training.hooks import Hook
from trainer.utils.checkpoint_files import steps_in

LOOK_SECONDS = 0.02  # between two looks at whether all have ended
FIRST_WORD_SECONDS, NEXT_WORD_SECONDS = 2.0, 60.0  # of a wait that is told in the logbook

Report = Callable[..., None]  # (name of the event, step, text, **data)


class DataWatch(Hook):
    """Hashes this rank's share of the files in the background and tells what came of it."""

    def __init__(self, source: Source, world: World, run: Path) -> None:
        """Starts at once; the run maps the files after that."""
        self.world = world
        text = text_of(source)
        self.folder, entries = (text.folder, text.files()) if text else (Path(), [])
        local, ranks = world.local_rank, int(os.environ.get("LOCAL_WORLD_SIZE", 1))
        known = {event["data"].get("file") for event in read_events(run) if event["name"] == "damage"}
        mine = sorted(entries[local::ranks], key=lambda entry: entry["file"] not in known)  # those found before: first
        self.files, self.total = len(entries), sum(entry["bytes"] for entry in entries)
        self._background = Verification(self.folder, mine)
        self._trusted = 0  # step at which the data were known to be whole when this attempt began
        self._told = not entries
        self.damaged = False  # on any rank, as all ranks know it

    def begin(self, step: int, trusted: int) -> None:
        """The attempt goes on from a checkpoint of `step`, whose manifest holds `trusted`, as `trusted()` gave it."""
        self._trusted = min(step, trusted)
        self._background.reach(step)

    def trusted(self) -> int:
        """The step up to which all that was read is known to have been whole. Collective."""
        return min(self._trusted if one is None else one for one in self.world.gather(self._background.whole_at))

    def standing(self) -> tuple[float, float]:
        """Two numbers to be summed over ranks: files that are damaged, and whether some were never hashed yet."""
        return float(self._background.damage is not None), float(self._background.whole_at is None)

    def decide(self, step: int, standing: Sequence[float], report: Report) -> bool:
        """Told of the sums at every step boundary; whether the data are damaged. Says once that all were whole."""
        damaged, unknown = standing
        self._background.reach(step)
        self.damaged = damaged > 0
        if not damaged and not unknown and not self._told:
            self._told = True
            report("verified", step, f"all {self.files} files of the prepared data are whole ({_size(self.total)})")
        return self.damaged

    def wait(
        self, step: int, reason_to_stop: Callable[[], str | None], report: Report, progress: Callable[[], None]
    ) -> str | None:
        """Until all files were hashed, or until some rank is asked to stop: then why. `progress` is called whenever
        some were read. Collective."""
        self._background.hurry()
        background, before, word = self._background, -1.0, time.monotonic() + FIRST_WORD_SECONDS
        while True:
            reason, now = reason_to_stop(), time.monotonic()
            running, read, stops, *standing = self.world.sum(
                float(background.running), background.bytes, float(reason is not None), *self.standing()
            )
            if stops:
                return reason or "another rank was asked to stop"
            if not running or standing[0]:
                break
            if read > before:  # a disk that hangs is a matter for the watchdog
                progress()
                before = read
            if now >= word:
                word = now + NEXT_WORD_SECONDS
                report(
                    "verifying", step, f"waiting for the data to be hashed: {_size(read)} of {_size(self.total)} a host"
                )
            time.sleep(LOOK_SECONDS)
        if not self.decide(step, standing, report) and standing[1]:
            raise RuntimeError("the thread that verifies the data has ended early")
        return None

    def conclude(self, step: int, checkpoints: Path, report: Report) -> str:
        """Set aside the checkpoints that may have been made of damaged data; why the run fails. Collective."""
        trusted = self.trusted()
        mine = self._background.damage
        found = self.world.gather((socket.gethostname(), mine and mine.to_json()))
        host, damage = next((host, Damage.from_json(one)) for host, one in found if one is not None)
        where = f" on {host}" if len({host for host, _ in found}) > 1 else ""
        gone = self.world.broadcast(set_aside(checkpoints, trusted) if self.world.is_first else None)
        left = self.world.broadcast(steps_in(checkpoints))
        lost = f"checkpoints {', '.join(gone)} are set aside" if gone else "there is no checkpoint of those"
        text = (
            f"{damage.text}{where}; steps after {trusted} may have read what is damaged: {lost}, "
            f"a resume goes on from {f'step {left[-1]}' if left else 'the beginning'}"
        )
        facts: dict[str, Any] = {"file": damage.file, "folder": str(damage.folder), "host": host}
        facts |= {"expected": damage.expected, "found": damage.found, "trusted_step": trusted, "set_aside": gone}
        report("damage", step, text, **facts)
        return text

    def closed(self, status: str, step: int, text: str) -> None:
        self.close()

    def close(self) -> None:
        self._background.close()


def _size(count: float) -> str:
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"
