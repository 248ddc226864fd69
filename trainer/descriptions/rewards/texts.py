"""Rewards of an answer's text."""

from __future__ import annotations

import re
from typing import Any

from trainer.descriptions.rewards import RewardDescription
from trainer.utils.schema import Count, key


class Contains(RewardDescription):
    """A pattern somewhere in the answer."""

    name = "contains"
    help = "1 where a regular expression is found in the answer, else 0"
    implementation = "trainer.tasks.rewards:contains"

    class Keys(RewardDescription.Keys):
        """What is looked for."""

        reward_pattern: str = key("", "regular expression (reward_function=contains)", introduced="")

    def misfits(self, group: Any) -> list[str]:
        """It needs a pattern."""
        if not group.reward_pattern:
            return ["reward_pattern: reward_function=contains looks for one, e.g. task.reward_pattern=e"]
        try:
            re.compile(group.reward_pattern)
        except re.error as error:
            return [f"reward_pattern: {group.reward_pattern!r} is no regular expression ({error})"]
        return []


class Length(RewardDescription):
    """How near the answer is to a wanted length."""

    name = "length"
    help = "0 for an answer of task.reward_length tokens, -1 for one that is as much longer or shorter"
    implementation = "trainer.tasks.rewards:length"

    class Keys(RewardDescription.Keys):
        """How long is right."""

        reward_length: Count = key(
            16, "tokens of the best answer, its end included (reward_function=length)", "tokens", ge=1, introduced=16
        )


class ExactMatch(RewardDescription):
    """The record's answer."""

    name = "exact_match"
    help = "1 where the answer is the record's, task.answer, else 0; spaces around it do not count"
    implementation = "trainer.tasks.rewards:exact_match"
    reads_answer = True
