"""Task models: a pre-trained backbone under a new head for classes of rows or words, spans, rewards; and DPO."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainer.config import Config
from trainer.models.decoder import Decoder
from trainer.models.encoder import Encoder
from trainer.models.encoder_decoder import EncoderDecoder
from trainer.models.initialization import initial_stds
from trainer.models.losses import NOT_A_TARGET
from trainer.models.parts import Linear

Backbone = Decoder | Encoder | EncoderDecoder
Output = tuple[Tensor, Tensor, dict[str, Tensor]]


class Wrapper(nn.Module):
    """A module whose backbone is `body`; parameter names of checkpoints begin with that."""

    body: Backbone

    @property
    def recompute(self) -> bool:
        """Activation checkpointing, a matter of the engine."""
        return self.body.recompute

    @recompute.setter
    def recompute(self, value: bool) -> None:
        self.body.recompute = value


class TaskModel(Wrapper):
    """A backbone without its pre-training heads; subclasses add the head of a task."""

    def __init__(self, config: Config, body: Backbone) -> None:
        super().__init__()
        self.config, self.task, self.body = config.model, config.task, body
        # The pre-trained heads go: engines fail where a weight has no gradient.
        body.head = nn.Identity()  # type: ignore[assignment]
        if isinstance(body, Decoder):
            body.transform = None

    def hidden_states(self, tokens: Tensor, segments: Tensor, positions: Tensor, **more: Tensor) -> Tensor:
        """Hidden states after the last norm, [B, S, width]; an encoder-decoder's is its decoder's (Lewis et al.
        2020, section 3: both read the text). more: token_types, source_tokens, source_positions, source_segments."""
        if isinstance(self.body, EncoderDecoder):
            read = self.body.encode(more["source_tokens"], more["source_positions"], more["source_segments"])
            return self.body.decode(read, tokens, positions, segments, more["source_segments"])
        return self.body.hidden(tokens, positions, segments, more.get("token_types"))

    def _linear(self, outputs: int, *, bias: bool = True) -> Linear:
        return Linear(self.config.width, outputs, bias=bias, std=initial_stds(self.config).other)


class PooledModel(TaskModel):
    """`outputs` numbers a row, from the hidden state of one token: the first of an encoder, the last of other models.

    As in transformers: a decoder's head is one matrix (Radford et al. 2018, section 3.2), an encoder's is BERT's pooler
    and a matrix (Devlin et al. 2019, section 3), or a tanh layer of its own where there is no pooler.
    """

    def __init__(self, config: Config, body: Backbone) -> None:
        super().__init__(config, body)
        alone = isinstance(body, Decoder)
        pooler = body.pooler if isinstance(body, Encoder) else None
        self.dense = self._linear(config.model.width) if pooler is None and not alone else None
        self.output = self._linear(config.task.outputs, bias=not alone)

    def logits(self, segments: Tensor, **batch: Tensor) -> Tensor:
        """[B, outputs], fp32."""
        hidden_states = self.hidden_states(segments=segments, **batch)
        if isinstance(self.body, Encoder):
            pooled = hidden_states[:, 0]
        else:
            last = ((segments >= 0).sum(dim=1) - 1).clamp(min=0)
            pooled = hidden_states[torch.arange(len(hidden_states), device=hidden_states.device), last]
        dense = self.body.pooler if isinstance(self.body, Encoder) and self.body.pooler is not None else self.dense
        if dense is not None:
            pooled = torch.tanh(dense(pooled))
        return self.output(pooled).float()


class SequenceClassifier(PooledModel):
    """One class for a row. Targets [B]."""

    def forward(self, targets: Tensor, **batch: Tensor) -> Output:
        """Sum of the cross-entropy in nats over the rows with a target (fp32), their count, and how many are right."""
        return _class_loss(self.logits(**batch), targets, self.task.label_smoothing * self.training)


class TokenClassifier(TaskModel):
    """One class for every word, at its first token (Devlin et al. 2019, section 5.3). Targets [B, S]."""

    def __init__(self, config: Config, body: Backbone) -> None:
        super().__init__(config, body)
        self.output = self._linear(config.task.outputs)

    def logits(self, **batch: Tensor) -> Tensor:
        """[B, S, outputs], fp32."""
        return self.output(self.hidden_states(**batch)).float()

    def forward(self, targets: Tensor, **batch: Tensor) -> Output:
        """As SequenceClassifier, over all words."""
        logits = self.logits(**batch).flatten(0, 1)
        return _class_loss(logits, targets.flatten(), self.task.label_smoothing * self.training)


class QuestionAnswering(TokenClassifier):
    """First and last token of the answer within a text (Rajpurkar et al. 2016; Devlin et al. 2019, section 4.2).

    Targets [B, 2], their positions.
    """

    def logits(self, **batch: Tensor) -> Tensor:
        """[B, S, 2], fp32; very low where no answer can be, by `inside` [B, S], 1 in the context and at <s>."""
        nowhere = batch.pop("inside") == 0
        return super().logits(**batch).masked_fill(nowhere[..., None], torch.finfo(torch.float32).min)

    def forward(self, targets: Tensor, **batch: Tensor) -> Output:
        """As SequenceClassifier, over first and last tokens."""
        return _class_loss(self.logits(**batch).transpose(1, 2).flatten(0, 1), targets.flatten(), 0.0)


class RewardModel(PooledModel):
    """A score for every answer: the one that people chose shall have the higher one (Bradley and Terry 1952; Ouyang et
    al. 2022, section 3.5). All tensors are [B, 2, S], chosen before rejected; targets [B], 0 for a pair."""

    def scores(self, **batch: Tensor) -> Tensor:
        """[B, 2], fp32."""
        rows = {name: value.flatten(0, 1) for name, value in batch.items()}
        return self.logits(**rows).view(-1, 2)

    def forward(self, targets: Tensor, **batch: Tensor) -> Output:
        """Sum of -log sigmoid(chosen - rejected) over the pairs, their count, and how many are in the right order."""
        chosen, rejected = self.scores(**batch).unbind(dim=1)
        return _preference_loss(chosen - rejected, targets)


class DPO(Wrapper):
    """Direct preference optimization against a frozen copy of the initial weights (Rafailov et al. 2023, equation 7).

    All tensors are [B, 2, S], chosen before rejected; answers holds the next tokens of the answer, -100 elsewhere.
    """

    body: Decoder

    def __init__(self, config: Config, body: Decoder, reference: Decoder) -> None:
        super().__init__()
        self.config, self.beta, self.body = config.model, config.task.beta, body
        self.reference = reference.requires_grad_(False)

    def margins(self, answers: Tensor, **batch: Tensor) -> Tensor:
        """[B]: log-likelihood of chosen over rejected, beyond the reference's, in nats."""
        rows = {name: value.flatten(0, 1) for name, value in batch.items()}
        own = answer_likelihood(self.body, answers.flatten(0, 1), **rows)
        with torch.no_grad():
            before = answer_likelihood(self.reference, answers.flatten(0, 1), **rows)
        chosen, rejected = (own - before).view(-1, 2).unbind(dim=1)
        return chosen - rejected

    def forward(self, targets: Tensor, **batch: Tensor) -> Output:
        """Sum of -log sigmoid(beta x margin) over the pairs, their count, and how many margins are above 0."""
        margin = self.margins(**batch)
        loss, count, sums = _preference_loss(self.beta * margin, targets)
        return loss, count, {**sums, "margin": (margin * (targets >= 0)).sum().detach()}


