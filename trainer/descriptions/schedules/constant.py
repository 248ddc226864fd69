"""The rate stays."""

from __future__ import annotations

from trainer.descriptions.schedules import ScheduleDescription


class Constant(ScheduleDescription):
    name = "constant"
    help = "the peak rate to the end"
    implementation = "trainer.training.schedules:constant"
