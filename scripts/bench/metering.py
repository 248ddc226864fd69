"""What metering costs beside the steps that it meters.

    scripts/bench/metering [--rounds 5] [--json]

On the training thread: what the loop does with the meter in one step. In the background: one reading (read, append,
fsync, fold) every `meter.every_seconds`. Both as a share of one training step of a decoder of 2M parameters and 2,048
tokens, timed in the same process, alternating; medians of the rounds.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from trainer.config import Config
from trainer.meter import Meter
from trainer.meter.calibration import time_step

CALLS, READINGS = 2000, 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    plain = Config().model_dump(mode="json")
    plain["optim"]["batch_size"] = 8
    config = Config.model_validate(plain)
    steps, calls, readings = [], [], []
    with tempfile.TemporaryDirectory() as folder:
        meter = Meter(config, Path(folder))
        meter.start()
        for _ in range(arguments.rounds):
            steps.append(time_step(config, 1.0))
            began = time.perf_counter()
            for step in range(CALLS):
                for phase in ("data", "forward_backward", "optimizer", "other"):
                    meter.phase(phase)
                meter.read(step)
            calls.append((time.perf_counter() - began) / CALLS)
            for _ in range(READINGS):
                began = time.perf_counter()
                meter.take()
                readings.append(time.perf_counter() - began)
        meter.close()
    step, call, reading = (statistics.median(values) for values in (steps, calls, readings))
    every = config.meter.every_seconds
    result = {
        "step_seconds": step,
        "training_thread_seconds": call,
        "reading_seconds": reading,
        "share_of_a_step": call / step + reading / every,
    }
    if arguments.json:
        print(json.dumps(result, indent=1))
        return
    print(f"one step                     {step * 1e3:9.2f} ms")
    print(f"on the training thread       {call * 1e6:9.2f} us a step   {call / step:.4%} of it")
    print(f"in the background            {reading * 1e3:9.2f} ms a reading, every {every:g} s   {reading / every:.4%}")
    print(f"together                     {result['share_of_a_step']:.3%} of a step")


if __name__ == "__main__":
    main()