def answer_likelihood(model: Decoder, answers: Tensor, tokens: Tensor, positions: Tensor, segments: Tensor) -> Tensor:
    """[B]: log-probability in nats of the answers' tokens [B, S] that are not -100, each from those before it, fp32."""
    logits = model.logits(tokens, positions, segments).float()
    each = F.cross_entropy(logits.flatten(0, 1), answers.flatten(), ignore_index=NOT_A_TARGET, reduction="none")
    return -each.view(answers.shape).sum(dim=1)


def _class_loss(logits: Tensor, targets: Tensor, smoothing: float) -> Output:
    loss = F.cross_entropy(
        logits, targets, ignore_index=NOT_A_TARGET, reduction="sum", label_smoothing=float(smoothing)
    )
    correct = (logits.argmax(dim=-1) == targets).sum()
    return loss, (targets != NOT_A_TARGET).sum(), {"correct": correct.detach()}


def _preference_loss(margin: Tensor, targets: Tensor) -> Output:
    pairs = targets != NOT_A_TARGET
    loss = torch.where(pairs, -F.logsigmoid(margin.float()), 0.0).sum()
    return loss, pairs.sum(), {"correct": ((margin > 0) & pairs).sum().detach()}


HEADS: dict[str, type[SequenceClassifier] | type[TokenClassifier] | type[QuestionAnswering] | type[RewardModel]] = {
    "sequence": SequenceClassifier,
    "token": TokenClassifier,
    "span": QuestionAnswering,
    "reward": RewardModel,
}
