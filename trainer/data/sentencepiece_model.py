"""A sentencepiece model as the tokenizer's engine."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import sentencepiece

from trainer.data.huggingface_model import SPELLED_WITH_SPACES, Template
from trainer.utils.errors import UserError

SPACE = "\u2581"  # what sentencepiece writes for a space, and could not tell from the character itself


class SentencePiece:
    """See `Engine`. Raises UserError when the file is none, or has no </s>."""

    template: Template | None = None
    spelling = SPELLED_WITH_SPACES
    sentinels: tuple[int, ...] = ()
    start: int | None = None

    def __init__(self, content: bytes, file: Path) -> None:
        self._processor = sentencepiece.SentencePieceProcessor()
        try:
            self._processor.LoadFromSerializedProto(content)
        except RuntimeError:
            raise UserError(
                f"tokenizer.path: {file} is neither a sentencepiece model nor a tokenizer.json of Hugging Face"
            ) from None
        self.vocabulary: int = self._processor.get_piece_size()
        self.specials = self._special_tokens()
        if "</s>" not in self.specials:
            raise UserError(
                f"tokenizer.path: {file} has no </s>, which every document ends with; train it with eos_id set"
            )
        own = self._processor
        # Whether text is taken as it is, without a space before it, spaces left out or characters replaced.
        self.splits = own.normalize(" \u212b  a") == f"{SPACE}\u212b{SPACE}{SPACE}a"
        space = [own.piece_to_id(f"<0x{byte:02X}>") for byte in SPACE.encode()]
        self._space_bytes = space if all(map(own.is_byte, space)) else None

    def _special_tokens(self) -> dict[str, int]:
        own = self._processor
        named = {"<pad>": own.pad_id(), "<s>": own.bos_id(), "</s>": own.eos_id(), "<unk>": own.unk_id()}
        found = {own.id_to_piece(i): i for i in range(self.vocabulary) if own.is_control(i)}
        return found | {name: i for name, i in named.items() if i >= 0}

    def encode(self, texts: list[str], threads: int) -> list[list[int]]:
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

    def places(self, text: str) -> list[tuple[int, int]]:
        sizes = [self._bytes(token) for token in self.encode([text], 1)[0]]
        surplus = sum(sizes) - len(text.encode())
        if surplus == 1:  # a space that some models put before every text
            sizes[0] -= 1
        elif surplus:
            raise UserError(
                f"tokenizer.path: this model changes text, so that no place in it can be told: {text[:40]!r}"
            )
        characters = np.cumsum([len(character.encode()) for character in text])
        ends = np.cumsum(sizes)
        first = np.searchsorted(characters, ends - sizes, side="right")
        return list(
            zip(first.tolist(), (np.searchsorted(characters, ends - 1, side="right") + 1).tolist(), strict=True)
        )

    def _bytes(self, token: int) -> int:
        """Of UTF-8, that a token of text stands for."""
        return 1 if self._processor.is_byte(token) else len(self.piece(token).replace(SPACE, " ").encode())

    def decode(self, ids: Iterable[int]) -> str:
        text: str = self._processor.decode([int(i) for i in ids])
        return text

    def text(self, token: int) -> str | None:
        return None if self._processor.is_byte(token) else self.piece(token).replace(SPACE, " ")

    def content(self, token: int) -> bytes | None:
        own = self._processor
        if own.is_control(token) or own.is_unknown(token):
            return None
        piece = self.piece(token)
        return bytes([int(piece[1:-1], 16)]) if own.is_byte(token) else piece.replace(SPACE, " ").encode()

    def piece(self, token: int) -> str:
        piece: str = self._processor.id_to_piece(int(token))
        return piece

    def id_of(self, piece: str) -> int | None:
        token: int = self._processor.piece_to_id(piece)
        return token if self._processor.id_to_piece(token) == piece else None
