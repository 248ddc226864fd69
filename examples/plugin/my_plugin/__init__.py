"""An objective, an optimizer, a tracker and a hook from outside isoflop: their descriptions, which import no torch."""

from __future__ import annotations

from trainer.descriptions.hooks import HookDescription
from trainer.descriptions.objectives import ObjectiveDescription
from trainer.descriptions.optimizers import OptimizerDescription
from trainer.descriptions.trackers import TrackerDescription
from trainer.utils.schema import key


class Reverse(ObjectiveDescription):
    name = "reverse"
    help = "predict each token from those behind it"
    implementation = "my_plugin.objective:reverse"
    families = ("decoder",)
    parts = ("document",)
    likelihood = True

    class Keys(ObjectiveDescription.Keys):
        reversed_share: float = key(1.0, "share of the documents that are read backwards", ge=0, le=1)


class SignMomentum(OptimizerDescription):
    name = "sign_momentum"
    help = "steps of equal size along the signs of the mean gradient (signSGD, Bernstein et al. 2018)"
    implementation = "my_plugin.optimizer:sign_momentum"
    states = ("mean",)

    class Keys(OptimizerDescription.Keys):
        mean_share: float = key(0.9, "share of the mean gradient that the next step keeps", ge=0, lt=1)


class Csv(TrackerDescription):
    name = "csv"
    help = "losses.csv in the run's folder"
    implementation = "my_plugin.tracker:CsvTracker"
    off = ("csv", False)

    class Keys(TrackerDescription.Keys):
        csv: bool = key(False, "losses.csv in the run's folder: step and loss")


class SlowSteps(HookDescription):
    name = "slow_steps"
    help = "counts the steps of each rank that took long"
    implementation = "my_plugin.hook:SlowSteps"
    off = ("slow_seconds", None)

    class Keys(HookDescription.Keys):
        slow_seconds: float | None = key(None, "steps that take longer are counted; null: none are", "s", gt=0)
