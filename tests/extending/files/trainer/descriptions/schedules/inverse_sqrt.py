"""The inverse square root of the step (Vaswani et al. 2017, section 5.3)."""

from __future__ import annotations

from trainer.descriptions.schedules import ScheduleDescription
from trainer.utils.schema import key


class InverseSqrt(ScheduleDescription):
    name = "inverse_sqrt"
    help = "falls with the inverse square root of the step"
    implementation = "trainer.training.schedules.inverse_sqrt:inverse_sqrt"

    class Keys(ScheduleDescription.Keys):
        timescale: int = key(1000, "steps after which the rate begins to fall noticeably", "steps", ge=1)
