"""Pairs of answers, of which people chose one."""

from __future__ import annotations

from typing import Any

from trainer.descriptions.tasks import TaskDescription
from trainer.descriptions.tasks.keys import Pooled, Prompted
from trainer.utils.schema import key

PAIR = ("the chosen", "the rejected text")


class Reward(TaskDescription):
    """A score that is higher for the chosen answer."""

    name = "reward"
    help = "a score of an answer, higher for the chosen one of two"
    implementation = "trainer.tasks.formats:Scored"
    head = "trainer.models.task_heads:RewardHead"
    scorer = "trainer.evaluate.task_scores:score_rewards"
    answers = PAIR
    pools = True

    class Keys(Pooled):
        """The head is that of classes, with one output."""

    def outputs(self, task: Any) -> int:
        """The score."""
        return 1


class Preference(TaskDescription):
    """A policy that prefers the chosen answer more than its reference does."""

    name = "preference"
    help = "a policy that learns to prefer the chosen one of two answers"
    families = ("decoder",)
    implementation = "trainer.tasks.formats:Preferred"
    head = None
    scorer = "trainer.evaluate.task_scores:score_preferences"
    answers = PAIR
    reference = True

    class Keys(Prompted):
        """Of direct preference optimization."""

        beta: float = key(0.1, "strength of the pull towards the reference (kind=preference)", gt=0)

    def misfits(self, group: Any) -> list[str]:
        """It is learned against the parent."""
        wrong = "from_scratch: preferences are learned against a reference, the parent run"
        return [wrong] if group.from_scratch else []
