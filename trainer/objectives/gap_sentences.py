"""Gap sentences generation: the decoder writes whole sentences that the encoder misses (PEGASUS, Zhang et al. 2020,
arXiv 1912.08777, section 3.1)."""

from __future__ import annotations

import numpy as np

from trainer.config import Config
from trainer.descriptions.objectives.gap_sentences import most_hidden
from trainer.objectives.base import Layout, Texts, text_layout
from trainer.objectives.examples import Examples, Side, TextObjective
from trainer.objectives.noise import uniform
from trainer.objectives.ranges import numbers
from trainer.objectives.sentences import Words, sentence_begins
from trainer.objectives.vocabulary import Vocabulary

MASKS = ("<mask_1>", "<mask>")  # of a sentence; the first that the tokenizer has


class GapSentences(TextObjective):
    """The encoder reads the text with a mask for each sentence that is hidden, the decoder writes these in their order.

    Written is the share `rate` of a text's sentences that have words, one at least: those with the highest ROUGE-1 F1
    against all other sentences of it, each scored by itself, repeated words counted as often as they stand there
    (Ind-Orig); of equal ones any. A sentence that would make the target longer than half of the text is passed over;
    where none fits, the best one is written as far as it does, without an end. `kept_share` of what is written is also
    read.
    """

    name = "gap_sentences"

    def __init__(
        self, sequence_length: int, vocabulary: Vocabulary, *, layout: Layout, rate: float, kept_share: float
    ) -> None:
        self.layout, self.vocabulary, self.words = layout, vocabulary, Words(vocabulary)
        self.rate, self.kept_share = rate, kept_share
        self.stride = self.length = sequence_length - 1  # beside </s>
        self.width, self.target_width = sequence_length, most_hidden(self.length) + 1
        self.eos, self.pad = (vocabulary.id(piece, self.name) for piece in ("</s>", "<pad>"))
        self.mask = vocabulary.id(next((one for one in MASKS if one in vocabulary.specials), MASKS[-1]), self.name)
        self.start = vocabulary.start(self.name)

    def packed_length(self, length: int) -> int:
        """Beside the text </s>; or the target, in proportion."""
        return max(length + 1, -(-(most_hidden(length) + 1) * self.width // self.target_width))

    def examples(self, texts: Texts) -> Examples:
        """The encoder reads the text with its gaps, the decoder writes the sentences of these."""
        tokens, lengths = texts.tokens, texts.lengths
        begins = sentence_begins(tokens, lengths, self.vocabulary)
        begin = np.flatnonzero(begins)
        end = np.append(begin, len(tokens))[1:]
        text = np.arange(len(lengths)).repeat(lengths)[begin]  # that each sentence is of
        counts = np.bincount(text, minlength=len(lengths))
        chosen, until = self._chosen(tokens, begins, end, text, texts.draw(counts))
        stays = uniform(texts.draw(counts, 1)) < self.kept_share
        hidden = chosen & ~stays

        source, kept = tokens.copy(), np.ones(len(tokens), bool)
        source[begin[hidden]] = self.mask
        kept[numbers(begin[hidden] + 1, end[hidden])] = False
        gone = np.bincount(text[hidden], (end - begin - 1)[hidden], len(lengths)).astype(np.int64)
        written = np.bincount(text[chosen], (until - begin)[chosen], len(lengths)).astype(np.int64)
        cut = np.bincount(text[chosen], (until < end)[chosen], len(lengths)) > 0
        targets, some = {"targets": tokens[numbers(begin[chosen], until[chosen])]}, lengths > 0
        ends = np.where(cut, -1, self.eos)
        return {
            "source_": Side({"tokens": source[kept]}, lengths - gone, self.width, some, last=self.eos),
            "": Side(targets, written, self.target_width, some, start=self.start, last=ends),
        }

    def _chosen(
        self, tokens: np.ndarray, begins: np.ndarray, end: np.ndarray, text: np.ndarray, ties: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """(bool: which sentences are written, int64: where each of them ends then). text: that a sentence is of."""
        begin = np.flatnonzero(begins)
        score, words = self._scores(tokens, begins, text)
        order = np.lexsort((ties, -score, words == 0, text))
        first = np.flatnonzero(np.diff(text, prepend=-1))  # sentence of each text that has any
        chosen, until = np.zeros(len(begin), bool), end.copy()
        for one, behind in zip(first.tolist(), np.append(first, len(text))[1:].tolist(), strict=True):
            room = most_hidden(int(end[behind - 1] - begin[one]))
            spoken = int((words[one:behind] > 0).sum())
            wanted = max(1, round(self.rate * spoken))
            for sentence in order[one : one + spoken].tolist():
                size = int(end[sentence] - begin[sentence])
                if wanted and size <= room:
                    chosen[sentence], wanted, room = True, wanted - 1, room - size
            if not chosen[one:behind].any():
                best = order[one]
                chosen[best], until[best] = True, min(begin[best] + room, end[best])
        return chosen, until

    def _scores(self, tokens: np.ndarray, begins: np.ndarray, text: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(how many words every sentence shares with the rest of its text, how many it has), int64.

        That is the order of ROUGE-1 F1: twice the shared words over those of the sentence and of the rest, which are
        together those of the text.
        """
        starts, found = self.words(tokens, begins)
        of = begins.cumsum()[starts] - 1  # the sentence of each word
        kinds, word = np.unique(found, return_inverse=True)
        _, place, in_text = np.unique(text[of] * len(kinds) + word, return_inverse=True, return_counts=True)
        _, example, in_sentence = np.unique(of * len(kinds) + word, return_index=True, return_counts=True)
        rest = in_text[place[example]] - in_sentence
        count = len(text)
        shared = np.bincount(of[example], np.minimum(in_sentence, rest), count).astype(np.int64)
        return shared, np.bincount(of, minlength=count)


def gap_sentences(config: Config, vocabulary: Vocabulary) -> GapSentences:
    keys = config.objective
    return GapSentences(
        config.data.sequence_length,
        vocabulary,
        layout=text_layout(config),
        rate=keys.rate,
        kept_share=keys.kept_share,
    )
