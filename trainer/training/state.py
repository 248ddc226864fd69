"""What a run carries from step to step, what its ranks agree on at a step's boundary, and how it ends."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from trainer.utils.outcomes import Status


@dataclass(frozen=True)
class Outcome:
    """How the run ended."""

    status: Status
    step: int
    reason: str = ""
    disk_full: bool = False  # is why it failed

    @property
    def text(self) -> str:
        return f"{self.status}: {self.reason}" if self.reason else str(self.status)


@dataclass
class TrainState:
    """What changes while a run goes on, beside weights, optimizer and guard."""

    step: int = 0  # updates made
    best: dict[str, Any] = field(default_factory=dict)  # step, loss and bits_per_byte of the lowest held-out loss
    evaluated_step: int | None = None  # of the last evaluation
    asked_step: int | None = None  # of the last one that asked for more than the loss


@dataclass(frozen=True)
class Agreement:
    """What all ranks know at a step boundary."""

    targets: float  # of the step
    padding: float  # share of its positions
    used: float  # the largest share of a measured budget that is used up
    outcome: Outcome | None  # where any rank has a reason to end
