"""How a sentencepiece model changes text before it cuts it, in the terms of `tokenizers`.

Its rules are a table of strings and what they become; the longest that fits wins. The `Precompiled` of `tokenizers`
reads the same table, but looks up whole graphemes and takes the shortest entry that fits, so that it loses accents of
characters that have an entry themselves (U+2160 U+0301 becomes `I`). Characters are therefore set apart before it, and
what the table would have composed is composed by NFC. Over all entries, 22 of the 225,276 of nmt_nfkc differ and 686 of
the 226,684 of nmt_nfkc_cf; of plain `Precompiled`, which T5 and XLM-R have in transformers, 219,592. Marks that do not
stand in Unicode's canonical order are put in it by NFC and not by sentencepiece.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np

SPACE = "\u2581"
APART = "\U000e0fff"  # never assigned, and its own grapheme
# Between two characters where a grapheme might have both; nothing is ever put before the first character.
MULTIPLE = r"(?<=[\s\S])(?=[^\x00-\x7f])|(?<=[^\x00-\x7f])(?=[\s\S])|(?<=\r)(?=\n)"
FOLLOWED = 5_000  # nodes of a level of the table, evenly over it, whose entries are compared at export
ALLOWED = 0.005  # of them


def normalizer(proto: Any, *, composed: bool) -> Any:
    """What `tokenizers` does to a text before its model sees it: as sentencepiece's `normalize`.

    proto: a ModelProto. composed: whether the table of rules composes characters as Unicode's own forms do.
    """
    from tokenizers import Regex, normalizers

    spec, replace = proto.normalizer_spec, normalizers.Replace
    steps: list[Any] = []
    if spec.precompiled_charsmap:
        form = [normalizers.NFC()] if composed else []
        table = normalizers.Precompiled(spec.precompiled_charsmap)
        steps += [*form, replace(Regex(MULTIPLE), APART), table, replace(APART, ""), *form]
    if spec.remove_extra_whitespaces:
        steps += [replace(Regex(rf"\A +|[ {SPACE}]+\z"), ""), replace(Regex(" {2,}"), " ")]
    if spec.add_dummy_prefix and proto.trainer_spec.treat_whitespace_as_suffix:
        steps.append(replace(Regex(r"(?<=[\s\S])\z"), SPACE))
    elif spec.add_dummy_prefix:
        steps.append(normalizers.Prepend(SPACE))
    return normalizers.Sequence([*steps, replace(" ", SPACE)])


def compared(proto: Any, processor: Any) -> tuple[Any, int, int]:
    """(the normalizer, entries of the table for which it differs from sentencepiece's, entries tried).

    processor: the model's own SentencePieceProcessor.
    """
    made = normalizer(proto, composed="\u00e9" in processor.normalize("e\u0301"))
    tried = [f"x{entry}y" for entry in table_entries(proto.normalizer_spec.precompiled_charsmap, FOLLOWED)]
    return made, sum(made.normalize_str(text) != processor.normalize(text) for text in tried), len(tried)


def table_entries(table: bytes, most: int = sys.maxsize) -> Iterator[str]:
    """The strings that a `precompiled_charsmap` has an entry for: a double array of bytes (darts-clone), then what they
    become. most: nodes of a level that are followed; of more, an even share."""
    if not table:
        return
    (size,) = struct.unpack("<I", table[:4])
    units = np.frombuffer(table[4 : 4 + size], "<u4").astype(np.int64)
    places, keys = _children_at(units[:1], np.zeros(1, np.int64)), [b""]
    while len(places):
        nodes = places[:, None] ^ np.arange(256)
        nodes[:, 0] = 0  # an end is no byte
        there = (nodes > 0) & (nodes < len(units))
        labels = units[np.where(there, nodes, 0)] & (1 << 31 | 0xFF)
        rows, bytes_ = np.nonzero(there & (labels == np.arange(256)))
        if len(rows) > most:
            rows, bytes_ = (part[np.linspace(0, len(rows) - 1, most).astype(int)] for part in (rows, bytes_))
        keys = [keys[row] + bytes([byte]) for row, byte in zip(rows.tolist(), bytes_.tolist(), strict=True)]
        found = units[nodes[rows, bytes_]]
        places = _children_at(found, nodes[rows, bytes_])
        for place in np.nonzero(found >> 8 & 1)[0]:
            yield keys[place].decode(errors="replace")


def _children_at(units: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Where the children of nodes begin: int64, of their units and their own places."""
    return places ^ ((units >> 10) << ((units & (1 << 9)) >> 6))
