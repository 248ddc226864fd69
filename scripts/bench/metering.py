"""What metering costs beside the steps that it meters, in processor time.

    scripts/bench/metering [--rounds 5] [--json]

On the training thread: what the loop does with the meter in one step. In the background: one reading (read, append,
fsync, fold) every `meter.every_seconds`, and one look for suspension every half second. All as a share of one training
step of a decoder of 2M parameters and 2,048 tokens, measured in the same process, alternating; medians of the rounds.
Processor time, so that what else the host does changes little.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from datetime import date
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from trainer.config import Config
from trainer.config.host import processor
from trainer.meter import Meter
from trainer.meter.suspension import BEAT_SECONDS
from trainer.meter.timed_step import time_step

CALLS, READINGS = 2000, 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    plain = Config().model_dump(mode="json")
    plain["optim"]["batch_size"] = 8
    config = Config.model_validate(plain)
    steps, calls, readings, looks = [], [], [], []
    clock = time.process_time
    with tempfile.TemporaryDirectory() as folder:
        meter = Meter(config, Path(folder))
        meter.start()
        for _ in range(arguments.rounds):
            steps.append(time_step(config, 1.0, clock))
            began = clock()
            for step in range(CALLS):
                for phase in ("data", "forward_backward", "optimizer", "other"):
                    meter.phase(phase)
                    meter.suspension.seconds()
                meter.read(step)
            calls.append((clock() - began) / CALLS)
            began = clock()
            for _ in range(READINGS):
                meter.take()
            readings.append((clock() - began) / READINGS)
            began = clock()
            for _ in range(CALLS):
                meter.suspension.seconds()
            looks.append((clock() - began) / CALLS)
        meter.close()
    step, call, reading, look = (statistics.median(values) for values in (steps, calls, readings, looks))
    every = config.meter.every_seconds
    background = reading / every + look / BEAT_SECONDS  # processor seconds a second
    result = {
        "step_cpu_seconds": step,
        "training_thread_cpu_seconds": call,
        "reading_cpu_seconds": reading,
        "look_cpu_seconds": look,
        "share_of_a_step": call / step + background,
        "processor": processor(),
        "date": date.today().isoformat(),
    }
    if arguments.json:
        print(json.dumps(result, indent=1))
        return
    print(f"processor time, {result['processor']}, {result['date']}")
    print(f"one step                     {step * 1e3:9.2f} ms")
    print(f"on the training thread       {call * 1e6:9.2f} us a step   {call / step:.4%} of it")
    print(f"in the background            {reading * 1e3:9.2f} ms a reading, every {every:g} s   {reading / every:.4%}")
    every_look = f"a look, every {BEAT_SECONDS:g} s   {look / BEAT_SECONDS:.4%}"
    print(f"                             {look * 1e6:9.2f} us {every_look}")
    print(f"together                     {result['share_of_a_step']:.3%} of a step")


if __name__ == "__main__":
    main()
