"""Losses and gradient norms that are not as they should be.

A value is a spike when it lies more than `anomalies.threshold` robust standard deviations above the median of the last
`anomalies.window` good steps (median absolute deviation times 1.4826, Rousseeuw and Croux 1993). A fall is no anomaly.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from statistics import median
from typing import Any, Literal

from trainer.config import AnomaliesConfig

FLOOR = 0.02  # least spread, relative to the median: a loss on a plateau is no reason to see spikes everywhere
ENOUGH = 16  # good steps before anything is called a spike


@dataclass(frozen=True)
class Anomaly:
    kind: Literal["nonfinite", "spike"]
    text: str


class Recent:
    """The losses and gradient norms of the last good steps.

    Its state goes into checkpoints, so that a resumed run decides as the run would have; its values are sums over
    ranks, so that all ranks decide alike."""

    def __init__(self, config: AnomaliesConfig) -> None:
        self.threshold = config.threshold
        self.losses: deque[float] = deque(maxlen=config.window)
        self.norms: deque[float] = deque(maxlen=config.window)

    def check(self, loss: float, norm: float) -> Anomaly | None:
        """What is wrong with a step, if anything."""
        if not (math.isfinite(loss) and math.isfinite(norm)):
            return Anomaly("nonfinite", f"loss {loss:.4g} or gradient norm {norm:.4g} is not finite")
        for name, value, values in (("loss", loss, self.losses), ("gradient norm", norm, self.norms)):
            if len(values) >= ENOUGH and (z := robust_z(value, values)) > self.threshold:
                text = f"{name} {value:.4g} is {z:.1f} deviations above the median {median(values):.4g}"
                return Anomaly("spike", f"{text} of {len(values)} steps")
        return None

    def keep(self, loss: float, norm: float) -> None:
        self.losses.append(loss)
        self.norms.append(norm)

    def state(self) -> dict[str, Any]:
        return {"losses": list(self.losses), "norms": list(self.norms)}

    def restore(self, state: dict[str, Any]) -> None:
        for values, kept in ((self.losses, state.get("losses", [])), (self.norms, state.get("norms", []))):
            values.clear()
            values.extend(kept)


def robust_z(value: float, values: deque[float]) -> float:
    """How many robust standard deviations `value` lies above the median of `values`."""
    middle = median(values)
    spread = 1.4826 * median(abs(one - middle) for one in values)
    return (value - middle) / max(spread, FLOOR * abs(middle), 1e-12)
