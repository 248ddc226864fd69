"""Which experts a run can have that begins from another one's weights: the other's own or, where the other is dense,
copies of its feed-forwards (sparse upcycling, Komatsuzaki et al. 2023)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from trainer.config.experts import ExpertsConfig
from trainer.config.model import ModelConfig

SHAPE = ("count", "width", "shared", "shared_gate", "every", "first", "dense_layers")  # keys that the weights are of


def expert_contradictions(before: ModelConfig, given: Mapping[str, Any] | None, whose: str) -> list[str]:
    """A line for each given key of `model.experts` that is not what the weights are of, nor can be made of them.

    before: the model of the weights; whose: their name in a line."""
    try:
        wanted = ExpertsConfig.model_validate(given or {})
    except ValidationError:  # composing tells
        return []
    own = before.experts
    if not own.count:
        return _of_dense(before, wanted, whose)
    widths = {name: experts.width or before.ffn_channels for name, experts in (("own", own), ("wanted", wanted))}
    wrong = []
    for name in SHAPE:
        there, asked = (
            (widths["own"], widths["wanted"]) if name == "width" else (getattr(own, name), getattr(wanted, name))
        )
        if name in (given or {}) and asked != there:
            wrong.append(f"model.experts.{name}: {asked!r} given, {whose} have {there!r}")
    return wrong


def _of_dense(before: ModelConfig, wanted: ExpertsConfig, whose: str) -> list[str]:
    """As `expert_contradictions`, where the weights have no experts yet."""
    if not wanted.count:
        return []
    wrong = []
    if wanted.width not in (None, before.ffn_channels):
        wrong.append(
            f"model.experts.width: {wanted.width} given, {whose} have feed-forwards of {before.ffn_channels}, of which "
            "every expert is a copy; leave it out"
        )
    if wanted.shared:
        wrong.append(
            f"model.experts.shared: {wanted.shared} given, {whose} have one feed-forward a layer, of which the experts "
            "are copies; leave it out"
        )
    if before.bias:
        wrong.append(f"model.experts.count: {whose} have feed-forwards with biases, which experts have not")
    return wrong
