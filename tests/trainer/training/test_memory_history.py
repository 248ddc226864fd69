"""The snapshot of CUDA's allocator, by hand: no GPU is needed to read what it says."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from trainer.report.profile_pictures import memory_svg
from trainer.training.memory_history import BEFORE, ENTRIES, HOME, Held, MemoryHistory, asked_by, history
from trainer.training.step_profile import collective_seconds

OURS = {"filename": str(HOME / "trainer" / "models" / "parts.py"), "line": 88, "name": "forward"}
TORCHS = {"filename": "/somewhere/torch/nn/functional.py", "line": 5, "name": "linear"}


def asks(action: str, address: int, size: int, time_us: int, *frames: dict[str, Any]) -> dict[str, Any]:
    return {"action": action, "addr": address, "size": size, "time_us": time_us, "stream": 0, "frames": list(frames)}


def block(address: int, size: int, state: str = "active_allocated") -> dict[str, Any]:
    return {"address": address, "size": size, "requested_size": size, "state": state, "frames": []}


# 1000 bytes were held before. Then 300 and 50 come, 100 of the old go, 200 come (the peak: 1450), and 350 go.
SNAPSHOT = {
    "segments": [
        {"device": 1, "address": 0, "blocks": [block(0, 900), block(900, 200), block(1100, 4000, "inactive")]},
        {"device": 0, "address": 0, "blocks": [block(0, 7)]},
    ],
    "device_traces": [
        [asks("alloc", 0, 7, 900)],
        [
            asks("segment_alloc", 0, 8192, 1_000_000),
            asks("alloc", 2000, 300, 1_000_000, TORCHS, OURS),
            asks("alloc", 2300, 50, 1_500_000),
            asks("free_requested", 500, 100, 1_600_000),
            asks("free_completed", 500, 100, 2_000_000),
            asks("alloc", 900, 200, 2_500_000, TORCHS, OURS),
            asks("free_completed", 2000, 300, 3_000_000),
            asks("free_completed", 2300, 50, 3_000_000),
            asks("snapshot", 0, 0, 3_500_000),
        ],
    ],
}


def test_the_timeline_of_one_device_adds_up_to_what_is_held_in_the_end() -> None:
    timeline, at_peak = history(SNAPSHOT, 1)
    held = [(0.0, 1300), (0.5, 1350), (1.0, 1250), (1.5, 1450), (2.0, 1150), (2.0, 1100)]
    assert timeline == [Held(*one) for one in held]
    assert at_peak == {BEFORE: 900, "trainer/models/parts.py:88 forward": 500, "no line of Python": 50}
    assert sum(at_peak.values()) == max(one.bytes for one in timeline)
    assert history(SNAPSHOT, 0).timeline == [Held(0.0, 7)]


def test_an_allocator_that_did_nothing() -> None:
    quiet = {**SNAPSHOT, "device_traces": [[], []]}
    assert history(quiet, 1) == ([], {BEFORE: 1100})
    assert b"<svg" in memory_svg([])


def test_who_asked_is_the_innermost_line_of_ours() -> None:
    assert asked_by([TORCHS, OURS]) == "trainer/models/parts.py:88 forward"
    assert asked_by([{"filename": "??", "line": 0, "name": ""}, TORCHS]) == "nn/functional.py:5 linear"


def test_the_snapshot_is_written_as_json_and_recording_ends(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The calls as torch 2.13 has them."""
    asked: list[tuple[str | None, dict[str, Any]]] = []
    monkeypatch.setattr(torch.cuda.memory, "_record_memory_history", lambda on, **how: asked.append((on, how)))
    monkeypatch.setattr(torch.cuda.memory, "_snapshot", lambda: SNAPSHOT)
    monkeypatch.setattr(torch.cuda.memory, "_dump_snapshot", None)  # which pickles
    found = MemoryHistory(1).end(tmp_path / "profile" / "memory.json")
    assert found == history(SNAPSHOT, 1)
    assert json.loads((tmp_path / "profile" / "memory.json").read_text()) == SNAPSHOT
    assert asked[0] == (
        "all",
        {"context": "alloc", "stacks": "python", "max_entries": ENTRIES, "clear_history": True},
    )
    assert asked[1:] == [(None, {})]


def test_the_arguments_are_those_that_torch_takes() -> None:
    from inspect import signature

    taken = signature(torch.cuda.memory._record_memory_history).parameters
    assert {"enabled", "context", "stacks", "max_entries", "clear_history"} <= taken.keys()


def test_time_in_collectives_counts_no_moment_twice() -> None:
    def event(name: str, start: float, end: float) -> Any:
        return SimpleNamespace(name=name, time_range=SimpleNamespace(start=start, end=end))

    events = [
        event("gloo:all_reduce", 10e6, 12e6),
        event("ncclDevKernel_AllGather_RING_LL(ncclDevComm*)", 11e6, 15e6),
        event("gloo:broadcast", 11.5e6, 12.5e6),
        event("nccl:all_gather", 0, 90e6),  # the host's side of it, which is no time of the wire
        event("aten::mm", 0, 90e6),
        event("gloo:reduce", 20e6, 21e6),
    ]
    assert collective_seconds(events) == pytest.approx(5 + 1)
    assert collective_seconds([]) == 0
