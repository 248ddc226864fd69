"""What the keys of disentangled attention come to, and what does not fit beside those of DeBERTa-v3."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

TERMS = {"both": ("c2p", "p2c"), "c2p": ("c2p",), "p2c": ("p2c",)}


def score_terms(model: Any) -> tuple[str, ...]:
    """What is scored beside content with content: none but under position=disentangled."""
    return TERMS[model.relative_terms] if model.position == "disentangled" else ()


def table_rows(model: Any) -> int:
    """Rows of the table of relative positions, half of them for either side: one a bucket or, without buckets, one a
    distance."""
    return 2 * int(model.relative_buckets or model.relative_distance)


def rows_used(model: Any, length: int) -> tuple[int, int]:
    """First row and number of rows of the table that hold all that pairs of `length` tokens use.

    No bucket's number is above its distance where buckets are wide; where they are not, all rows are taken."""
    rows = table_rows(model)
    wide = model.relative_buckets is None or model.relative_distance > 3 * (model.relative_buckets // 2)
    reach = min(length - 1, rows // 2) if wide else rows // 2
    return rows // 2 - reach, min(2 * reach + 1, rows)


def misfits(model: Any) -> Iterator[str]:
    """`key: what is wrong` of a model, one a line."""
    if model.relative_buckets is None and model.position == "buckets":
        yield "relative_buckets: null is for position=disentangled; position=buckets needs a number"
    if model.position != "disentangled":
        return
    if model.family != "encoder" or model.key_heads != model.heads:
        yield "position: disentangled needs model.family=encoder and as many kv_heads as heads"
    if model.relative_buckets is not None and model.relative_distance < model.relative_buckets // 2 + 2:
        yield (
            f"relative_distance: {model.relative_distance} must be above half of relative_buckets "
            f"{model.relative_buckets} by 2 or more, or relative_buckets null"
        )
    if model.two_stream:
        yield "two_stream: position=disentangled has one stream; position=relative has two (XLNet)"
    if model.score_softcap is not None:
        yield "score_softcap: position=disentangled scores positions in a bias, which is added after a soft-cap"
