"""Sentencepiece, trained so that every text comes back exactly, byte for byte.

Ids are fixed: the special tokens first (see SPECIALS and `tokenizer.sentinels`), then newline and tab, then the 256
bytes, then what training learned. Special tokens never come out of text, not even out of text that spells their
names.
"""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import sentencepiece

from trainer.config import TokenizerConfig
from trainer.errors import UserError
from trainer.objectives import Vocabulary

SPECIALS = (
    *("<pad>", "<s>", "</s>", "<unk>", "<mask>", "<sep>", "<cls>"),
    *("<fim_prefix>", "<fim_middle>", "<fim_suffix>"),  # fill-in-the-middle
    *("<NLU>", "<NLG>", "<S2S>"),  # UL2's modes
)
OWN_PIECES = ("\n", "\t")
SPACE = "\u2581"  # what sentencepiece writes for a space, and could not tell from the character itself
LONGEST_LINE = 4096  # characters of one training sentence
THREADS = 4  # fixed: part of the trained model, whatever the machine


class Tokenizer:
    """Text to ids and back, without loss."""

    def __init__(self, file: Path) -> None:
        try:
            self.model = file.read_bytes()
        except FileNotFoundError:
            raise UserError(f"tokenizer.path: no such file: {file}") from None
        except OSError as error:
            raise UserError(f"tokenizer.path: cannot read {file}: {error.strerror}") from None
        self._processor = sentencepiece.SentencePieceProcessor()
        try:
            self._processor.LoadFromSerializedProto(self.model)
        except RuntimeError:
            raise UserError(f"tokenizer.path: {file} is not a sentencepiece model") from None
        self.vocabulary: int = self._processor.get_piece_size()
        self.specials = self._special_tokens()
        if "</s>" not in self.specials:
            raise UserError(
                f"tokenizer.path: {file} has no </s>, which every document ends with; train it with eos_id set"
            )
        own = self._processor
        space = [own.piece_to_id(f"<0x{byte:02X}>") for byte in SPACE.encode()]
        self._space_bytes = space if all(map(own.is_byte, space)) else None

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.model).hexdigest()

    def _special_tokens(self) -> dict[str, int]:
        own = self._processor
        named = {"<pad>": own.pad_id(), "<s>": own.bos_id(), "</s>": own.eos_id(), "<unk>": own.unk_id()}
        found = {own.id_to_piece(i): i for i in range(self.vocabulary) if own.is_control(i)}
        found |= {name: i for name, i in named.items() if i >= 0}
        # Foreign models: T5's has no <s>, Llama's no <pad>. Padding is told by `segments`, so that any id will do.
        if "</s>" in found:
            found.setdefault("<s>", found["</s>"])
            found.setdefault("<pad>", found.get("<unk>", found["</s>"]))
        return found

    def encode(self, text: str) -> list[int]:
        """Ids of the text, without <s> and </s>."""
        return self.encode_all([text])[0]

    def encode_all(self, texts: list[str], threads: int = 1) -> list[list[int]]:
        """Ids of many texts; the answer does not depend on the threads."""
        ids: list[list[int]] = self._processor.encode(texts, num_threads=threads)
        for number, text in enumerate(texts):
            if SPACE in text and self._space_bytes:
                ids[number] = self._encode_around_spaces(text, self._space_bytes)
        return ids

    def _encode_around_spaces(self, text: str, space: list[int]) -> list[int]:
        ids: list[int] = []
        for number, piece in enumerate(text.split(SPACE)):
            ids += space * (number > 0) + self._processor.encode(piece)
        return ids

    def decode(self, ids: Iterable[int]) -> str:
        """The text of these ids; special tokens have none."""
        text: str = self._processor.decode([int(i) for i in ids])
        return text

    def table(self) -> Vocabulary:
        """What objectives know about the ids."""
        own = self._processor
        pieces: list[str] = [own.id_to_piece(token) for token in range(self.vocabulary)]
        return Vocabulary.of(
            self.vocabulary,
            self.specials,
            lambda token: None if own.is_byte(token) else pieces[token].replace(SPACE, " "),
        )

    def piece(self, token: int) -> str:
        """How the model itself spells a token."""
        piece: str = self._processor.id_to_piece(int(token))
        return piece


def train(texts: Iterable[str], config: TokenizerConfig) -> bytes:
    """A sentencepiece model of these texts; the same texts give the same model on every machine.

    Raises UserError when the texts do not support the wanted vocabulary, with the largest one they do.
    """
    specials = SPECIALS[4:] + tuple(f"<extra_id_{number}>" for number in range(config.sentinels)) + config.symbols
    if twice := [symbol for symbol in config.symbols if specials.count(symbol) > 1 or symbol in SPECIALS or not symbol]:
        raise UserError(f"tokenizer.symbols: {twice[0]!r} is empty, given twice or built in; choose another name")
    fixed = 4 + len(specials) + len(OWN_PIECES) + 256
    if config.vocabulary <= fixed:
        raise UserError(
            f"tokenizer.vocabulary: {config.vocabulary} leaves no room beside {fixed} fixed pieces (bytes, special "
            f"tokens, {config.sentinels} sentinels); take at least {2 * fixed} or lower tokenizer.sentinels"
        )
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=_sentences(texts),
            model_writer=model,
            model_type=config.name,
            vocab_size=config.vocabulary,
            byte_fallback=True,
            normalization_rule_name="identity",
            remove_extra_whitespaces=False,
            add_dummy_prefix=False,
            allow_whitespace_only_pieces=True,
            split_digits=True,
            max_sentence_length=8 * LONGEST_LINE,
            num_threads=THREADS,
            pad_id=0,
            bos_id=1,
            eos_id=2,
            unk_id=3,
            control_symbols=list(specials),
            user_defined_symbols=list(OWN_PIECES),
            minloglevel=3,
        )
    except RuntimeError as error:
        raise _refusal(str(error), config) from None
    return model.getvalue()


def _sentences(texts: Iterable[str]) -> Iterator[str]:
    """Lines: no piece crosses a newline, and sentencepiece wants short sentences."""
    for text in texts:
        for line in text.split("\n"):
            for begin in range(0, len(line), LONGEST_LINE):
                yield line[begin : begin + LONGEST_LINE]


def _refusal(message: str, config: TokenizerConfig) -> UserError:
    given = f"tokenizer.vocabulary: {config.vocabulary}"
    if most := re.search(r"<= (\d+)", message):
        return UserError(f"{given} is more than this text supports; the largest possible is {most[1]}")
    if least := re.search(r"required_chars\. \d+ vs (\d+)", message):
        return UserError(
            f"{given} is less than this text's characters need; the smallest possible is {int(least[1]) + 1}"
        )
    if "sentences_.empty()" in message:
        return UserError("tokenizer: there is no text to train it on")
    return UserError(f"tokenizer: sentencepiece refused to train: {' '.join(message.split())}")


def tokens_of(ids: list[int], *, bos: int | None, eos: int | None) -> np.ndarray:
    """int64 array of ids, with <s> before and </s> behind where given."""
    return np.array([*([] if bos is None else [bos]), *ids, *([] if eos is None else [eos])], np.int64)
