"""Objectives: how text becomes a training example, and what follows from that for models, books and generation."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from trainer.descriptions.objectives.languages import language_misfits
from trainer.descriptions.registry import Description, Registry

# How a model that was trained with an objective fills the <mask>s of a prompt (trainer/generation/infilling.py).
Infilling = Literal["mask_by_mask", "fragments", "sentinels", "rewriting", "middle"]
TEXT, LANGUAGE = "text", "language"  # in `encoder_input`, beside special tokens


class ObjectiveDescription(Description):
    """What is known of an objective without its implementation.

    The implementation is a function from the configuration and a `trainer.objectives.Vocabulary` to a
    `trainer.objectives.Objective`.
    """

    families: ClassVar[tuple[str, ...]]  # of the models that it trains
    # Of a document, by which tokens see which: one part; or two, of which the first is read in both directions and the
    # second is predicted from left to right; or none, where that is random in every sample.
    parts: ClassVar[tuple[str, ...]]

    # Whether the loss is the negative log-likelihood of a text: all its tokens but one are targets, once each.
    likelihood: ClassVar[bool] = False
    # Whether rows are stretches of the corpus whose tokens see those before them, padded behind if at all.
    left_to_right: ClassVar[bool] = False
    reads_languages: ClassVar[bool] = False  # each text comes with a token of its language
    reads_pairs_of_languages: ClassVar[bool] = False  # a sample holds both sides of a pair of data.parallel
    two_stream: ClassVar[bool | None] = None  # what model.two_stream must be; None: either, and one stream is used
    generator: ClassVar[bool] = False  # it trains encoders with a generator, and no others
    infills: ClassVar[Infilling | None] = None
    encoder_input: ClassVar[tuple[str, ...]] = ("<s>", TEXT, "</s>")  # of a whole text, without noise

    def target_length(self, keys: Any, sequence_length: int) -> int:
        """Tokens that the decoder of an encoder-decoder reads per sample, padding included."""
        return sequence_length

    def reads_pairs(self, keys: Any) -> bool:
        """Whether a sample is two texts, told apart by token types."""
        return False

    def tells_languages(self, keys: Any) -> bool:
        """Whether a model that has languages is told those of its texts."""
        return False

    def labels_pairs(self, keys: Any) -> bool:
        """Whether the sentence head has a label to predict."""
        return False

    def config_misfits(self, config: Any) -> list[str]:
        """What does not fit between this objective and the other groups of the configuration: a line each."""
        model, given, wrong = config.model, f"objective={self.name}", []
        pairs = self.reads_pairs(config.objective)
        if config.data.packing == "best_fit":
            if model.family == "decoder":
                wrong.append(f"data.packing: {given} has no gaps to fill with best_fit; take packed")
            elif pairs:
                wrong.append(f"data.packing: {given} reads pairs, which best_fit does not pack; take padded")
        if model.family != "encoder" or "encoder" not in self.families:
            return wrong
        if config.task.kind is None:
            wrong += language_misfits(config, tells=self.tells_languages(config.objective))
        if self.two_stream is not None and model.two_stream != self.two_stream:
            wanted = "true, as in model=xlnet-base" if self.two_stream else "false, as in model=bert-base"
            has = "two streams" if model.two_stream else "one stream"
            wrong.append(f"{given} needs model.two_stream={wanted}; model={model.name} has {has}")
        if self.generator and model.generator_width is None:
            wrong.append(f"{given} needs a generator, as in model=electra-small; model={model.name} has none")
        if not self.generator and model.generator_width is not None:
            wrong.append(f"{given}: model={model.name} is a discriminator; take objective=replaced_token")
        if pairs and model.token_types == 1:
            wrong.append(f"model.token_types: {given} marks two sentences; take 2, or 0 for none")
        return wrong


OBJECTIVES = Registry("objective", "trainer.descriptions.objectives", ObjectiveDescription)
