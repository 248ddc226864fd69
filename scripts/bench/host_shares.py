"""What share of a measured product and copy the steps of small models reach on this host's processor.

    scripts/bench/host_shares [--seconds 1.0] [--precision fp32] [--cpu-seconds] [--models llama-mini bert-mini ...]

Times steps of several kinds of models in several shapes, each right after a probe of the host, fits the shares of the
peak and of the bandwidth that explain them with the least relative error, and prints what is left: the quantiles of the
measured time over the estimated one. `trainer/books/host.py` holds what came out of it. By the wall clock; with
--cpu-seconds by the CPU time of one thread, which other work on the machine disturbs less.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from trainer.books.calibration import TERMS
from trainer.books.step_work import work
from trainer.compose import compose
from trainer.config.host import processor, threads
from trainer.meter.calibration import fit_rates, small_model, time_step
from trainer.meter.probe import probe

MODELS = ("llama-mini", "gpt-mini", "bert-mini", "t5-mini", "bart-mini", "deberta-mini")
OBJECTIVES = {"bert-mini": "bert", "t5-mini": "span_corruption", "bart-mini": "bart", "deberta-mini": "masked_lm"}
# width, depth, sequence, batch, vocabulary
SHAPES = ((64, 2, 64, 4, 512), (128, 4, 128, 8, 2048), (256, 4, 128, 8, 4096), (384, 3, 256, 4, 2048), (512, 2, 64, 8, 8192))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--cpu-seconds", action="store_true")
    parser.add_argument("--models", nargs="+", default=MODELS)
    arguments = parser.parse_args()
    clock = time.process_time if arguments.cpu_seconds else time.perf_counter
    rows, works, seconds = [], [], []
    for model in arguments.models:
        words = [f"model={model}", f"engine.precision={arguments.precision}", "engine.device=cpu"]
        words += [f"objective={OBJECTIVES[model]}"] if model in OBJECTIVES else []
        words += ["engine.threads=1"] if arguments.cpu_seconds else []
        config = compose(words)
        torch.set_num_threads(threads(config))
        for shape in SHAPES:
            small = small_model(config, *shape)
            found, taken, amount = probe(config, 0.3, clock), time_step(small, arguments.seconds, clock), work(small)
            peak, bandwidth = found.flop_per_second, found.bytes_per_second
            rows.append((model, shape, taken, amount, peak, bandwidth))
            print(f"{model:12} {str(shape):28} {taken:8.4f} s  peak {peak / 1e9:6.1f} GFLOP/s, {bandwidth / 1e9:5.1f} GB/s", flush=True)
    unit = {"product_flop": 4, "score_flop": 4, "activation_bytes": 5, "loss_bytes": 5, "optimizer_bytes": 5}
    table = np.array([[getattr(row[3], name) / (row[unit[name]] if name in unit else 1) for name in TERMS] for row in rows])
    from types import SimpleNamespace
    rates, error = fit_rates([SimpleNamespace(**dict(zip(TERMS, line))) for line in table], [row[2] for row in rows])
    print("rates", rates, "error", error)
    ratio = np.array([row[2] for row in rows]) / (table @ np.array([rates[name] for name in TERMS]))
    for row, one in zip(rows, ratio):
        print(row[0], row[1], f"{one:.2f}")
    print(np.quantile(ratio, [0, .05, .25, .5, .75, .95, 1]))


if __name__ == "__main__":
    main()
