"""Masked language modelling: hide some tokens, predict them from both sides (Devlin et al. 2019)."""

from __future__ import annotations

from trainer.config import Config
from trainer.objectives.base import Batch, Layout, Window, add_special_tokens, as_one_document, text_layout
from trainer.objectives.masking import Masking, mask_bits
from trainer.objectives.pairs import PairedLM
from trainer.objectives.vocabulary import Vocabulary


class MaskedLM:
    """<s> text </s> with hidden tokens. masks "dynamic": new ones every epoch (RoBERTa); "static": each place of the
    corpus keeps `copies` sets of masks that take turns over the epochs (BERT's duplicated data).
    """

    partner = False

    def __init__(
        self,
        name: str,
        sequence_length: int,
        vocabulary: Vocabulary,
        masking: Masking,
        *,
        layout: Layout,
        copies: int | None,
    ) -> None:
        self.layout, self.masking, self.copies = layout, masking, copies
        self.stride = self.length = sequence_length - 2
        self.bos, self.eos, self.pad = (vocabulary.id(piece, name) for piece in ("<s>", "</s>", "<pad>"))

    def packed_length(self, length: int) -> int:
        """Beside the text: <s> and </s>."""
        return length + 2

    def apply(self, window: Window) -> Batch:
        """tokens, targets, segments, positions: [B, S]; a target is predicted at its own place."""
        tokens, lengths = add_special_tokens(window.tokens, window.lengths, self.bos, self.eos, self.pad)
        noised, targets = self.masking(tokens, mask_bits(window, self.masking.draws(tokens.shape[1]), self.copies))
        return {**as_one_document(noised, lengths), "targets": targets}


def masked_lm(config: Config, vocabulary: Vocabulary) -> MaskedLM | PairedLM:
    """Also what ELECTRA's generator and discriminator read."""
    keys, length, masking = config.objective, config.data.sequence_length, Masking.of(config, vocabulary)
    copies = keys.copies if keys.masks == "static" else None
    if keys.question is None:
        return MaskedLM(keys.name, length, vocabulary, masking, layout=text_layout(config), copies=copies)
    pairs = {"question": keys.question, "short_rate": keys.short_rate}
    return PairedLM(keys.name, length, vocabulary, masking, copies=copies, **pairs)
