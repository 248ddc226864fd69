"""A second or two of this host's processor: the rate of a large product and of a large copy, which stand for its peak
and its memory's bandwidth where nobody states them."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import date
from typing import Any

from trainer.books.host import Probe, probed_threads, write_probe
from trainer.books.machine import probe_wanted
from trainer.config import Config
from trainer.config.host import precision, processor

SIDE = 1536  # of the square matrices: 7.2 GFLOP a product
COPIED = 1 << 27  # bytes, of which a copy reads and writes as many: more than the caches of most processors hold
SECONDS = 0.7  # for each of the two


def probe(config: Config, seconds: float = SECONDS, clock: Callable[[], float] = time.perf_counter) -> Probe:
    """The best product and the best copy of about `seconds` each, on the threads of all this host's ranks together, in
    the run's precision. No random number is drawn, and torch's threads are as they were afterwards."""
    import torch

    before, dtype = torch.get_num_threads(), precision(config)
    torch.set_num_threads(probed_threads(config))
    try:
        kind = torch.bfloat16 if dtype == "bf16" else torch.float32
        one, other, product = (torch.ones(SIDE, SIDE, dtype=kind) for _ in range(3))
        source, target = (torch.ones(COPIED // 4) for _ in range(2))

        def multiply() -> None:
            with torch.no_grad():
                torch.mm(one, other, out=product)

        def copy() -> Any:
            return target.copy_(source)

        began, spent = time.perf_counter(), time.process_time()
        flop_rate = 2 * SIDE**3 / _least(multiply, seconds, clock)
        given = (time.process_time() - spent) / (time.perf_counter() - began) / torch.get_num_threads()
        byte_rate = 2 * COPIED / _least(copy, seconds, clock)
    finally:
        torch.set_num_threads(before)
    today = date.today().isoformat()
    return Probe(processor(), probed_threads(config), dtype, flop_rate, byte_rate, today, round(min(given, 1.0), 3))


def _least(work: Callable[[], Any], seconds: float, clock: Callable[[], float]) -> float:
    """The shortest time of one call, after one that warms up: what else the machine does only makes it longer."""
    work()
    taken: list[float] = []
    began = clock()
    while len(taken) < 3 or clock() - began < seconds:
        start = clock()
        work()
        taken.append(clock() - start)
    return min(taken)


def measure_once(config: Config) -> str | None:
    """Measure this host if nobody has, for a run that is to compute on its processor, and keep what was found. Returns
    the line to say, or None where nothing was to be done or the cache cannot be written."""
    if not probe_wanted(config):
        return None
    found = probe(config)
    try:
        write_probe(config, found)
    except OSError:
        return None
    return found.line
