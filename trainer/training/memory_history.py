"""What CUDA's allocator did while some steps ran, and where it was asked to: PyTorch's memory snapshot, as JSON.

PyTorch itself writes a snapshot as a pickle, for the viewer at pytorch.org/memory_viz. A pickle can run code when it is
opened, so the file here is JSON of the same structure (`torch.cuda.memory._snapshot`); docs/profile.md has the line
that turns it into what that viewer takes.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from itertools import accumulate
from pathlib import Path
from typing import Any, Literal, NamedTuple

HOME = Path(__file__).resolve().parents[2]  # the folder that holds trainer and kernels
ENTRIES = 200_000  # events of the allocator that are kept: the newest
BEFORE = "before the traced steps"
ACTIVE = ("active_allocated", "active_awaiting_free", "active_pending_free")
SHOWN = 10


class Held(NamedTuple):
    """Bytes that the allocator held so many seconds after the trace began; on a CPU, beside what it held before."""

    seconds: float
    bytes: int


class MemoryHistory:
    """Records from its making on what the allocator of this device is asked for."""

    def __init__(self, device: int) -> None:
        self.device = device
        self._record("all")

    def _record(self, enabled: Literal["all"] | None) -> None:
        from torch.cuda import memory

        # Stacks of Python where memory is asked for: those of C++, and of where it is given back, tell little more.
        kept: dict[str, Any] = {"context": "alloc", "stacks": "python", "max_entries": ENTRIES, "clear_history": True}
        memory._record_memory_history(enabled, **(kept if enabled else {}))

    def end(self, file: Path) -> History:
        """Stop, and write the snapshot there; returns what it says of this device."""
        from torch.cuda import memory

        snapshot = memory._snapshot()
        self.stop()
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(snapshot))
        return history(snapshot, self.device)

    def stop(self) -> None:
        self._record(None)


class History(NamedTuple):
    """The allocator of one device while it was recorded."""

    timeline: list[Held]
    at_peak: dict[str, int]  # bytes that were held when these were most, by the line that asked for them


def history(snapshot: Mapping[str, Any], device: int) -> History:
    """What a snapshot says of this device. Memory counts from when it is asked for until it can be given to another;
    what was held before is what is held in the end, less what changed since."""
    segments = [one for one in snapshot["segments"] if one.get("device", device) == device]
    blocks = (block for segment in segments for block in segment["blocks"])
    now = sum(block["size"] for block in blocks if block["state"] in ACTIVE)
    changes = list(_changes(snapshot["device_traces"][device]))
    before = now - sum(change.bytes for change in changes)
    held = list(accumulate((change.bytes for change in changes), initial=before))
    began = changes[0].time_us if changes else 0
    timeline = [Held((one.time_us - began) / 1e6, size) for one, size in zip(changes, held[1:], strict=True)]
    at_peak = _held_after(changes[: held.index(max(held))], before)
    return History(timeline, dict(at_peak.most_common(SHOWN)))


class _Change(NamedTuple):
    time_us: int
    bytes: int  # below 0: given back
    address: int
    where: str  # the line that asked


def _changes(entries: Iterable[Mapping[str, Any]]) -> Iterator[_Change]:
    for entry in entries:
        if entry["action"] == "alloc":
            yield _Change(entry["time_us"], entry["size"], entry["addr"], asked_by(entry.get("frames", ())))
        elif entry["action"] == "free_completed":
            yield _Change(entry["time_us"], -entry["size"], entry["addr"], "")


def _held_after(changes: Iterable[_Change], before: int) -> Counter[str]:
    """Bytes by the line that asked for them."""
    live = dict[int, _Change]()
    for one in changes:
        if one.bytes > 0:
            live[one.address] = one
        elif live.pop(one.address, None) is None:
            before += one.bytes
    found = Counter({BEFORE: before})
    for one in live.values():
        found[one.where] += one.bytes
    return +found


def asked_by(frames: Iterable[Mapping[str, Any]]) -> str:
    """The innermost line of ours in a stack, else the innermost of all; in the backward pass there may be none."""
    known = [frame for frame in frames if frame.get("filename") not in (None, "", "??")]
    ours = next((frame for frame in known if str(frame["filename"]).startswith(f"{HOME}/")), None)
    frame = ours or next(iter(known), None)
    if frame is None:
        return "no line of Python"
    file = Path(frame["filename"])
    shown = file.relative_to(HOME) if ours else Path(*file.parts[-2:])
    return f"{shown}:{frame['line']} {frame['name']}"
