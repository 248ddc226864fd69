"""The schedules of the learning rate after warm-up."""

from __future__ import annotations

from typing import Any, ClassVar

from trainer.descriptions.registry import Description, Registry


class ScheduleDescription(Description):
    """Its implementation is a pure function `(optim, step, warmup, total_steps) -> share of the peak rate`: of update
    number `step`, counted from 0, of `total_steps`, the first `warmup` of which were the warm-up."""

    warms_up: ClassVar[bool] = False  # whether it has a warm-up of its own, and reads no optim.warmup_steps

    def in_steps(self, optim: Any, clock: Any, total_steps: int) -> Any:
        """`optim` with what is stated in tokens as steps of a run of `total_steps`; `clock` is its
        trainer.config.Curriculum. The other members and the implementation are given that."""
        return optim

    def warmup_steps(self, optim: Any, total_steps: int) -> int:
        """Updates of its own warm-up, if it has one."""
        return 0

    def warmup_to(self, optim: Any) -> float:
        """Share of the peak rate that its warm-up rises to."""
        return 1.0

    def steps_stated(self, optim: Any, total_steps: int) -> int:
        """How many steps its keys speak of; a run must not be shorter."""
        return 0


SCHEDULES: Registry[ScheduleDescription] = Registry(
    "schedule", "trainer.descriptions.schedules", ScheduleDescription, chosen_by="optim.schedule"
)
