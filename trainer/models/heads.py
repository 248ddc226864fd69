"""A pre-trained body under a new head: classes, words' classes, spans, and scores learned from preferences."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainer.config import Config
from trainer.models.decoder import Decoder
from trainer.models.encoder import Encoder
from trainer.models.encoder_decoder import EncoderDecoder
from trainer.models.initialization import spread
from trainer.models.losses import NOT_A_TARGET
from trainer.models.parts import Linear

Body = Decoder | Encoder | EncoderDecoder
Output = tuple[Tensor, Tensor, dict[str, Tensor]]


class Around(nn.Module):
    """A model around a body."""

    body: Body

    @property
    def recompute(self) -> bool:
        """Activation checkpointing, a matter of the engine."""
        return self.body.recompute

    @recompute.setter
    def recompute(self, value: bool) -> None:
        self.body.recompute = value


class Tuned(Around):
    """What all heads share: a body without the heads of its pre-training, and its features."""

    def __init__(self, config: Config, body: Body) -> None:
        super().__init__()
        self.config, self.task, self.body = config.model, config.task, body
        # The pre-trained heads go: a weight without a gradient would be a riddle to every engine.
        body.head = nn.Identity()  # type: ignore[assignment]
        if isinstance(body, Decoder):
            body.transform = None

    def features(self, tokens: Tensor, segments: Tensor, positions: Tensor, **more: Tensor) -> Tensor:
        """The residual stream after the last norm, [B, S, width]; an encoder-decoder's is its decoder's (Lewis et al.
        2020, section 3: the text is read by both sides). more: token_types, source_tokens and their kin."""
        if isinstance(self.body, EncoderDecoder):
            read = self.body.encode(more["source_tokens"], more["source_positions"], more["source_segments"])
            return self.body.decode(read, tokens, positions, segments, more["source_segments"])
        return self.body.hidden(tokens, positions, segments, more.get("token_types"))

    def _linear(self, outputs: int, *, bias: bool = True) -> Linear:
        return Linear(self.config.width, outputs, bias=bias, std=spread(self.config).other)


class Pooled(Tuned):
    """One vector for a whole row: the first token of an encoder, the last token of every other model, and from it
    `outputs` numbers.

    As in transformers: a decoder's head is one matrix (Radford et al. 2018, section 3.2), an encoder's is BERT's pooler
    and a matrix (Devlin et al. 2019, section 3), or a tanh layer of its own where there is no pooler.
    """

    def __init__(self, config: Config, body: Body) -> None:
        super().__init__(config, body)
        alone = isinstance(body, Decoder)
        pooler = body.pooler if isinstance(body, Encoder) else None
        self.dense = self._linear(config.model.width) if pooler is None and not alone else None
        self.output = self._linear(config.task.outputs, bias=not alone)

    def logits(self, segments: Tensor, **batch: Tensor) -> Tensor:
        """[B, outputs], fp32."""
        features = self.features(segments=segments, **batch)
        if isinstance(self.body, Encoder):
            pooled = features[:, 0]
        else:
            last = ((segments >= 0).sum(dim=1) - 1).clamp(min=0)
            pooled = features[torch.arange(len(features), device=features.device), last]
        dense = self.body.pooler if isinstance(self.body, Encoder) and self.body.pooler is not None else self.dense
        if dense is not None:
            pooled = torch.tanh(dense(pooled))
        return self.output(pooled).float()


class Classifier(Pooled):
    """One class for a row. Targets [B]."""

    def forward(self, targets: Tensor, **batch: Tensor) -> Output:
        """Sum of the cross-entropy in nats over the rows with a target (fp32), their count, and how many are right."""
        return _classes(self.logits(**batch), targets, self.task.label_smoothing * self.training)


class Tagger(Tuned):
    """One class for every word, at its first token (Devlin et al. 2019, section 5.3). Targets [B, S]."""

    def __init__(self, config: Config, body: Body) -> None:
        super().__init__(config, body)
        self.output = self._linear(config.task.outputs)

    def logits(self, **batch: Tensor) -> Tensor:
        """[B, S, outputs], fp32."""
        return self.output(self.features(**batch)).float()

    def forward(self, targets: Tensor, **batch: Tensor) -> Output:
        """As Classifier, over all words."""
        logits = self.logits(**batch).flatten(0, 1)
        return _classes(logits, targets.flatten(), self.task.label_smoothing * self.training)


class SpanFinder(Tagger):
    """Where an answer begins and where it ends (Rajpurkar et al. 2016; Devlin et al. 2019, section 4.2).

    Targets [B, 2], the places of its first and last token.
    """

    def logits(self, **batch: Tensor) -> Tensor:
        """[B, S, 2], fp32; very low where no answer can be, by `inside` [B, S], 1 in the context and at <s>."""
        nowhere = batch.pop("inside") == 0
        return super().logits(**batch).masked_fill(nowhere[..., None], torch.finfo(torch.float32).min)

    def forward(self, targets: Tensor, **batch: Tensor) -> Output:
        """As Classifier, over beginnings and ends."""
        return _classes(self.logits(**batch).transpose(1, 2).flatten(0, 1), targets.flatten(), 0.0)


class RewardModel(Pooled):
    """A score for every answer: the one that people chose shall have the higher one (Bradley and Terry 1952; Ouyang et
    al. 2022, section 3.5). All tensors are [B, 2, S], chosen before rejected; targets [B], 0 for a pair."""

    def scores(self, **batch: Tensor) -> Tensor:
        """[B, 2], fp32."""
        rows = {name: value.flatten(0, 1) for name, value in batch.items()}
        return self.logits(**rows).view(-1, 2)

    def forward(self, targets: Tensor, **batch: Tensor) -> Output:
        """Sum of -log sigmoid(chosen - rejected) over the pairs, their count, and how many are in the right order."""
        chosen, rejected = self.scores(**batch).unbind(dim=1)
        return _preferred(chosen - rejected, targets)


class Preference(Around):
    """Direct preference optimization of a decoder against its frozen beginning (Rafailov et al. 2023, equation 7).

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
        loss, count, sums = _preferred(self.beta * margin, targets)
        return loss, count, {**sums, "margin": (margin * (targets >= 0)).sum().detach()}


def answer_likelihood(model: Decoder, answers: Tensor, tokens: Tensor, positions: Tensor, segments: Tensor) -> Tensor:
    """[B]: log-probability in nats of the answers' tokens [B, S] that are not -100, each from those before it, fp32."""
    logits = model.logits(tokens, positions, segments).float()
    each = F.cross_entropy(logits.flatten(0, 1), answers.flatten(), ignore_index=NOT_A_TARGET, reduction="none")
    return -each.view(answers.shape).sum(dim=1)


def _classes(logits: Tensor, targets: Tensor, smoothing: float) -> Output:
    loss = F.cross_entropy(
        logits, targets, ignore_index=NOT_A_TARGET, reduction="sum", label_smoothing=float(smoothing)
    )
    correct = (logits.argmax(dim=-1) == targets).sum()
    return loss, (targets != NOT_A_TARGET).sum(), {"correct": correct.detach()}


def _preferred(margin: Tensor, targets: Tensor) -> Output:
    pairs = targets != NOT_A_TARGET
    loss = torch.where(pairs, -F.logsigmoid(margin.float()), 0.0).sum()
    return loss, pairs.sum(), {"correct": ((margin > 0) & pairs).sum().detach()}


HEADS: dict[str, type[Classifier] | type[Tagger] | type[SpanFinder] | type[RewardModel]] = {
    "sequence": Classifier,
    "token": Tagger,
    "span": SpanFinder,
    "reward": RewardModel,
}
