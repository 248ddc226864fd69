"""Which token of one tokenizer is which of another one: what rows of an embedding mean after the tokenizer changed."""

from __future__ import annotations

from trainer.data.tokenizer import OUR_NAMES, Tokenizer

NONE = -1
LAST = ("<s>", "<pad>")  # a tokenizer without them has others in their place, which go first


def same_pieces(old: Tokenizer, new: Tokenizer) -> list[int]:
    """For each id of `new` the id of `old` that means the same, or NONE.

    Special tokens are found by their role and their name. Pieces of text are the same where both are spelled alike in
    the same manner of spelling; else where they stand for the same bytes of text, as `Ġthe` of a byte-level model and
    `▁the` of sentencepiece do. A piece that begins a word in WordPiece is read as one behind a space.
    """
    found = [NONE] * new.vocabulary
    special = set(old.specials.values())
    for name in sorted(new.specials.keys() & old.specials.keys(), key=_order):
        if found[new.specials[name]] == NONE:
            found[new.specials[name]] = old.specials[name]
    text = [token for token in range(old.vocabulary) if token not in special]
    spelled = {old.piece(token): token for token in text} if old.spelling == new.spelling else {}
    by_content: dict[bytes, int] = {}
    for token in text:
        content = old.content(token)
        if content:
            kept = by_content.get(content)
            if kept is None or len(old.piece(kept)) > len(old.piece(token)):  # <0x41> stands behind A
                by_content[content] = token
    silent = set(new.specials.values())
    for token in range(new.vocabulary):
        if token in silent:
            continue
        same = spelled.get(new.piece(token)) if new.piece(token) else None
        content = new.content(token) if same is None else None
        found[token] = by_content.get(content, NONE) if content else NONE if same is None else same
    return found


def _order(name: str) -> tuple[int, str]:
    """Roles first, and among them those that no other token stands in for."""
    if name in LAST:
        return (1, name)
    return (0 if name in OUR_NAMES.values() or name == "</s>" else 2, name)
