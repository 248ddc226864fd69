"""What devices and their hosts will draw, by component: GPUs, processors, memory, and a host at idle.

A board's power is a limit that it never exceeds, so it bounds the draw from above and is no estimate of it. Between a
board at idle and its limit the draw grows with how much of its peak is used: `DRAW`, drawn by hand through

- 15% of the limit while nothing is computed, 85% in training, the extremes of weeks of training on H100s (Morrison et
  al. 2025, arXiv 2503.05804, abstract);
- what papers print for whole runs: 350 of 400 W (Llama 2 34B), 280 of 400 W (StarCoder), 600 of 700 W (OLMo 2).

The lower end is the same line with 15% of the limit less, never below idle.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import sqrt
from typing import Literal

from trainer.books.calibration import Pace
from trainer.books.costs import JOULES_PER_KWH
from trainer.books.layout import world_size
from trainer.books.quantity import Quantity, Row, estimated, not_stated
from trainer.config import Config
from trainer.config.host import threads

IDLE, FULL = 0.15, 0.85  # shares of a board's limit
USED_FULL = 0.4  # share of the peak from which on a board draws FULL
LOWER = 0.15  # of the limit by which the draw may be lower than the line says
HOST_THREADS = 1.0  # that a rank keeps busy beside its GPU: the one that launches kernels


def draw(utilisation: float) -> tuple[float, float]:
    """Likely and least share of a board's limit that it draws where this share of its peak is used."""
    likely = IDLE + (FULL - IDLE) * sqrt(min(1.0, max(0.0, utilisation) / USED_FULL))
    return likely, max(IDLE, likely - LOWER)


def planned_components(
    config: Config, seconds: Quantity, utilisation: Quantity, calibration: Pace | None = None, held: float = 1.0
) -> dict[str, Quantity]:
    """Energy in kWh by component, named as the meter's. utilisation: share of the devices' peak that is used. held:
    time that the devices are held over `seconds`, above 1 where they wait for `launch.window`.

    A processor is planned by its busy threads where it is what computes and was calibrated, or beside GPUs.
    """
    ranks, meter, found = world_size(config), config.meter, {}
    machine, on_cpu = config.machine, config.engine.device == "cpu"
    computes = "cpu" if on_cpu else "gpu"
    if machine.power_watts is not None:
        power = _boards(machine.power_watts, ranks, utilisation)
        if held > 1:
            power = power + _waiting(machine.power_watts * ranks, held)
        found[computes] = seconds * power / JOULES_PER_KWH
    elif machine.name != "unstated" and not on_cpu:
        found[computes] = not_stated("machine.power_watts")
    beside = "gpu" in found
    if "cpu" not in found and (beside or calibration is not None):
        busy = ranks * (HOST_THREADS if beside else threads(config))
        low, high = meter.thread_watts_low, meter.thread_watts_high
        source = f"{busy:g} busy threads at {low:g} to {high:g} W each, a marginal share of the host"
        power = estimated(busy * sqrt(low * high), source, busy * low, busy * high)
        found["cpu"] = seconds * power / JOULES_PER_KWH
    found.setdefault("cpu", not_stated("machine.power_watts"))
    for name, watts in (("dram", meter.memory_watts), ("idle", meter.host_idle_watts)):
        if watts is not None:
            hosts = config.launch.nodes
            power = Quantity(watts * hosts, "stated", f"{watts:g} W x {hosts} host(s)")
            found[name] = seconds * held * power / JOULES_PER_KWH
    return found


def _boards(watts: float, devices: int, utilisation: Quantity) -> Quantity:
    """Power of all boards: at most their limit, and what is likely of it where the use of their peak is known."""
    most = watts * devices
    said = f"at most {watts:g} W board power x devices"
    if utilisation.value is None:
        return estimated(most * FULL, f"{FULL:.0%} of {said}", most * IDLE, most)
    likely, least = draw(utilisation.value)
    return estimated(most * likely, f"{likely:.0%} of {said}, by utilisation", most * least, most)


def _waiting(most: float, held: float) -> Quantity:
    """What idle boards draw while a window is closed, a second of work."""
    watts = IDLE * most * (held - 1)
    return estimated(watts, f"{IDLE:.0%} of it while launch.window is closed", watts / 2, 2 * watts)


def planned_energy(parts: dict[str, Quantity]) -> Quantity:
    """All components together, as far as they are stated; not stated where the devices' own is not."""
    if (missing := next((part for part in parts.values() if part.value is None), None)) is not None:
        return missing
    first, *rest = parts.values()
    total = sum(rest, first)
    said = " + ".join(COMPONENTS[name] for name in parts)
    return replace(total, source=f"{said}, as below") if rest else total


# As they are named in the planned and in the measured column.
COMPONENTS = {
    "gpu": "GPUs",
    "module": "GPU modules with their processors",
    "cpu": "processors",
    "dram": "memory",
    "idle": "hosts at idle, used alone",
}


def component_rows(kwh: Mapping[str, Quantity], column: Literal["planned", "measured"]) -> list[Row]:
    """A row a component."""
    return [
        replace(Row(f"energy.{name}_kwh", f"  {COMPONENTS.get(name, name)}", "kWh"), **{column: quantity})  # type: ignore[arg-type]
        for name, quantity in kwh.items()
    ]


COMPONENT_KEYS = {f"energy.{name}_kwh" for name in COMPONENTS}
