"""The heads of pre-training that predict tokens."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from trainer.config.model import ModelConfig
from trainer.models.activations import pooled_activation
from trainer.models.initialization import initial_stds
from trainer.models.losses import NOT_A_TARGET, per_row
from trainer.models.model import Head, Output
from trainer.models.parts import Embedding, HeadTransform, Linear, OutputLayer


class LanguageHead(Head):
    """Logits over the vocabulary at every place: a transform, if there is one, and the output matrix."""

    def __init__(
        self,
        config: ModelConfig,
        vocabulary: int,
        tokens: Embedding,
        *,
        label_smoothing: float = 0.0,
        z_loss: float = 0.0,
    ) -> None:
        """tokens: the embedding whose matrix is the output matrix too, where the model ties them. label_smoothing,
        z_loss: of the loss in training."""
        super().__init__()
        std, columns = initial_stds(config), config.embedding_channels
        self.label_smoothing, self.z_loss = label_smoothing, z_loss
        self.transform: HeadTransform | Linear | None = None
        if config.head_transform and config.family != "encoder_decoder":
            self.transform = HeadTransform(config, std.other)
        elif config.family == "decoder" and columns != config.width:
            self.transform = Linear(config.width, columns, bias=False, std=std.other)
        self.output = OutputLayer(
            columns,
            vocabulary,
            bias=config.head_bias,
            std=std.head,
            scale=config.head_factor,
            softcap=config.logit_softcap or 0.0,
        )
        if config.tied:
            self.output.weight = tokens.weight

    def logits(self, hidden_states: Tensor, **batch: Tensor) -> Tensor:
        """[B, S, vocabulary]."""
        return self.output(self._transformed(hidden_states))

    def forward(self, hidden_states: Tensor, targets: Tensor, **batch: Tensor) -> Output:
        """Cross-entropy over the targets [B, S] and, in training, the z term, which is a side sum too."""
        smoothing, z_loss = self.label_smoothing * self.training, self.z_loss * self.training
        loss: Output = self.output(self._transformed(hidden_states), targets, smoothing, z_loss)
        return loss

    def _transformed(self, hidden_states: Tensor) -> Tensor:
        return hidden_states if self.transform is None else self.transform(hidden_states)


class EncoderHead(Head):
    """The heads of encoders: tokens at their own places and, where the model has it, a class for two sentences (next
    sentence, Devlin et al. 2019, section 3.1; sentence order, Lan et al. 2020, section 3.1)."""

    def __init__(self, config: ModelConfig, vocabulary: int, tokens: Embedding, *, z_loss: float = 0.0) -> None:
        """As `LanguageHead`."""
        super().__init__()
        std, width = initial_stds(config), config.width
        self.pooler = self.sentence = None
        self.activation = pooled_activation(config)
        if config.pooler == "pretraining":
            self.pooler = Linear(width, width, bias=True, std=std.other)
        if config.sentence_head:
            self.sentence = OutputLayer(width, 2, bias=True, std=std.table, scale=1 / config.width_growth)
        self.language = LanguageHead(config, vocabulary, tokens, z_loss=z_loss)

    pooler: Linear | None
    sentence: OutputLayer | None

    def logits(self, hidden_states: Tensor, **batch: Tensor) -> Tensor:
        """[B, S, vocabulary]."""
        return self.language.logits(hidden_states)

    def sentence_logits(self, hidden_states: Tensor) -> Tensor:
        """[B, 2], from the first token's hidden state."""
        assert self.pooler is not None and self.sentence is not None
        return self.sentence(self.activation(self.pooler(hidden_states[:, 0])))

    def forward(
        self, hidden_states: Tensor, targets: Tensor, sentence_label: Tensor | None = None, **batch: Tensor
    ) -> Output:
        """As `LanguageHead`, and the loss of the sentences' classes [B], NOT_A_TARGET for none, as side sums too."""
        loss, count, sums = self.language(hidden_states, targets)
        if self.sentence is None or sentence_label is None:
            return loss, count, sums
        logits = self.sentence_logits(hidden_states).float()
        sentences = F.cross_entropy(logits, sentence_label, ignore_index=NOT_A_TARGET, reduction="none")
        sums |= {
            "sentence_loss": sentences.sum(),
            "sentence_correct": (logits.argmax(dim=-1) == sentence_label).sum(),
            "sentences": (sentence_label >= 0).sum(),
        }
        return loss + per_row(sentences, targets), count, {name: value.detach() for name, value in sums.items()}
