"""UTF-8 as the tokenizer's engine: a byte is an id, three ids stand before them (ByT5, Xue et al. 2022)."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from trainer.data.huggingface_model import Template
from trainer.tokenizer_files.utf8 import OFFSET, SENTINELS, SPECIALS


class Bytes:
    """See `Engine`. names: of the ids behind the bytes.

    The sentinels of spans are the ids of the last bytes, from 258 down, as in the paper: the first eleven stand in no
    text, the others are the beginnings and parts of characters other than ASCII. What transformers calls <extra_id_0>
    and so on, behind the bytes, the published models have never seen.
    """

    splits = True
    spelling = "utf-8"
    sentinels: tuple[int, ...] = SENTINELS
    start: int | None = 0  # <pad>, as in T5

    def __init__(self, names: list[str]) -> None:
        self.specials = {name: token for token, name in enumerate(SPECIALS)}
        self.specials |= {name: OFFSET + 256 + number for number, name in enumerate(names)}
        self._names = {token: name for name, token in self.specials.items()}
        self.vocabulary = OFFSET + 256 + len(names)
        end = (self.specials["</s>"],)
        self.template: Template | None = Template((), end, end, (0, 0))

    def encode(self, texts: list[str], threads: int) -> list[list[int]]:
        return [(np.frombuffer(text.encode(), np.uint8).astype(np.int64) + OFFSET).tolist() for text in texts]

    def places(self, text: str) -> list[tuple[int, int]]:
        return [(place, place + 1) for place, character in enumerate(text) for _ in character.encode()]

    def decode(self, ids: Iterable[int]) -> str:
        shown = (byte for token in ids if 0 <= (byte := int(token) - OFFSET) < 256)
        return bytes(shown).decode(errors="replace")

    def text(self, token: int) -> str | None:
        content = self.content(token)
        return "" if content is None else content.decode("ascii") if content.isascii() else None

    def content(self, token: int) -> bytes | None:
        byte = token - OFFSET
        return bytes([byte]) if 0 <= byte < 256 else None

    def piece(self, token: int) -> str:
        content = self.content(int(token))
        return self._names.get(int(token), "") if content is None else f"<0x{content[0]:02X}>"

    def id_of(self, piece: str) -> int | None:
        if len(piece) == 6 and piece.startswith("<0x"):
            found = [token for token in range(OFFSET, OFFSET + 256) if self.piece(token) == piece]
            return found[0] if found else None
        return self.specials.get(piece)
