"""Answers that the model writes and that are rewarded."""

from __future__ import annotations

from typing import Any

from trainer.descriptions.tasks import TaskDescription
from trainer.descriptions.tasks.keys import Prompted, Templated
from trainer.utils.schema import Count, key


class Policy(TaskDescription):
    """A policy that learns from rewards of what it writes."""

    name = "policy"
    help = "a policy that learns from rewards of the answers that it writes"
    families = ("decoder", "encoder_decoder")
    implementation = "trainer.tasks.prompts:Prompts"
    head = None
    wrapper = "trainer.models.policy:PolicyModel"
    completer = "trainer.generation.rollouts:Rollouts"
    scorer = "trainer.evaluate.policy_scores:score_policy"
    reference = converses = True

    class Keys(Prompted, Templated):
        """Of REINFORCE leave-one-out."""

        samples: Count = key(
            4, "answers to a prompt, each judged by the mean of the others (kind=policy)", "answers", ge=2, introduced=4
        )
        max_new_tokens: Count = key(
            32, "most tokens of an answer, its end included (kind=policy)", "tokens", ge=1, introduced=32
        )
        kl: float = key(
            0.05, "reward that a nat of divergence from the start costs (kind=policy)", ge=0, introduced=0.05
        )
        temperature: float = key(
            1.0, "of sampling; 1, or the answers are not the policy's own (kind=policy)", gt=0, introduced=1.0
        )
        reward: str | None = key(
            None, "run of a reward model that judges the answers, of task=reward (kind=policy)", introduced=None
        )

    def rows_of(self, task: Any) -> int:
        """The answers to a prompt."""
        return int(task.samples)

    def target_length(self, task: Any, length: int) -> int:
        """Answers are as long as they may be."""
        return int(task.max_new_tokens)

    def misfits(self, group: Any) -> list[str]:
        """One reward, a start to be held near to, and samples of the policy itself."""
        wrong, given = [], [name for name in ("reward", "reward_function") if getattr(group, name) is not None]
        if not given:
            wrong.append("reward: none given; task.reward=<run of task=reward>, or e.g. task.reward_function=length")
        if len(given) == 2:
            wrong.append(
                f"reward: two given, the run {group.reward} and the function {group.reward_function}; take one"
            )
        if group.from_scratch:
            wrong.append("from_scratch: a policy is held near to a reference, the parent run")
        if group.temperature != 1:
            wrong.append(
                f"temperature: {group.temperature:g} given; the gradient is that of answers drawn at 1, as the policy "
                "gives them"
            )
        return wrong

    def config_misfits(self, config: Any) -> list[str]:
        """It writes with whole weights, and all that it writes has a position."""
        wrong, task = [], config.task
        if config.engine.zero_stage == 3:
            wrong.append("engine.zero_stage: 3 divides the weights that a policy writes with; 2 is the highest for it")
        if task.max_new_tokens > config.data.sequence_length:
            wrong.append(
                f"task.max_new_tokens: {task.max_new_tokens} is more than data.sequence_length "
                f"{config.data.sequence_length}"
            )
        return wrong
