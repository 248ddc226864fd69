"""How well a calibration predicts steps that it has not seen: `python calibration_probe.py [--cpu-seconds]`.

With --cpu-seconds one thread is timed by its own CPU time, which other work on the machine disturbs little.
"""

from __future__ import annotations

import sys
import time

import torch

from trainer.books.calibration import TERMS
from trainer.books.clock import work
from trainer.config import Config
from trainer.meter.calibration import LADDER, _small, _time_step, fit_rates

UNSEEN = (
    (256, 4, 256, 16, 4096),
    (320, 3, 192, 8, 2048),
    (448, 4, 256, 4, 8192),
    (128, 6, 512, 4, 1024),
    (384, 2, 96, 32, 4096),
)


def main(cpu_seconds: bool) -> None:
    config = Config.model_validate({"engine": {"device": "cpu"}})
    clock = time.process_time if cpu_seconds else time.perf_counter
    if cpu_seconds:
        torch.set_num_threads(1)

    def measure(shape: tuple[int, ...]) -> tuple:
        small = _small(config, *shape)
        return work(small), _time_step(small, 2.0, clock)

    seen = [measure(shape) for shape in LADDER]
    rates, error = fit_rates([one for one, _ in seen], [taken for _, taken in seen])
    print(f"largest miss of the fit: {error:.1%}")
    print("width depth sequence batch vocabulary  measured  predicted  ratio")
    for shape in UNSEEN:
        amount, taken = measure(shape)
        said = sum(rates[name] * getattr(amount, name) for name in TERMS)
        cells = "{:5}{:6}{:9}{:6}{:11}".format(*shape)
        print(f"{cells}{taken:10.4f}{said:11.4f}{said / taken:7.2f}")


if __name__ == "__main__":
    main("--cpu-seconds" in sys.argv)
