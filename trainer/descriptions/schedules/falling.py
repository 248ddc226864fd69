"""Schedules that fall to a share of the peak rate at the last step."""

from __future__ import annotations

from trainer.descriptions.schedules import ScheduleDescription
from trainer.utils.schema import key


class _Falling(ScheduleDescription):
    class Keys(ScheduleDescription.Keys):
        min_lr_ratio: float = key(0.1, "final over peak learning rate", ge=0, le=1)


class Cosine(_Falling):
    name = "cosine"
    help = "half a cosine, from the peak rate to the final one"
    implementation = "trainer.training.schedules:cosine"


class Linear(_Falling):
    name = "linear"
    help = "a straight line from the peak rate to the final one"
    implementation = "trainer.training.schedules:linear"


class Wsd(_Falling):
    name = "wsd"
    help = "warm-up, stable, decay: a straight line over the last steps"
    implementation = "trainer.training.schedules:wsd"

    class Keys(_Falling.Keys):
        decay_fraction: float = key(0.2, "share of the steps that the final decay of wsd takes", gt=0, le=1)
