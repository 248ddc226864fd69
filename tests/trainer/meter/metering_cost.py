"""What metering costs: `python metering_cost.py` prints the time on the training thread and of one reading."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from statistics import median

from trainer.config import Config
from trainer.meter import Meter


def main() -> None:
    with tempfile.TemporaryDirectory(dir=".") as folder:
        meter = Meter(Config(), Path(folder))
        meter.start()
        steps = []
        for _ in range(5):
            began = time.perf_counter()
            for step in range(2000):
                meter.phase("data")
                meter.phase("optimizer")
                meter.read(step)
            steps.append((time.perf_counter() - began) / 2000)
        readings = []
        for _ in range(30):
            began = time.perf_counter()
            meter.take()
            readings.append(time.perf_counter() - began)
        meter.close()
    every = Config().meter.every_seconds
    print(f"training thread: {median(steps) * 1e6:.2f} us a step")
    print(f"background: {median(readings) * 1e3:.2f} ms a reading, {median(readings) / every:.3%} of the time")


if __name__ == "__main__":
    main()
