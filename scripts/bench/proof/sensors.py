"""Clocks and power of the GPU while a case is timed: by NVML where it is at hand, else nvidia-smi, else not stated."""

from __future__ import annotations

import statistics
import subprocess
import threading
import time
from collections.abc import Callable
from typing import Any

EVERY = 0.05  # seconds between readings
Reading = tuple[float, float]  # MHz of the streaming multiprocessors, watts of the board


def from_nvml(uuid: str) -> Callable[[], Reading] | None:
    """A function that reads the board of this id ("GPU-..."), or None where nvidia-ml-py or the board is missing."""
    try:
        import pynvml

        pynvml.nvmlInit()
        board = pynvml.nvmlDeviceGetHandleByUUID(uuid)

        def read() -> Reading:
            megahertz = pynvml.nvmlDeviceGetClockInfo(board, pynvml.NVML_CLOCK_SM)
            return float(megahertz), pynvml.nvmlDeviceGetPowerUsage(board) / 1e3

        read()
    except Exception:  # not installed, no driver, no permission: NVML has an error for each
        return None
    return read


def from_smi(uuid: str) -> Callable[[], Reading] | None:
    """The same by nvidia-smi: a process a reading."""
    command = ["nvidia-smi", f"--id={uuid}", "--query-gpu=clocks.sm,power.draw", "--format=csv,noheader,nounits"]

    def read() -> Reading:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=5)
        megahertz, watts = done.stdout.strip().split(",")
        return float(megahertz), float(watts)

    try:
        read()
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
    return read


class Sensors:
    """Reads in a thread between begin and end. read: None where nothing can be read."""

    def __init__(self, read: Callable[[], Reading] | None, by: str | None) -> None:
        self._read, self.by = read, by
        self._readings: list[Reading] = []
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def begin(self) -> None:
        if self._read is None:
            return
        self._readings, self._stop = [], threading.Event()
        self._thread = threading.Thread(target=self._keep_reading, args=(self._read,), daemon=True)
        self._thread.start()

    def _keep_reading(self, read: Callable[[], Reading]) -> None:
        while not self._stop.is_set():
            try:
                self._readings.append(read())
            except Exception:  # a reading that fails is none
                time.sleep(EVERY)
            self._stop.wait(EVERY)

    def end(self) -> dict[str, Any] | None:
        """Median, lowest clock and median power since begin; None: not stated."""
        if self._thread is None:
            return None
        self._stop.set()
        self._thread.join()
        self._thread = None
        if not self._readings:
            return None
        clocks, watts = zip(*self._readings, strict=True)
        return {
            "sm_megahertz": statistics.median(clocks),
            "sm_megahertz_lowest": min(clocks),
            "watts": statistics.median(watts),
            "readings": len(clocks),
            "by": self.by,
        }


def sensors() -> Sensors:
    """Of the GPU that torch uses."""
    import torch

    if not torch.cuda.is_available():
        return Sensors(None, None)
    properties = torch.cuda.get_device_properties(torch.cuda.current_device())
    uuid = f"GPU-{getattr(properties, 'uuid', 'not stated')}"  # which no board has
    for by, source in (("NVML", from_nvml), ("nvidia-smi", from_smi)):
        read = source(uuid)
        if read is not None:
            return Sensors(read, by)
    return Sensors(None, None)
