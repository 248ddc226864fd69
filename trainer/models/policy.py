"""REINFORCE leave-one-out: a policy that learns from rewards of several answers that it wrote to every prompt."""

from __future__ import annotations

import torch
from torch import Tensor

from trainer.config import Config
from trainer.models.losses import NOT_A_TARGET
from trainer.models.model import Model, Output
from trainer.models.preference import PolicyAndReference, answer_likelihood


class PolicyModel(PolicyAndReference):
    """A policy, the reference that it is held near to, and the gradient of its expected reward (Ahmadian et al. 2024,
    sections 2.1 and 3.2; Kool et al. 2019, equation 8).

    A record is a prompt with k answers that the policy wrote by these very weights, at temperature 1. What an answer
    earns is its reward minus kl times the log of its probability over that under the reference: a whole answer is one
    action, so the KL term is of sequences. Its baseline is the mean of what the other k - 1 answers earn.

    vocabulary: tokens that can be written; rows of the output matrix behind them have no probability. None: all.
    """

    def __init__(self, config: Config, policy: Model, reference: Model) -> None:
        super().__init__(config, policy, reference)
        self.kl = config.task.kl
        self.vocabulary: int | None = None

    def likelihood(self, model: Model, answers: Tensor, **batch: Tensor) -> Tensor:
        """[B, k]: log-probability in nats of each answer, its next tokens in answers [B, k, S] and -100 elsewhere,
        under the policy or the reference."""
        rows = {name: value.flatten(0, 1) for name, value in batch.items()}
        found = answer_likelihood(model, answers.flatten(0, 1), self.vocabulary, **rows)
        return found.view(answers.shape[:2])

    def forward(
        self,
        targets: Tensor,
        answers: Tensor,
        rewards: Tensor,
        reference: Tensor,
        ended: Tensor,
        **batch: Tensor,
    ) -> Output:
        """A sum over the answers whose targets [B, k] are not -100, its number, and side sums.

        rewards, reference [B, k]: of each answer, and its log-probability under the reference. ended [B, k]: 1 where
        it came to an end. The value is minus what the answers earned, so that its mean estimates minus the objective,
        E[reward] - kl x KL; the gradient is that of the policy, without bias.
        """
        real = targets != NOT_A_TARGET
        now = self.likelihood(self.policy, answers, **batch)
        with torch.no_grad():
            divergence = now - reference
            earned = rewards - self.kl * divergence
            others = (earned.sum(dim=1, keepdim=True) - earned) / (earned.shape[1] - 1)
        loss = -((earned - others) * (now - now.detach()) + earned)
        sums = {
            "reward": rewards,
            "reward_squared": rewards.square(),
            "kl": divergence,
            "surprisal": -now.detach(),
            "answer_tokens": (answers != NOT_A_TARGET).sum(dim=2),
            "answers_ended": ended,
        }
        totals = {name: torch.where(real, value, 0).sum() for name, value in sums.items()}
        return torch.where(real, loss, 0.0).sum(), real.sum(), totals
