"""Direct preference optimization: a policy against the model that it was."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from trainer.config import Config
from trainer.config.recomputation import Recomputation
from trainer.models.experts import Experts
from trainer.models.losses import NOT_A_TARGET, pair_loss
from trainer.models.model import Model, NamedAsStored, Output


class PolicyAndReference(NamedAsStored):
    """A policy beside a frozen copy of its initial weights.

    A record is n sequences: all tensors of a batch are [B, n, S], what an encoder reads too. The reference is in
    evaluation mode from the beginning, and experts of both take every token, so that without dropout the two differ by
    their weights alone, and a policy learns as it writes.
    """

    def __init__(self, config: Config, policy: Model, reference: Model) -> None:
        super().__init__()
        self.names = {"policy.": "body."}
        self.config, self.policy = config.model, policy
        self.reference = reference.requires_grad_(False).eval()
        for layer in self.modules():
            if isinstance(layer, Experts):  # a capacity would drop tokens in training alone
                layer.config = layer.config.model_copy(update={"capacity": None})

    @property
    def recompute(self) -> Recomputation:
        """Activation checkpointing; the engine sets it."""
        return self.policy.recompute

    @recompute.setter
    def recompute(self, value: Recomputation) -> None:
        self.policy.recompute = value

    def train(self, mode: bool = True) -> PolicyAndReference:
        """The reference is what the weights were, without dropout."""
        super().train(mode)
        self.reference.eval()
        return self


class PreferenceModel(PolicyAndReference):
    """Of two answers to a prompt, chosen before rejected (Rafailov et al. 2023, equation 7): [B, 2, S]; answers holds
    the next tokens of the answer, -100 elsewhere."""

    def __init__(self, config: Config, policy: Model, reference: Model) -> None:
        super().__init__(config, policy, reference)
        self.beta = config.task.beta

    def margins(self, answers: Tensor, **batch: Tensor) -> Tensor:
        """[B]: log-likelihood of chosen over rejected, beyond the reference's, in nats."""
        rows = {name: value.flatten(0, 1) for name, value in batch.items()}
        own = answer_likelihood(self.policy, answers.flatten(0, 1), None, **rows)
        with torch.no_grad():
            before = answer_likelihood(self.reference, answers.flatten(0, 1), None, **rows)
        chosen, rejected = (own - before).view(-1, 2).unbind(dim=1)
        return chosen - rejected

    def forward(self, targets: Tensor, **batch: Tensor) -> Output:
        """Sum of -log sigmoid(beta x margin) over the pairs, their count, and how many margins are above 0."""
        margin = self.margins(**batch)
        loss, count, sums = pair_loss(self.beta * margin, targets)
        return loss, count, {**sums, "margin": (margin * (targets >= 0)).sum().detach()}


def answer_likelihood(model: Model, answers: Tensor, vocabulary: int | None = None, **batch: Tensor) -> Tensor:
    """[B]: log-probability in nats of the answers' tokens [B, S] that are not -100, each from those before it, in fp32
    or more.

    batch: what the model reads, as its `logits` takes it. vocabulary: tokens that there are; rows of the output matrix
    behind them have no probability. None: all are tokens."""
    logits = model.logits(**batch)[..., :vocabulary]
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    each = F.cross_entropy(logits.flatten(0, 1), answers.flatten(), ignore_index=NOT_A_TARGET, reduction="none")
    return -each.view(answers.shape).sum(dim=1)
