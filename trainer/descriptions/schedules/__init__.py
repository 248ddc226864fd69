"""The schedules of the learning rate after warm-up."""

from __future__ import annotations

from trainer.descriptions.registry import Description, Registry


class ScheduleDescription(Description):
    """Its implementation is a pure function `(optim, step, warmup, total_steps) -> share of the peak rate`: of update
    number `step`, counted from 0, of `total_steps`, the first `warmup` of which were the warm-up."""


SCHEDULES: Registry[ScheduleDescription] = Registry(
    "schedule", "trainer.descriptions.schedules", ScheduleDescription, chosen_by="optim.schedule"
)
