"""Configuration keys that several objectives read.

Pydantic takes the fields of the last base first: of `class Keys(MeanSpan, Rate)` the rate is listed before the span.
"""

from __future__ import annotations

from typing import Any, Literal

from trainer.descriptions.registry import Description
from trainer.utils.schema import key


class Rate(Description.Keys):
    rate: float = key(0.15, "share of the text that is noised; of the documents for fim", gt=0, lt=1)


class Unit(Description.Keys):
    unit: Literal["token", "word", "ngram"] = key("token", "what is hidden as a whole: tokens, words, or runs of words")


class Longest(Description.Keys):
    longest: int = key(3, "longest run of words", "words", ge=1, le=64)


class RandomShare(Description.Keys):
    random_share: float = key(0.1, "share of the hidden tokens that become a random token", ge=0, le=1)


class MaskShare(RandomShare):
    mask_share: float = key(0.8, "share of the hidden tokens that become <mask>", ge=0, le=1)


class MeanSpan(Description.Keys):
    mean_span: float = key(3.0, "mean length of a hidden span", "tokens or words", ge=1)


def share_misfits(keys: Any) -> list[str]:
    """What is wrong with the shares of `MaskShare`, as in `Description.misfits`."""
    if keys.mask_share + keys.random_share <= 1:
        return []
    return [f"random_share: {keys.random_share} and mask_share {keys.mask_share} are more than 1 together"]
