"""Losses and gradient norms that are not as they should be.

A value is a spike when it lies more than `anomalies.threshold` robust standard deviations above the median of the last
`anomalies.window` good steps (median absolute deviation times 1.4826, Rousseeuw and Croux 1993). A fall is no anomaly.

Policies act on spikes so defined. Where they are only told (`anomalies.spike=ignore`), other things are: losses and
gradient norms of small batches have long tails, so that a healthy run has values ten deviations above its median every
few hundred steps. A notice compares with the last NEWEST steps, over which a falling loss spreads less, and must stand
out from the largest of them: as a multiple of their median, or, a loss whose learning rate has risen, by its deviation.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Literal

from trainer.config import AnomaliesConfig

FLOOR = 0.02  # least spread, relative to the median: a loss on a plateau is no reason to see spikes everywhere
ENOUGH = 16  # good steps before anything is called a spike
NEWEST = 32  # good steps that a notice compares with
LARGE = 0.9  # quantile of those above which the largest of them lie


@dataclass(frozen=True)
class Told:
    """From which multiples on a value is told."""

    of_large: float  # of the quantile LARGE, in any case
    of_median: float  # whatever the deviation
    by_deviation: bool  # or else by the deviation


# Norms of healthy runs reach ten times their median, and the update is clipped: their deviation says nothing.
TOLD = {"loss": Told(1.25, 1.8, True), "gradient norm": Told(2.0, 14.0, False)}


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
        if (anomaly := nonfinite(loss, norm)) is not None:
            return anomaly
        for name, value, values in self._pairs(loss, norm):
            if len(values) >= ENOUGH and (z := robust_z(value, values)) > self.threshold:
                return Anomaly("spike", _words(name, value, z, values))
        return None

    def notice(self, loss: float, norm: float, *, warming_up: bool) -> Anomaly | None:
        """A spike, of a step with finite values, that is worth telling where no update depends on it."""
        for name, value, values in self._pairs(loss, norm):
            newest, told = list(values)[-NEWEST:], TOLD[name]
            if len(newest) < ENOUGH or min(newest) <= 0:  # of a policy's loss, minus its reward, there are no multiples
                continue
            if value <= told.of_large * quantile(newest, LARGE):
                continue
            z = robust_z(value, newest)
            deviates = told.by_deviation and not warming_up and z > self.threshold
            if deviates or value > told.of_median * median(newest):
                return Anomaly("spike", _words(name, value, z, newest))
        return None

    def _pairs(self, loss: float, norm: float) -> Iterator[tuple[str, float, deque[float]]]:
        yield "loss", loss, self.losses
        yield "gradient norm", norm, self.norms

    def keep(self, loss: float, norm: float) -> None:
        self.losses.append(loss)
        self.norms.append(norm)

    def state(self) -> dict[str, Any]:
        return {"losses": list(self.losses), "norms": list(self.norms)}

    def restore(self, state: dict[str, Any]) -> None:
        for values, kept in ((self.losses, state.get("losses", [])), (self.norms, state.get("norms", []))):
            values.clear()
            values.extend(kept)


def nonfinite(loss: float, norm: float, source: str = "") -> Anomaly | None:
    """source: where something first was not finite, if that is known."""
    if math.isfinite(loss) and math.isfinite(norm):
        return None
    text = f"loss {loss:.4g} or gradient norm {norm:.4g} is not finite"
    return Anomaly("nonfinite", f"{text}, {source}" if source else text)


def _words(name: str, value: float, z: float, values: Sequence[float]) -> str:
    text = f"{name} {value:.4g} is {z:.1f} deviations above the median {median(values):.4g}"
    return f"{text} of {len(values)} steps"


def quantile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least this share of them does not exceed."""
    return sorted(values)[math.ceil(share * len(values)) - 1]


def robust_z(value: float, values: Sequence[float]) -> float:
    """How many robust standard deviations `value` lies above the median of `values`."""
    middle = median(values)
    spread = 1.4826 * median(abs(one - middle) for one in values)
    return (value - middle) / max(spread, FLOOR * abs(middle), 1e-12)
