"""Text to ids and back: a sentencepiece model that is trained here, or a tokenizer that was made elsewhere.

Trained here, every text comes back exactly, byte for byte, and ids are fixed: the special tokens first (see SPECIALS
and `tokenizer.sentinels`), then newline and tab, then the 256 bytes, then what training learned. Special tokens never
come out of text, not even out of text that spells their names.
"""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Protocol

import numpy as np
import sentencepiece

from trainer.config import SpecialIdsConfig, TokenizerConfig
from trainer.data.byte_tokenizer import Bytes
from trainer.data.huggingface_model import HuggingFace, Template
from trainer.data.sentencepiece_model import SentencePiece
from trainer.objectives import Vocabulary
from trainer.tokenizer_files import is_json, read_file
from trainer.tokenizer_files.utf8 import file_of_bytes, names_of_bytes
from trainer.utils.errors import UserError

SPECIALS = (
    *("<pad>", "<s>", "</s>", "<unk>", "<mask>", "<sep>", "<cls>"),
    *("<fim_prefix>", "<fim_middle>", "<fim_suffix>"),  # fill-in-the-middle
    *("<NLU>", "<NLG>", "<S2S>"),  # UL2's modes
)
OWN_PIECES = ("\n", "\t")
LONGEST_LINE = 4096  # characters of one training sentence
THREADS = 4  # fixed: part of the trained model, whatever the machine


# Role of a special token -> the name that it has here, whatever the tokenizer calls it.
OUR_NAMES = {"bos": "<s>", "pad": "<pad>", "unk": "<unk>", "mask": "<mask>", "cls": "<cls>", "sep": "<sep>"}


class Engine(Protocol):
    """What knows a vocabulary. specials: piece -> id of what never comes out of text."""

    vocabulary: int
    specials: dict[str, int]
    splits: bool  # whether a text may be encoded part by part, cut where lines end
    template: Template | None  # what its own settings put around a text, where they say so
    spelling: str  # how pieces are written: of two engines that agree in it, equal pieces are the same text
    sentinels: tuple[int, ...]  # ids of the sentinels of spans, in their order; empty: those of <extra_id_0> ...
    start: int | None  # what a decoder beside an encoder reads first, where that is not <s>

    def encode(self, texts: list[str], threads: int) -> list[list[int]]:
        """Ids of each text, without special tokens."""

    def places(self, text: str) -> list[tuple[int, int]]:
        """Where in the text each id stands: [first character, the one behind its last)."""

    def decode(self, ids: Iterable[int]) -> str:
        """The text of these ids; special tokens have none."""

    def text(self, token: int) -> str | None:
        """What one id stands for within a text; None for a part of a character."""

    def content(self, token: int) -> bytes | None:
        """What one id stands for within a text, in UTF-8, parts of characters too; None where it is none, or unsure."""

    def piece(self, token: int) -> str:
        """How the model itself spells an id."""

    def id_of(self, piece: str) -> int | None:
        """The id of what is spelled so; None where there is none."""


