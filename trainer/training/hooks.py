"""What hears of a run as it goes: the clocks, the watchdog, the stragglers, a profiler."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trainer.config import Config
from trainer.descriptions.hooks import HOOKS, hooks_on
from trainer.trackers.records import EvaluationRecord
from trainer.utils.errors import UserError


@dataclass(frozen=True)
class StepResult:
    """A step that has ended, summed over ranks where not said otherwise."""

    step: int  # updates so far, this one included
    targets: float
    loss: float  # nats per target
    grad_norm: float  # before clipping
    lr: float
    memory_peak_bytes: int  # of this rank
    sums: Mapping[str, float]  # named side results of the model
    sources: Mapping[str, int]  # tokens by source
    padding: float = 0.0  # share of the positions that hold no text
    alone_seconds: float = 0.0  # that this rank worked without waiting for another
    gradient_noise: Mapping[str, Any] = field(default_factory=dict)  # gradient noise scale, where the step was measured
    updates: Mapping[str, Any] = field(default_factory=dict)  # norms by part and kind, likewise
    trained: Sequence[tuple[int, int]] | None = None  # ranges of batches (first, last + 1); None: the first `step`
    scheduled: Mapping[str, float] = field(default_factory=dict)  # what changes along the run beside the rate
    experts: Mapping[str, float] = field(default_factory=dict)  # how even the loads of experts are


class Hook:
    """Hears what the Trainer does, and decides nothing. Every rank calls every method in the same order, so a method
    may be collective. Hooks are called in the order of the Trainer's list, and closed in the reverse one."""

    def phase(self, name: str, step: int) -> None:
        """From now on time belongs to this phase: one of `trainer.books.records.STEP_PHASES`, evaluation or
        checkpoint; `step` updates were made so far."""

    def step_began(self, step: int) -> None:
        """The step after `step` updates begins. It may end without an update: skipped, rolled back, or stopped."""

    def step_ended(self, result: StepResult) -> None:
        """An update was made."""

    def evaluated(self, record: EvaluationRecord) -> None:
        """The loss on held-out text was measured."""

    def saved(self, step: int, seconds: float) -> None:
        """A save of `step` has ended, complete or not, so many seconds after it was asked for."""

    def closed(self, status: str, step: int, text: str) -> None:
        """The attempt ends with this status after `step` updates; `text` says why."""


def hooks_of(config: Config, run: Path) -> list[Hook]:
    """The hooks that the configuration asks for. Raises UserError where an implementation makes something else."""
    made = []
    for one in hooks_on(config.hooks):
        hook = HOOKS.implementation(one.name)(config, run)
        if not isinstance(hook, Hook):
            raise UserError(f"hook {one.name}: {one.implementation} makes no trainer.training.hooks.Hook")
        made.append(hook)
    return made
