"""A tokenizer.json of Hugging Face as the tokenizer's engine: byte-level BPE, WordPiece, Unigram, whatever it says."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
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
# How pieces are written: a character for every byte, a sign for a space, a mark where a word goes on.
SPELLED_AS_BYTES, SPELLED_WITH_SPACES, SPELLED_AS_WORDS = "bytes", "spaces", "words"
SPACE = "\u2581"


@dataclass(frozen=True)
class Template:
    """Ids that a tokenizer's own settings put before and behind a text, and between two.

    types: of each of two texts with what stands behind it, 0 or 1; None where a text has several or others.
    """

    before: tuple[int, ...] = ()
    behind: tuple[int, ...] = ()
    between: tuple[int, ...] = ()
    types: tuple[int, int] | None = (0, 1)  # the library's own


class HuggingFace:
    """See `Engine`. Raises UserError when the file is none, has no end of text, or the library is missing."""

    splits = False
    sentinels: tuple[int, ...] = ()
    start: int | None = None

    def __init__(self, content: bytes, file: Path) -> None:
        try:
            from tokenizers import Tokenizer
        except ImportError:
            raise UserError(f"tokenizer.path: {file} needs the extra: pip install 'isoflop[hub]'") from None
        try:
            described = json.loads(content)
            self._tokenizer: Any = Tokenizer.from_buffer(content)
            self._own = {
                token["content"]: token["id"] for token in described.get("added_tokens") or [] if token["special"]
            }
        except Exception as error:  # the library raises plain Exception
            reason = " ".join(str(error).split())[:120]
            raise UserError(f"tokenizer.path: {file} is no tokenizer.json of Hugging Face: {reason}") from None
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._ids: dict[str, int] = self._tokenizer.get_vocab(with_added_tokens=True)
        if not self._ids:
            raise UserError(f"tokenizer.path: {file} has no pieces")
        self._pieces = {token: piece for piece, token in self._ids.items()}
        self.vocabulary = max(self._pieces) + 1
        self._own = {name: self._ids[name] for name in self._own if name in self._ids}  # one of no letters is none
        self.specials = self._special_tokens()
        if "</s>" not in self.specials:
            raise UserError(
                f"tokenizer.path: {file} has no token that ends a document (one of {', '.join(NAMES['</s>'])})"
            )
        marks = {self._pieces[token] for name, token in self.specials.items() if name != "<unk>"}
        reachable, text = without_pieces(described, marks)
        self._silent = set(self._own.values()) - {self._ids[piece] for piece in text}
        self.specials = {name: token for name, token in self.specials.items() if name not in text}
        self._encoder: Any = self._tokenizer if reachable is None else Tokenizer.from_str(reachable)
        self._encoder.no_truncation()
        self._encoder.no_padding()
        self._encoder.encode_special_tokens = True  # text that spells their names is text
        self.template = self._template()
        decoder = described.get("decoder") or {}
        self._prefix = decoder.get("prefix", "##") if decoder.get("type") == "WordPiece" else None
        self.spelling = _spelling(described)
        self._added = {token["id"] for token in described.get("added_tokens") or []}

    def _special_tokens(self) -> dict[str, int]:
        found = dict(self._own)
        for ours, theirs in NAMES.items():
            known = [name for name in theirs if name in self._ids]
            there = next((name for name in known if name in self._own), next(iter(known), None))
            if there is not None:
                found[ours] = self._ids[there]
        return found

    def _template(self) -> Template | None:
        if self._tokenizer.post_processor is None:
            return Template()
        one, two = self._tokenizer.encode("a"), self._tokenizer.encode("a", "a")
        text = [place for place, special in enumerate(one.special_tokens_mask) if not special]
        if not text:
            return None
        before, behind = tuple(one.ids[: text[0]]), tuple(one.ids[text[-1] + 1 :])
        second = [place for place, number in enumerate(two.sequence_ids) if number == 1]
        between = two.ids[text[-1] + 1 : second[0]] if second else []
        return Template(
            before, behind, tuple(between), _types_of(one.type_ids, two.type_ids, second[0] if second else 0)
        )

    def encode(self, texts: list[str], threads: int) -> list[list[int]]:
        """The library takes as many threads as RAYON_NUM_THREADS says, or all."""
        return [found.ids for found in self._encoder.encode_batch_fast(texts, add_special_tokens=False)]

    def places(self, text: str) -> list[tuple[int, int]]:
        found: list[tuple[int, int]] = self._encoder.encode(text, add_special_tokens=False).offsets
        return found

    def decode(self, ids: Iterable[int]) -> str:
        shown = [token for token in map(int, ids) if token not in self._silent]
        text: str = self._tokenizer.decode(shown, skip_special_tokens=False)
        return text

    def text(self, token: int) -> str | None:
        piece = self._pieces.get(token, "")
        if self._prefix is not None:
            return piece.removeprefix(self._prefix) if piece.startswith(self._prefix) else " " + piece
        if piece.startswith("\u2581"):
            return piece.replace("\u2581", " ")
        text: str = self._tokenizer.decode([token], skip_special_tokens=False)
        return None if REPLACEMENT in text else text

    def content(self, token: int) -> bytes | None:
        piece = self._pieces.get(token)
        if not piece or token in self._own.values():
            return None
        if token in self._added:
            return piece.encode()
        if self.spelling == SPELLED_AS_BYTES:
            return bytes(map(BYTES.__getitem__, piece)) if BYTES.keys() >= set(piece) else None
        if self.spelling == SPELLED_AS_WORDS:
            prefix = self._prefix or "##"
            begins = not piece.startswith(prefix) and piece[0].isalnum()
            return f"{' ' if begins else ''}{piece.removeprefix(prefix)}".encode()
        if self.spelling != SPELLED_WITH_SPACES:
            return None
        byte = re.fullmatch("<0x([0-9A-F]{2})>", piece)
        return bytes([int(byte[1], 16)]) if byte else piece.replace(SPACE, " ").encode()

    def piece(self, token: int) -> str:
        return self._pieces.get(int(token), "")

    def id_of(self, piece: str) -> int | None:
        return self._ids.get(piece)


def _types_of(one: list[int], two: list[int], begin: int) -> tuple[int, int] | None:
    """See `Template.types`. one, two: type ids of a text and of two; begin: where the second begins."""
    first, second = {*one, *two[:begin]}, set(two[begin:])
    return (0, second.pop()) if first == {0} and second in ({0}, {1}) else None


def _bytes_of_characters() -> dict[str, int]:
    """The character that byte-level models write for each byte: itself where it can be seen, else one from 256 on
    (Radford et al. 2019)."""
    seen = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [byte for byte in range(256) if byte not in seen]
    return {chr(byte): byte for byte in seen} | {chr(256 + place): byte for place, byte in enumerate(hidden)}


BYTES = _bytes_of_characters()


def _spelling(described: dict[str, Any]) -> str:
    """How the pieces of a tokenizer.json are written; "other" where this is not known."""
    decoder, before = (_types(described.get(part)) for part in ("decoder", "pre_tokenizer"))
    if "ByteLevel" in decoder | before:
        return SPELLED_AS_BYTES
    if "WordPiece" in decoder or (described.get("model") or {}).get("type") == "WordPiece":
        return SPELLED_AS_WORDS
    if {"Metaspace", "ByteFallback"} & (decoder | before):
        return SPELLED_WITH_SPACES
    return "other"


def _types(part: Any) -> set[str]:
    """The types of a part of a tokenizer.json, and of what it is a sequence of."""
    if not isinstance(part, dict):
        return set()
    inside = [*(part.get("decoders") or ()), *(part.get("pretokenizers") or ())]
    return {str(part.get("type"))}.union(*map(_types, inside))


def without_pieces(described: dict[str, Any], names: set[str]) -> tuple[str | None, set[str]]:
    """A tokenizer.json whose model makes none of these pieces out of text, and those of them that are text all the
    same: of one character that nothing else could stand for. None where the model makes none as it is.

    Some models hold their special tokens among the pieces of text. They keep their ids under names that no text has.
    """
    model = described.get("model") or {}
    vocabulary, merges = model.get("vocab"), model.get("merges") or []
    kind = model.get("type") or ("BPE" if "merges" in model else "Unigram" if isinstance(vocabulary, list) else "")
    there = set(vocabulary) if isinstance(vocabulary, dict) else {entry[0] for entry in vocabulary or ()}
    names, text = names & there - {model.get("unk_token")}, set()
    if model.get("unk_token") is None and model.get("unk_id") is None and not model.get("byte_fallback"):
        text = {name for name in names if len(name) == 1}
    pairs = [tuple(merge.split(" ", 1)) if isinstance(merge, str) else tuple(merge) for merge in merges]
    if kind == "BPE" and not model.get("ignore_merges"):
        made = {"".join(pair) for pair in pairs}
        names = {name for name in names if len(name) == 1 or name in made}
    names -= text
    if not names:
        return None, text
    hidden = {name: f" \ufdd0 {name}" for name in names}
    new = dict(model)
    if isinstance(vocabulary, dict):
        new["vocab"] = {hidden.get(piece, piece): token for piece, token in vocabulary.items()}
    else:
        new["vocab"] = [[hidden.get(piece, piece), score] for piece, score in vocabulary or ()]
    if kind == "BPE":
        new["merges"] = [list(pair) for pair in pairs if names.isdisjoint((*pair, "".join(pair)))]
    added = [
        {**token, "content": hidden.get(token["content"], token["content"])}
        for token in described.get("added_tokens") or []
    ]
    return json.dumps({**described, "model": new, "added_tokens": added, "post_processor": None}), text
