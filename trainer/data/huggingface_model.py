"""A tokenizer.json of Hugging Face as the tokenizer's engine: byte-level BPE, WordPiece, Unigram, whatever it says."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from trainer.utils.errors import UserError

# The names under which published tokenizers keep what we call by the name on the left; the first that is there counts.
NAMES = {
    "<pad>": ("<pad>", "[PAD]", "<|padding|>", "<|pad|>", "<|finetune_right_pad_id|>"),
    "<s>": ("<s>", "<bos>", "<|begin_of_text|>", "<|startoftext|>", "<|bos|>", "[BOS]", "[CLS]"),
    "</s>": ("</s>", "<eos>", "<|end_of_text|>", "<|endoftext|>", "<|eos|>", "[EOS]", "[SEP]"),
    "<unk>": ("<unk>", "[UNK]", "<|unk|>"),
    "<mask>": ("<mask>", "[MASK]", "<|mask|>"),
    "<sep>": ("<sep>", "[SEP]"),
    "<cls>": ("<cls>", "[CLS]"),
    "<fim_prefix>": ("<fim_prefix>", "<|fim_prefix|>", "<fim-prefix>"),
    "<fim_middle>": ("<fim_middle>", "<|fim_middle|>", "<fim-middle>"),
    "<fim_suffix>": ("<fim_suffix>", "<|fim_suffix|>", "<fim-suffix>"),
}
REPLACEMENT = "\ufffd"  # what a part of a character decodes to


class HuggingFace:
    """See `Engine`. Raises UserError when the file is none, has no end of text, or the library is missing."""

    def __init__(self, content: bytes, file: Path) -> None:
        try:
            from tokenizers import Tokenizer
        except ImportError:
            raise UserError(f"tokenizer.path: {file} needs the extra: pip install 'isoflop[hub]'") from None
        try:
            described = json.loads(content)
            self._tokenizer: Any = Tokenizer.from_buffer(content)
        except Exception as error:  # the library raises plain Exception
            reason = " ".join(str(error).split())[:120]
            raise UserError(f"tokenizer.path: {file} is no tokenizer.json of Hugging Face: {reason}") from None
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._tokenizer.encode_special_tokens = True  # text that spells their names is text
        self._ids: dict[str, int] = self._tokenizer.get_vocab(with_added_tokens=True)
        self._pieces = {token: piece for piece, token in self._ids.items()}
        self.vocabulary = max(self._pieces) + 1
        self._own = {token["content"]: token["id"] for token in described.get("added_tokens", []) if token["special"]}
        self.specials = self._special_tokens()
        if "</s>" not in self.specials:
            raise UserError(
                f"tokenizer.path: {file} has no token that ends a document (one of {', '.join(NAMES['</s>'])})"
            )
        self._markers = [token for name, token in self.specials.items() if name != "<unk>"]
        decoder = described.get("decoder") or {}
        self._prefix = decoder.get("prefix", "##") if decoder.get("type") == "WordPiece" else None

    def _special_tokens(self) -> dict[str, int]:
        found = dict(self._own)
        for ours, theirs in NAMES.items():
            there = next((name for name in theirs if name in self._ids), None)
            if there is not None:
                found[ours] = self._ids[there]
        return found

    def encode(self, texts: list[str], threads: int) -> list[list[int]]:
        """The library takes as many threads as RAYON_NUM_THREADS says, or all."""
        ids = [found.ids for found in self._tokenizer.encode_batch_fast(texts, add_special_tokens=False)]
        for number, text in enumerate(texts):
            if not set(ids[number]).isdisjoint(self._markers):
                ids[number] = self._encode_around_names(text)
        return ids

    def _encode_around_names(self, text: str) -> list[int]:
        """Some models hold their special tokens among the pieces of text: cut their names in two."""
        for name in (self._pieces[token] for token in self._markers):
            head, found, tail = text.partition(name)
            if found:
                return [token for part in (head + name[:1], name[1:] + tail) for token in self.encode([part], 1)[0]]
        return self._tokenizer.encode(text, add_special_tokens=False).ids

    def places(self, text: str) -> list[tuple[int, int]]:
        found: list[tuple[int, int]] = self._tokenizer.encode(text, add_special_tokens=False).offsets
        return found

    def decode(self, ids: Iterable[int]) -> str:
        text: str = self._tokenizer.decode([int(i) for i in ids], skip_special_tokens=True)
        return text

    def text(self, token: int) -> str | None:
        piece = self._pieces.get(token, "")
        if self._prefix is not None:
            return piece.removeprefix(self._prefix) if piece.startswith(self._prefix) else " " + piece
        if piece.startswith("\u2581"):
            return piece.replace("\u2581", " ")
        text: str = self._tokenizer.decode([token], skip_special_tokens=False)
        return None if REPLACEMENT in text else text

    def piece(self, token: int) -> str:
        return self._pieces.get(int(token), "")

    def id_of(self, piece: str) -> int | None:
        return self._ids.get(piece)
