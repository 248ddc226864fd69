"""The tokenizer of bytes for transformers: as its ByT5Tokenizer or, where that writes other tokens around a text, as a
tokenizer.json of the same ids."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from trainer.data.huggingface_model import BYTES
from trainer.tokenizer_files.utf8 import CLASS, OFFSET, SPECIALS

END = SPECIALS.index("</s>")
Framing = tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]  # ids before a text, between two and behind


def byt5_settings(names: Sequence[str], framing: Framing | None) -> dict[str, Any] | None:
    """The tokenizer_config.json that makes AutoTokenizer a ByT5Tokenizer; None where that cannot do the same."""
    plain = list(names) == [f"<extra_id_{number}>" for number in range(len(names))]
    if not plain or framing not in (None, ((), (END,), (END,))):
        return None
    return {"tokenizer_class": CLASS, "extra_ids": len(names)}


def byte_level_file(names: Sequence[str]) -> bytes:
    """A tokenizer.json that knows no merges: its pieces are the bytes."""
    specials = [*enumerate(SPECIALS), *enumerate(names, OFFSET + 256)]
    vocabulary = {name: token for token, name in specials} | {one: byte + OFFSET for one, byte in BYTES.items()}
    how = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    described = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": token, "content": name, **how} for token, name in specials],
        "normalizer": None,
        "pre_tokenizer": level,
        "post_processor": None,
        "decoder": level,
        "model": {
            "type": "BPE",
            "vocab": dict(sorted(vocabulary.items(), key=lambda item: item[1])),
            "merges": [],
        },
    }
    return json.dumps(described, ensure_ascii=False).encode()
