"""What a process was stopped, by a clock and a processor time that the test moves; and by a real SIGSTOP."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

import pytest

from trainer.books.energy import fold
from trainer.meter.suspension import BEAT_SECONDS, Suspension


class Process:
    def __init__(self) -> None:
        self.now = self.cpu = 0.0

    def passes(self, seconds: float, cpu: float) -> None:
        self.now, self.cpu = self.now + seconds, self.cpu + cpu


def test_only_late_looks_without_work_are_suspension() -> None:
    process = Process()
    watch = Suspension(lambda: process.now, lambda: process.cpu)
    for seconds, cpu in ((BEAT_SECONDS, 0.0), (1.5, 0.0), (30.0, 28.0), (BEAT_SECONDS, 0.4)):
        process.passes(seconds, cpu)  # waiting for a device, a busy host, one long computation, work
        assert watch.seconds() == 0
    process.passes(20.0, 0.01)
    assert watch.seconds() == pytest.approx(20 - BEAT_SECONDS)
    process.passes(BEAT_SECONDS, 0.4)
    assert watch.seconds() == pytest.approx(20 - BEAT_SECONDS)


def test_energy_while_a_process_was_stopped_is_idle() -> None:
    device = {"key": "a", "component": "gpu", "method": "counter", "provenance": "measured", "absolute": True}
    first = {"kind": "open", "segment": "s", "boot": "b", "rank": 0, "world_size": 1, "attempt": 0, "step": 0}
    lines = [
        first | {"devices": [device], "monotonic": 0.0, "values": [0.0]},
        {"kind": "reading", "segment": "s", "n": 1, "step": 1, "phase": "train", "monotonic": 40.0, "values": [400.0]}
        | {"suspended": 30.0},
    ]
    account = fold(lines).account()
    assert account.phases == pytest.approx({"train": 100, "idle": 300})
    assert account.total().value == pytest.approx(400)


def test_a_stopped_process_knows_how_long_it_was() -> None:
    code = (
        "import time, sys\n"
        "from trainer.meter.suspension import Suspension\n"
        "watch = Suspension()\nwatch.start()\nprint('ready', flush=True)\n"
        "sys.stdin.readline()\nprint(watch.seconds(), flush=True)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None and process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGSTOP)
    time.sleep(4)
    process.send_signal(signal.SIGCONT)
    said, _ = process.communicate("\n", timeout=60)
    assert 2.5 < float(said) < 60
