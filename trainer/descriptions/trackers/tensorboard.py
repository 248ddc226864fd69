"""TensorBoard's event files."""

from __future__ import annotations

from trainer.descriptions.trackers import _Naming
from trainer.utils.schema import key


class TensorBoard(_Naming):
    name = "tensorboard"
    help = "curves, text samples and histograms for TensorBoard, in tensorboard/ of the run's folder"
    implementation = "trainer.trackers.tensorboard:make"
    off = ("tensorboard", False)
    library = ("tensorboard", "isoflop[tensorboard]")

    class Keys(_Naming.Keys):
        tensorboard: bool = key(False, "event files for TensorBoard in the run's folder", introduced=False)
