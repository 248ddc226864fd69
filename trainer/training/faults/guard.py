"""Decides on each step by its loss and gradients, before the update is made.

An anomalous step is computed once more from the same weights and samples: what a machine got wrong does not come back,
and the run goes on as if nothing had been. What comes back is a matter for the policy: stop, skip the batch, or roll
back to the latest checkpoint and skip every batch since.

Step numbers count updates: step s (from 0) trains on batch s plus the number of batches skipped before it. Which
samples batch b holds does not depend on that.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from trainer.config import AnomaliesConfig
from trainer.training.faults.anomalies import Anomaly, Recent, nonfinite

Decision = Literal["update", "skip", "rollback", "stop"]


@dataclass(frozen=True)
class Gradients:
    """What a forward and backward pass found, summed over ranks; the gradients themselves wait in the engine."""

    loss: float  # nats per target
    norm: float  # of all gradients, before clipping
    sums: dict[str, float]  # named side results of the model
    source: str = ""  # where something first was not finite, if that is known


class Guard:
    """Every rank decides on the same sums by the same state, so all come to the same decision."""

    def __init__(self, config: AnomaliesConfig, state: dict[str, Any]) -> None:
        """`state` is that of the checkpoint which the run goes on from; empty at the beginning."""
        self.config = config
        self.recent = Recent(config)
        self.recent.restore(state)
        self.handled: int = state.get("handled", 0)
        self.skipped_batches: list[tuple[int, int]] = [(first, last) for first, last in state.get("holes", [])]
        self.reason = ""  # of the last stop

    def state(self) -> dict[str, Any]:
        """For the checkpoint."""
        return {**self.recent.state(), "handled": self.handled, "holes": list(self.skipped_batches)}

    def batch(self, step: int) -> int:
        """The batch that comes next after `step` updates."""
        return step + sum(last - first for first, last in self.skipped_batches)

    def trained(self, step: int) -> list[tuple[int, int]]:
        """The batches of the first `step` updates, as ranges (first, last + 1): all before the next one but those that
        were skipped."""
        ranges, begin = [], 0
        for first, last in sorted(self.skipped_batches):
            ranges.append((begin, first))
            begin = last
        return [*ranges, (begin, self.batch(step))]

    def decide(
        self,
        compute: Callable[[], Gradients],
        skip_update: Callable[[], None],
        report: Callable[[str, str], None],
        *,
        warming_up: bool = False,
    ) -> tuple[Gradients, Decision]:
        """Compute a step's gradients and say what to do with them; where the answer is not `update` the
        update is already skipped.

        `report(event, text)` writes to the logbook. warming_up: the learning rate still rises; of spikes that are
        ignored, fewer are told then."""
        found = compute()
        anomaly = self.judge(found, report, warming_up=warming_up)
        if anomaly is None:
            return found, "update"
        skip_update()
        return self.compute_again(anomaly, compute, skip_update, report, warming_up)

    def judge(
        self, found: Gradients, report: Callable[[str, str], None], *, warming_up: bool = False
    ) -> Anomaly | None:
        """What is wrong with a step, if anything; one that is good is kept, for later ones to be compared with."""
        if (anomaly := self._check(found, report, warming_up)) is None:
            self.recent.keep(found.loss, found.norm)
        return anomaly

    def compute_again(
        self,
        anomaly: Anomaly,
        compute: Callable[[], Gradients],
        skip_update: Callable[[], None],
        report: Callable[[str, str], None],
        warming_up: bool,
    ) -> tuple[Gradients, Decision]:
        """The rest of `decide` for a step that was found so and whose gradients are gone."""
        found = compute()
        still = self.judge(found, report, warming_up=warming_up)
        if still is not None:
            skip_update()
            return found, self._act(still, report)
        report("transient", f"{anomaly.text}; computed once more it is not: a fault of the machine, nothing is lost")
        return found, "update"

    def _check(self, found: Gradients, report: Callable[[str, str], None], warming_up: bool) -> Anomaly | None:
        if (anomaly := nonfinite(found.loss, found.norm, found.source)) is not None:
            return anomaly
        if self.config.spike != "ignore":
            return self.recent.check(found.loss, found.norm)
        if (notice := self.recent.notice(found.loss, found.norm, warming_up=warming_up)) is not None:
            report(notice.kind, f"{notice.text}; the update is made all the same")
        return None

    def _policy(self, anomaly: Anomaly) -> str:
        return self.config.nonfinite if anomaly.kind == "nonfinite" else self.config.spike

    def _act(self, anomaly: Anomaly, report: Callable[[str, str], None]) -> Decision:
        policy = self._policy(anomaly)
        if policy in ("skip", "rollback") and self.handled < self.config.limit:
            self.handled += 1
            report(
                anomaly.kind,
                f"{anomaly.text}, also when computed once more: {policy} {self.handled} of {self.config.limit}",
            )
            return "skip" if policy == "skip" else "rollback"
        self.reason = anomaly.text + ("" if policy == "stop" else f"; anomalies.limit={self.config.limit} is reached")
        report(anomaly.kind, f"{self.reason}, also when computed once more: stop")
        return "stop"

    def skip(self, batch: int) -> None:
        self.skipped_batches.append((batch, batch + 1))

    def roll_back(self, step: int, state: dict[str, Any], batch: int) -> None:
        """Back to the state at the checkpoint of `step`; all batches since, up to `batch`, are skipped."""
        self.recent.restore(state)
        self.skipped_batches = [(first, last) for first, last in state.get("holes", [])]
        self.skipped_batches.append((self.batch(step), batch + 1))
