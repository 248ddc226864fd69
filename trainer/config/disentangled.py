"""Keys of disentangled attention and of what belongs to it in DeBERTa-v3, and what does not fit beside them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

from trainer.utils.schema import Section, key

TERMS = {"both": ("c2p", "p2c"), "c2p": ("c2p",), "p2c": ("p2c",)}


class DisentangledKeys(Section):
    """Of the group `model`; position=disentangled reads those that begin with `relative`."""

    relative_terms: Literal["both", "c2p", "p2c"] = key(
        "both",
        "disentangled: scores beside that of contents: of content with position, of position with content",
        introduced="both",
    )
    relative_shared: bool = key(
        True, "disentangled: positions pass the matrices of the content, no own ones (DeBERTa-v2 on)", introduced=True
    )
    relative_norm: bool = key(
        True, "disentangled: the table of relative positions is normalised (DeBERTa-v2 on)", introduced=True
    )
    generator_depth: int | None = key(
        None,
        "ELECTRA: blocks of the generator (DeBERTa-v3: half of the model's); null: as many as the model's",
        "layers",
        ge=1,
        le=10_000,
        introduced=None,
    )
    embedding_sharing: Literal["whole", "disentangled"] = key(
        "whole",
        "ELECTRA: one embedding for generator and discriminator, or the discriminator's is the generator's, which it "
        "does not train, and a difference of its own (DeBERTa-v3)",
        introduced="whole",
    )
    pooler_activation: Literal["tanh", "gelu", "relu"] = key(
        "tanh",
        "nonlinearity of the layer that classifies rows by one token, of all but decoders (DeBERTa: gelu; "
        "DistilBERT: relu)",
        introduced="tanh",
    )


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
