"""The heads of tasks: classes of rows or words, answers within a text, rewards."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from trainer.config import Config
from trainer.config.model import ModelConfig
from trainer.models.activations import pooled_activation
from trainer.models.dropout import Rates, dropped
from trainer.models.initialization import initial_stds
from trainer.models.losses import NOT_A_TARGET, pair_loss
from trainer.models.model import Head, Output
from trainer.models.parts import Linear


class PooledHead(Head):
    """`task.outputs` numbers a row, from the hidden state of one token: the first of an encoder, the last of other
    models.

    Dropout is on what the last matrix reads, as there.

    As in transformers: a decoder's head is one matrix (Radford et al. 2018, section 3.2), an encoder's is BERT's pooler
    and a matrix (Devlin et al. 2019, section 3), with a pooler of its own where pre-training had none.
    DistilBERT's is relu in place of tanh (Sanh et al. 2019, in the released code).
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.family, self.task = config.model.family, config.task
        alone = self.family == "decoder"
        self.dense = None if alone else linear(config.model, config.model.width)
        self.activation = pooled_activation(config.model)
        self.output = output(config, bias=not alone)
        self.dropout = Rates.of(config.model)

    def logits(self, hidden_states: Tensor, **batch: Tensor) -> Tensor:
        """[..., outputs], fp32."""
        if self.family == "encoder":
            pooled = hidden_states[..., 0, :]
        else:
            last = ((batch["segments"] >= 0).sum(dim=-1) - 1).clamp(min=0)
            pooled = hidden_states.take_along_dim(last[..., None, None], dim=-2).squeeze(-2)
        if self.dense is not None:
            pooled = self.activation(self.dense(pooled))
        drop = self.dropout.begin(self, "head", batch.get("samples"))
        return self.output(dropped(pooled, drop, "output")).float()


class SequenceClassifier(PooledHead):
    """One class for a row. Targets [B]."""

    def forward(self, hidden_states: Tensor, targets: Tensor, **batch: Tensor) -> Output:
        """Sum of the cross-entropy in nats over the rows with a target (fp32), their count, and how many are right."""
        logits = self.logits(hidden_states, **batch)
        return class_loss(logits, targets, self.task.label_smoothing * self.training)


class TokenClassifier(Head):
    """One class for every word, at its first token (Devlin et al. 2019, section 5.3). Targets [B, S]."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.task = config.task
        self.output = output(config)
        self.dropout = Rates.of(config.model)

    def logits(self, hidden_states: Tensor, **batch: Tensor) -> Tensor:
        """[B, S, outputs], fp32."""
        drop = self.dropout.begin(self, "head", batch.get("samples"))
        return self.output(dropped(hidden_states, drop, "output")).float()

    def forward(self, hidden_states: Tensor, targets: Tensor, **batch: Tensor) -> Output:
        """As SequenceClassifier, over all words."""
        logits = self.logits(hidden_states, **batch).flatten(0, 1)
        return class_loss(logits, targets.flatten(), self.task.label_smoothing * self.training)


class QuestionAnswering(TokenClassifier):
    """First and last token of the answer within a text (Rajpurkar et al. 2016; Devlin et al. 2019, section 4.2).

    Targets [B, 2], their positions.
    """

    def logits(self, hidden_states: Tensor, **batch: Tensor) -> Tensor:
        """[B, S, 2], fp32; very low where no answer can be, by `inside` [B, S], 1 in the context and at <s>."""
        nowhere = (batch["inside"] == 0)[..., None]
        return super().logits(hidden_states, **batch).masked_fill(nowhere, torch.finfo(torch.float32).min)

    def forward(self, hidden_states: Tensor, targets: Tensor, **batch: Tensor) -> Output:
        """As SequenceClassifier, over first and last tokens."""
        logits = self.logits(hidden_states, **batch)
        return class_loss(logits.transpose(1, 2).flatten(0, 1), targets.flatten(), 0.0)


class RewardHead(PooledHead):
    """A score for every answer: the one that people chose shall have the higher one (Bradley and Terry 1952; Ouyang et
    al. 2022, section 3.5). Hidden states [B, 2, S, width], chosen before rejected; targets [B], 0 for a pair."""

    def forward(self, hidden_states: Tensor, targets: Tensor, **batch: Tensor) -> Output:
        """Sum of -log sigmoid(chosen - rejected) over the pairs, their count, and how many are in the right order."""
        chosen, rejected = self.logits(hidden_states, **batch).squeeze(-1).unbind(dim=1)
        return pair_loss(chosen - rejected, targets)


def linear(config: ModelConfig, outputs: int, *, bias: bool = True) -> Linear:
    """A new layer over hidden states."""
    return Linear(config.width, outputs, bias=bias, std=initial_stds(config).other)


def output(config: Config, *, bias: bool = True) -> Linear:
    """A new layer to the task's outputs."""
    layer = linear(config.model, config.task.outputs, bias=bias)
    layer.role = "head"
    return layer


def class_loss(logits: Tensor, targets: Tensor, smoothing: float) -> Output:
    """Of logits [N, classes] over the targets [N]; `correct`: how many have the highest logit."""
    loss = F.cross_entropy(
        logits, targets, ignore_index=NOT_A_TARGET, reduction="sum", label_smoothing=float(smoothing)
    )
    correct = (logits.argmax(dim=-1) == targets).sum()
    return loss, (targets != NOT_A_TARGET).sum(), {"correct": correct.detach()}
