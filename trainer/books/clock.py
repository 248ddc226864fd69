"""Time of one optimizer step from a roofline of the machine (Williams et al. 2009), part by part.

Matrix products run at a share of the peak, everything else at a share of the memory's bandwidth, and what is sent
overlaps in part with the backward pass. The shares are assumptions with a low and a high end; a calibration of the
machine at hand takes their place.
"""

from __future__ import annotations

import operator
from functools import reduce
from typing import NamedTuple

from trainer.books.calibration import Pace
from trainer.books.links import Flow, flows
from trainer.books.quantity import Quantity, estimated, exact, not_stated
from trainer.books.step_work import Work, work
from trainer.config import Config
from trainer.config.host import fp8, precision


class Share(NamedTuple):
    """An assumed efficiency: pessimistic, likely, optimistic."""

    low: float
    middle: float
    high: float


# Shares that published training reaches, see docs/price-tag.md for how far off they are.
PRODUCTS = Share(0.45, 0.62, 0.75)  # of the dense peak, in linear layers
SCORES = Share(0.2, 0.35, 0.5)  # of the dense peak, in fused attention
MEMORY = Share(0.6, 0.8, 0.9)  # of the memory's bandwidth
LINKS = Share(0.5, 0.7, 0.85)  # of a link's bandwidth
OVERLAP = Share(0.0, 0.6, 1.0)  # of the backward pass under which traffic can hide


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
    low, middle, high = (_roofline(config, amount, column) for column in (2, 1, 0))
    source = f"roofline of {config.machine.name}"
    missing = _missing(config, amount.flows)
    return estimated(middle, source + (f"; {missing}" if missing else ""), low, None if missing else high)


def _roofline(config: Config, amount: Work, column: int) -> float:
    peaks = config.machine.peak_flops
    peak = peaks[precision(config)]
    compute = (amount.product_flop - amount.fp8_flop) / (PRODUCTS[column] * peak)
    compute += amount.score_flop / (SCORES[column] * peak)
    if amount.fp8_flop:
        compute += amount.fp8_flop / (PRODUCTS[column] * peaks["fp8"])
    bandwidth = config.machine.memory_bandwidth
    moved = (
        (amount.activation_bytes + amount.loss_bytes + amount.optimizer_bytes) / (MEMORY[column] * bandwidth)
        if bandwidth
        else 0.0
    )
    hideable, waited = (_sent(config, amount.flows, column, hides) for hides in (True, False))
    hidden = OVERLAP[column] * compute * 2 / 3
    return compute + moved + max(0.0, hideable - hidden) + waited


def _sent(config: Config, sent: tuple[Flow, ...], column: int, hides: bool) -> float:
    """Seconds of the traffic that can hide under computing, or of the other."""
    times = (flow.seconds(config.machine, LINKS[column]) for flow in sent if flow.hides == hides)
    return sum(time for time in times if time is not None)


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
