"""Judges each step by its loss and gradients, before the update is made.

An odd step is computed once more from the same weights and samples: what a machine got wrong does not come back, and
the run goes on as if nothing had been. What comes back is a matter for the policy: stop, skip the batch, or roll back
to the newest checkpoint and skip every batch since.

A batch that was skipped is a hole: step numbers count updates, and step s (from 0) trains on batch s plus the holes
before it. Batch b holds samples [b B, (b + 1) B) whatever happens.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from trainer.config import AnomaliesConfig
from trainer.training.faults.anomalies import Oddity, Recent

Verdict = Literal["update", "skip", "rollback", "stop"]


@dataclass(frozen=True)
class Gradients:
    """What a forward and backward pass found, summed over ranks; the gradients themselves wait in the engine."""

    loss: float  # nats per target
    norm: float  # of all gradients, before clipping
    sums: dict[str, float]  # named side results of the model


class Guard:
    """Every rank judges the same sums by the same state, so all come to the same verdict."""

    def __init__(self, config: AnomaliesConfig, state: dict[str, Any]) -> None:
        """`state` is that of the checkpoint which the run goes on from; empty at the beginning."""
        self.config = config
        self.recent = Recent(config)
        self.recent.restore(state)
        self.handled: int = state.get("handled", 0)
        self.holes: list[tuple[int, int]] = [(first, last) for first, last in state.get("holes", [])]
        self.reason = ""  # of the last stop

    def state(self) -> dict[str, Any]:
        """For the checkpoint."""
        return {**self.recent.state(), "handled": self.handled, "holes": list(self.holes)}

    def batch(self, step: int) -> int:
        """The batch that comes next after `step` updates."""
        return step + sum(last - first for first, last in self.holes)

    def judge(
        self, compute: Callable[[], Gradients], discard: Callable[[], None], tell: Callable[[str, str], None]
    ) -> tuple[Gradients, Verdict]:
        """Compute a step's gradients and say what to do with them; what shall not be used is already discarded.

        `tell(event, text)` writes to the logbook."""
        found = compute()
        odd = self._odd(found, tell)
        if odd is not None:
            discard()
            found = compute()
            still = self._odd(found, tell)
            if still is not None:
                discard()
                return found, self._act(still, tell)
            tell("transient", f"{odd.text}; computed once more it is not: a fault of the machine, nothing is lost")
        self.recent.keep(found.loss, found.norm)
        return found, "update"

    def _odd(self, found: Gradients, tell: Callable[[str, str], None]) -> Oddity | None:
        odd = self.recent.odd(found.loss, found.norm)
        if odd is not None and self._policy(odd) == "ignore":
            tell(odd.kind, f"{odd.text}; the update is made all the same")
            return None
        return odd

    def _policy(self, odd: Oddity) -> str:
        return self.config.nonfinite if odd.kind == "nonfinite" else self.config.spike

    def _act(self, odd: Oddity, tell: Callable[[str, str], None]) -> Verdict:
        policy = self._policy(odd)
        if policy in ("skip", "rollback") and self.handled < self.config.limit:
            self.handled += 1
            tell(odd.kind, f"{odd.text}, also when computed once more: {policy} {self.handled} of {self.config.limit}")
            return "skip" if policy == "skip" else "rollback"
        self.reason = odd.text + ("" if policy == "stop" else f"; anomalies.limit={self.config.limit} is reached")
        tell(odd.kind, f"{self.reason}, also when computed once more: stop")
        return "stop"

    def skip(self, batch: int) -> None:
        self.holes.append((batch, batch + 1))

    def roll_back(self, step: int, state: dict[str, Any], batch: int) -> None:
        """Judge again as at the checkpoint of `step` with this state; all batches since, up to `batch`, are a hole."""
        self.recent.restore(state)
        self.holes = [(first, last) for first, last in state.get("holes", [])]
        self.holes.append((self.batch(step), batch + 1))
