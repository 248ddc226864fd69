"""Direct preference optimization: a policy against the model that it was."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from trainer.config import Config
from trainer.models.losses import NOT_A_TARGET, pair_loss
from trainer.models.model import Model, NamedAsStored, Output


class PreferenceModel(NamedAsStored):
    """A policy and a frozen copy of its initial weights (Rafailov et al. 2023, equation 7).

    All tensors are [B, 2, S], chosen before rejected; answers holds the next tokens of the answer, -100 elsewhere.
    """

    def __init__(self, config: Config, policy: Model, reference: Model) -> None:
        super().__init__()
        self.names = {"policy.": "body."}
        self.config, self.beta, self.policy = config.model, config.task.beta, policy
        self.reference = reference.requires_grad_(False)

    @property
    def recompute(self) -> bool:
        """Activation checkpointing; the engine sets it."""
        return self.policy.recompute

    @recompute.setter
    def recompute(self, value: bool) -> None:
        self.policy.recompute = value

    def train(self, mode: bool = True) -> PreferenceModel:
        """The reference is what the weights were, without dropout."""
        super().train(mode)
        self.reference.eval()
        return self

    def margins(self, answers: Tensor, **batch: Tensor) -> Tensor:
        """[B]: log-likelihood of chosen over rejected, beyond the reference's, in nats."""
        rows = {name: value.flatten(0, 1) for name, value in batch.items()}
        own = answer_likelihood(self.policy, answers.flatten(0, 1), **rows)
        with torch.no_grad():
            before = answer_likelihood(self.reference, answers.flatten(0, 1), **rows)
        chosen, rejected = (own - before).view(-1, 2).unbind(dim=1)
        return chosen - rejected

    def forward(self, targets: Tensor, **batch: Tensor) -> Output:
        """Sum of -log sigmoid(beta x margin) over the pairs, their count, and how many margins are above 0."""
        margin = self.margins(**batch)
        loss, count, sums = pair_loss(self.beta * margin, targets)
        return loss, count, {**sums, "margin": (margin * (targets >= 0)).sum().detach()}


def answer_likelihood(
    model: Model, answers: Tensor, tokens: Tensor, positions: Tensor, segments: Tensor, samples: Tensor | None = None
) -> Tensor:
    """[B]: log-probability in nats of the answers' tokens [B, S] that are not -100, each from those before it, fp32.

    samples: [B], the numbers of the rows, by which dropout goes in training."""
    logits = model.logits(tokens, positions, segments, samples=samples).float()
    each = F.cross_entropy(logits.flatten(0, 1), answers.flatten(), ignore_index=NOT_A_TARGET, reduction="none")
    return -each.view(answers.shape).sum(dim=1)
