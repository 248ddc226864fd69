"""The largest gradient norm of an attempt."""

from __future__ import annotations

from trainer.descriptions.hooks import HookDescription
from trainer.utils.schema import key


class LargestNorm(HookDescription):
    name = "largest_norm"
    help = "tells the largest gradient norm when an attempt ends"
    implementation = "trainer.training.largest_norm:LargestNorm"
    off = ("largest_norm", None)

    class Keys(HookDescription.Keys):
        largest_norm: str | None = key(None, "file in the run's folder for the largest gradient norm; null: none")
