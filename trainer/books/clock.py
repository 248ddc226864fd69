"""Time of one optimizer step from a roofline of the machine (Williams et al. 2009), part by part.

Matrix products run at a share of the peak, everything else at a share of the memory's bandwidth
(`trainer.books.efficiency`); no pass is quicker than its operators are launched (`trainer.books.launch_floor`); what is
sent overlaps in part with computing, what a collective takes whatever its size does not (`trainer.books.collectives`);
states on the host cost their way and the processors' update (`trainer.books.offload`). A calibration of the machine at
hand takes the place of it all.
"""

from __future__ import annotations

import math
import operator
from functools import reduce

from trainer.books.calibration import Pace
from trainer.books.collectives import latency_seconds
from trainer.books.efficiency import Efficiency, efficiency
from trainer.books.kernels import compiled
from trainer.books.launch_floor import floor_seconds
from trainer.books.links import Flow, flows
from trainer.books.offload import offload_seconds
from trainer.books.quantity import Quantity, estimated, exact, not_stated
from trainer.books.step_work import Work, work
from trainer.config import Config
from trainer.config.host import fp8, precision

# By pessimistic, likely and optimistic.
LINKS = (0.5, 0.7, 0.85)  # of a link's bandwidth
# Hosts meet in ever more switches: the share between h of them is smaller by 1 + this x log2 h. At its worst as in the
# Ultra-Scale Playbook's data parallelism (2025), where 256 H100s do 39% of what 8 do each.
CROWDED = (0.6, 0.05, 0.0)
OVERLAP = (0.3, 0.6, 1.0)  # of what is computed meanwhile, under which traffic can hide
# Times as much of what is no product that is left where torch compiles it: torchtitan's Llama 3.1 8B on 8 H100 with and
# without, see `scripts/results/efficiency`.
COMPILED = 0.5


def run_seconds(config: Config, steps: int, calibration: Pace | None = None) -> Quantity:
    """Time of the first `steps` steps, each of its own shape."""
    shapes = config.curriculum.steps_by_shape(0, steps).items()
    times = [step_seconds(config.at_shape(shape), calibration) * exact(count) for shape, count in shapes]
    return reduce(operator.add, times)


def step_seconds(config: Config, calibration: Pace | None = None) -> Quantity:
    """Time of one step at data.sequence_length: from a calibration of this machine, else from the stated peak."""
    return seconds_of(config, work(config), calibration)


def seconds_of(config: Config, amount: Work, calibration: Pace | None = None) -> Quantity:
    """Time of this work of one rank."""
    if calibration is not None:
        seconds = calibration.seconds(amount)
        return estimated(seconds, calibration.source, *calibration.bounds(seconds))
    dtypes = [precision(config), *(["fp8"] if fp8(config) else [])]
    for dtype in dtypes:
        if not config.machine.peak_flops.get(dtype):
            return not_stated(f"machine.peak_flops.{dtype}" + ("" if fp8(config) else " or isoflop calibrate"))
    shares = efficiency(config)
    low, middle, high = (roofline(config, amount, shares, column) for column in (2, 1, 0))
    low, high = low / shares.faster, high + middle * (shares.slower - 1)
    source = f"roofline of {config.machine.name}, {shares.named}"
    missing = _missing(config, amount.flows)
    return estimated(middle, source + (f"; {missing}" if missing else ""), low, None if missing else high)


def roofline(config: Config, amount: Work, shares: Efficiency, column: int = 1) -> float:
    """Seconds of this work at these shares; column: 0 links and overlap at their worst, 1 likely, 2 at their best."""
    peaks = config.machine.peak_flops
    peak = peaks[precision(config)]
    products = (amount.product_flop - amount.fp8_flop) / (shares.products * peak)
    if amount.fp8_flop:
        products += amount.fp8_flop / (shares.products * peaks["fp8"])
    products += amount.composed_flop / (shares.products * peak)
    compute = products + amount.fused_flop / (shares.scores * peak)
    bandwidth = config.machine.memory_bandwidth
    elsewhere = 0.0
    if bandwidth:
        fused = COMPILED if compiled(config).on else 1.0
        passed = (amount.activation_bytes + amount.loss_bytes) * fused
        elsewhere = (passed + amount.optimizer_bytes) / (shares.memory * bandwidth)
    device = max(compute + elsewhere, floor_seconds(config))
    hideable, waited = (_sent(config, amount.flows, column, hides) for hides in (True, False))
    exposed = max(0.0, hideable - OVERLAP[column] * device) + waited
    return device + exposed + latency_seconds(config) + offload_seconds(config, column)


def _sent(config: Config, sent: tuple[Flow, ...], column: int, hides: bool) -> float:
    """Seconds of the traffic that can hide under computing, or of the other."""
    times = (flow.seconds(config.machine, _link_share(flow, column)) for flow in sent if flow.hides == hides)
    return sum(time for time in times if time is not None)


def _link_share(flow: Flow, column: int) -> float:
    hosts = -(-flow.ranks // flow.hosted)
    return LINKS[column] / (1 + CROWDED[column] * math.log2(hosts))


def wire_seconds(config: Config) -> float:
    """Of one step's traffic by itself, whatever of it hides; links that are not stated take none."""
    return sum(_sent(config, flows(config), 1, hides) for hides in (True, False))


def _missing(config: Config, sent: tuple[Flow, ...]) -> str:
    """What the machine does not state, so that its time is not in the estimate."""
    names = []
    if config.machine.memory_bandwidth is None:
        names.append("machine.memory_bandwidth")
    untimed = [flow for flow in sent if flow.seconds(config.machine) is None]
    links = {"machine.link_bandwidth": False, "machine.network_bandwidth": True}
    names += [name for name, crosses in links.items() if any((flow.ranks > flow.hosted) == crosses for flow in untimed)]
    return f"without {' and '.join(names)}" if names else ""
