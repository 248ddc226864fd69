"""What share of a measured product and copy the steps of small models reach on this host's processor.

    scripts/bench/host_shares [--seconds 1.0] [--precision fp32] [--cpu-seconds] [--models llama-mini bert-mini ...]

Times steps of several kinds of models in several shapes, each right after a probe of the host, fits the shares of the
peak and of the bandwidth that explain them with the least relative error, and prints what is left: the quantiles of the
measured time over the estimated one. `trainer/books/host.py` holds what came out of it. By the wall clock; with
--cpu-seconds by the CPU time of one thread, which other work on the machine disturbs less.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from trainer.books.host import HostPace
from trainer.books.step_work import work
from trainer.compose import compose
from trainer.config.host import threads
from trainer.meter.calibration import _nonnegative, small_model, time_step
from trainer.meter.probe import probe

MODELS = ("llama-mini", "gpt-mini", "bert-mini", "t5-mini", "bart-mini")
OBJECTIVES = {"bert-mini": "bert", "t5-mini": "span_corruption", "bart-mini": "bart"}
# width, depth, sequence, batch, vocabulary
SHAPES = (
    (64, 2, 64, 4, 512),
    (128, 4, 128, 8, 2048),
    (256, 4, 128, 8, 4096),
    (384, 3, 256, 4, 2048),
    (512, 2, 64, 8, 8192),
)
PROBED = 0.3  # seconds for each product and copy before a step


class Row(NamedTuple):
    model: str
    shape: tuple[int, ...]
    seconds: float  # of a step
    parts: tuple[float, ...]  # seconds of its products, scores and bytes at the probed rates, and its blocks
    estimate: float  # as the books have it


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--cpu-seconds", action="store_true")
    parser.add_argument("--models", nargs="+", default=MODELS)
    arguments = parser.parse_args()
    clock = time.process_time if arguments.cpu_seconds else time.perf_counter
    rows = []
    print("measured over estimated, and the shares of the measured time that parts take at the probed rates")
    for model in arguments.models:
        for shape in SHAPES:
            rows.append(row := timed(model, shape, arguments, clock))
            shares = " ".join(f"{part / row.seconds:5.2f}" for part in row.parts[:3])
            print(
                f"{model:12} {shape!s:26} {row.seconds:8.4f} s {row.seconds / row.estimate:5.2f}  {shares}", flush=True
            )
    table = np.array([row.parts for row in rows]) / np.array([[row.seconds] for row in rows])
    scale = table.max(axis=0)
    fitted = _nonnegative(table / scale, np.ones(len(rows))) / scale
    shares = [f"{1 / one:.2f}" if one else "none" for one in fitted[:3]]
    print(f"fitted shares: products {shares[0]}, scores {shares[1]}, memory {shares[2]}; {fitted[3]:.2g} s a block")
    for name, ratio in {
        "the books": [row.seconds / row.estimate for row in rows],
        "the fit": 1 / (table @ fitted),
    }.items():
        print(f"measured over {name}: {np.round(np.quantile(ratio, [0, 0.05, 0.5, 0.95, 1]), 2)} (0, 5, 50, 95, 100%)")


def timed(model: str, shape: tuple[int, ...], arguments: argparse.Namespace, clock: Callable[[], float]) -> Row:
    """One shape of one kind of model, right after a probe."""
    words = [f"model={model}", f"engine.precision={arguments.precision}", "engine.device=cpu"]
    words += [f"objective={OBJECTIVES[model]}"] if model in OBJECTIVES else []
    config = compose([*words, *(["engine.threads=1"] if arguments.cpu_seconds else [])])
    torch.set_num_threads(threads(config))
    small = small_model(config, *shape)
    found, taken, amount = probe(config, PROBED, clock), time_step(small, arguments.seconds, clock), work(small)
    moved = amount.activation_bytes + amount.loss_bytes + amount.optimizer_bytes
    flop, byte = found.flop_per_second, found.bytes_per_second
    parts = (amount.product_flop / flop, amount.score_flop / flop, moved / byte, float(amount.layers))
    return Row(model, shape, taken, parts, HostPace(found).seconds(amount))


if __name__ == "__main__":
    main()
