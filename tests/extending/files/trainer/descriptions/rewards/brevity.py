"""A reward that costs what is long."""

from __future__ import annotations

from trainer.descriptions.rewards import RewardDescription
from trainer.utils.schema import key


class Brevity(RewardDescription):
    name = "brevity"
    help = "minus the characters of an answer, each at a price"
    implementation = "trainer.tasks.brevity:brevity"

    class Keys(RewardDescription.Keys):
        character_price: float = key(0.01, "reward that a character costs", ge=0, introduced=0.01)