class Tokenizer:
    """Text to ids and back. Raises UserError when the file is no tokenizer that ends its documents, or where a special
    id is none of its ids."""

    def __init__(self, file: Path, ids: SpecialIdsConfig | None = None) -> None:
        """ids: which tokens are special where the configuration says so; else the names of its pieces tell."""
        self.model = read_file(file)
        self._engine = _engine(self.model, file)
        self.vocabulary = self._engine.vocabulary
        # Foreign models: T5's has no <s>, Llama's no <pad>. Padding is told by `segments`, so that any id will do.
        self.specials = dict(self._engine.specials)
        self.specials.setdefault("<s>", self.specials["</s>"])
        self.specials.setdefault("<pad>", self.specials.get("<unk>", self.specials["</s>"]))
        self._take(ids or SpecialIdsConfig())

    def _take(self, ids: SpecialIdsConfig) -> None:
        """Let the ids of the configuration win."""
        given = {role: value for role, value in ids.model_dump().items() if value is not None}
        self.second_type: int = given.pop("second_type", 1)  # of a pair's second text, for models that have types
        self._given = bool(given)
        self.template = self._engine.template if given else None
        for role, name in OUR_NAMES.items():
            if role in given:
                self.specials[name] = given[role]
        if "bos" not in given and "cls" in given:  # BERT's kind has no others
            self.specials["<s>"] = given["cls"]
        if "eos" in given or "sep" in given:
            self.specials["</s>"] = given["eos"][0] if "eos" in given else given["sep"]
        self.ends = frozenset(given.get("eos") or [self.specials["</s>"]])
        own = self._engine.start
        self.start = given.get("decoder_start", self.specials["<s>"] if own is None else own)
        self.forced_first: int | None = given.get("forced_bos")
        self.forced_last: int | None = given.get("forced_eos")

    @property
    def pair_types(self) -> tuple[int, int] | None:
        """The token types that the file itself gives the two texts of a pair; None where it types them otherwise."""
        return self._engine.template.types if self._engine.template else None

    @property
    def splits(self) -> bool:
        """Whether a text may be encoded part by part, cut where lines end."""
        return self._engine.splits

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.model).hexdigest()

    @property
    def identity(self) -> str:
        """The sha256, and which ids begin, end and separate where the configuration says so: what shards depend on."""
        marks = [self.specials[name] for name in ("<s>", "</s>", "<pad>")]
        return f"{self.sha256} {marks}" if self._given else self.sha256

    def encode(self, text: str) -> list[int]:
        """Ids of the text, without <s> and </s>."""
        return self.encode_all([text])[0]

    def encode_all(self, texts: list[str], threads: int = 1) -> list[list[int]]:
        """Ids of many texts; the answer does not depend on the threads."""
        return self._engine.encode(texts, threads)

    def decode(self, ids: Iterable[int]) -> str:
        """The text of these ids; special tokens have none."""
        return self._engine.decode(ids)

    def table(self) -> Vocabulary:
        """What objectives know about the ids."""
        return Vocabulary(
            self.vocabulary, self.specials, self._engine.text, self.start, self.second_type, self._engine.sentinels
        )

    def places(self, text: str) -> list[tuple[int, int]]:
        """Where in the text each id of `encode` stands: its first character, and the one behind its last."""
        return self._engine.places(text)

    @property
    def spelling(self) -> str:
        """How pieces are written: of two tokenizers that agree in it, equal pieces stand for the same text."""
        return self._engine.spelling

    def content(self, token: int) -> bytes | None:
        """What one id stands for within a text, in UTF-8, parts of characters too; None for what is no text."""
        return self._engine.content(token)

    def piece(self, token: int) -> str:
        """How the model itself spells a token."""
        return self._engine.piece(token)

    def id_of(self, piece: str) -> int | None:
        """The id that the model itself has for a piece; None where it has none."""
        return self._engine.id_of(piece)


def _engine(content: bytes, file: Path) -> Engine:
    if not is_json(content):
        return SentencePiece(content, file)
    names = names_of_bytes(content)
    return HuggingFace(content, file) if names is None else Bytes(names)


def train(texts: Iterable[str], config: TokenizerConfig) -> bytes:
    """A sentencepiece model of these texts; the same texts give the same model on every machine. Of bytes nothing is
    trained, and no text is read.

    Raises UserError when the texts do not support the wanted vocabulary, with the largest one they do.
    """
    if config.name == "bytes":
        return file_of_bytes(config.symbols)
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
    stopped: list[BaseException] = []  # sentencepiece tells what the texts raise, Ctrl-C too, as an error of its own

    def sentences() -> Iterator[str]:
        try:
            yield from _sentences(texts)
        except BaseException as error:
            stopped.append(error)
            raise

    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=sentences(),
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
        if stopped:
            raise stopped[0] from None
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
