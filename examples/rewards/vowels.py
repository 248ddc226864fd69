"""A reward of one's own, for `isoflop finetune <run> plugins=examples/rewards/vowels.py task=policy`, with
`task.reward_function=vowels`."""

from __future__ import annotations

from typing import Any

from trainer.descriptions.rewards import RewardDescription


class Vowels(RewardDescription):
    name = "vowels"
    help = "share of an answer's letters that are vowels"
    implementation = "vowels:vowels"


def vowels(completion: Any, task: Any) -> float:
    """completion: a `trainer.tasks.rewards.Completion`; task: the group of the configuration."""
    letters = [letter for letter in completion.text.lower() if letter.isalpha()]
    return sum(letter in "aeiou" for letter in letters) / max(1, len(letters))
