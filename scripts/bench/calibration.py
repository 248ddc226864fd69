"""How well a plan after `isoflop calibrate` tells the time of steps that it has not seen.

    scripts/bench/calibration [--rounds 3] [--cpu-seconds] [--json]

Calibrates this machine (nothing is written), then times five other shapes of the default model in rounds, one after the
other, and prints the median of each beside the plan's prediction. By the wall clock; with --cpu-seconds by the CPU time
of one thread, which other work on the machine disturbs less.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from trainer.books.calibration import TERMS
from trainer.books.clock import work
from trainer.config import Config
from trainer.config.host import processor, threads
from trainer.meter.calibration import LADDER, fit_rates, small_model, time_step

UNSEEN = (
    (256, 4, 256, 16, 4096),
    (320, 3, 192, 8, 2048),
    (448, 4, 256, 4, 8192),
    (128, 6, 512, 4, 1024),
    (384, 2, 96, 32, 4096),
)
SECONDS = 1.5  # for every shape in every round


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cpu-seconds", action="store_true")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    config = Config.model_validate({"engine": {"device": "cpu"}})
    clock = time.process_time if arguments.cpu_seconds else time.perf_counter
    torch.set_num_threads(1 if arguments.cpu_seconds else threads(config))
    shapes = [small_model(config, *shape) for shape in (*LADDER, *UNSEEN)]
    rounds = [[time_step(shape, SECONDS, clock) for shape in shapes] for _ in range(arguments.rounds)]
    taken = [statistics.median(times) for times in zip(*rounds, strict=True)]
    seen = len(LADDER)
    rates, error = fit_rates([work(shape) for shape in shapes[:seen]], taken[:seen])
    rows = []
    for shape, one, measured in zip(UNSEEN, shapes[seen:], taken[seen:], strict=True):
        predicted = sum(rates[name] * getattr(work(one), name) for name in TERMS)
        rows.append({"shape": shape, "measured": measured, "predicted": predicted, "ratio": predicted / measured})
    if arguments.json:
        print(json.dumps({"machine": processor(), "fit_error": error, "unseen": rows}, indent=1))
        return
    kind = "CPU seconds" if arguments.cpu_seconds else "wall clock"
    print(f"{processor()}, {torch.get_num_threads()} thread(s), {kind}; largest miss of the fit {error:.1%}")
    print("width depth sequence batch vocabulary  measured  predicted  ratio")
    for row in rows:
        cells = "{:5}{:6}{:9}{:6}{:11}".format(*row["shape"])
        print(f"{cells}{row['measured']:10.4f}{row['predicted']:11.4f}{row['ratio']:7.2f}")
    worst = max(abs(row["ratio"] - 1) for row in rows)
    print(f"largest miss of an unseen step {worst:.1%}")


if __name__ == "__main__":
    main()
