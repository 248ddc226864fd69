"""Rewards that are computed: functions of an answer that a policy wrote."""

from __future__ import annotations

from typing import ClassVar

from trainer.descriptions.registry import Description, Registry


class RewardDescription(Description):
    """`implementation` is called as `(completion, task)` with a `trainer.tasks.rewards.Completion` and the group `task`
    of the configuration, on every rank, and returns a finite number. The same answer has the same reward always."""

    reads_answer: ClassVar[bool] = False  # whether every record has a right answer, `task.answer`, which it is told


REWARDS = Registry("reward", "trainer.descriptions.rewards", RewardDescription, chosen_by="reward_function")
