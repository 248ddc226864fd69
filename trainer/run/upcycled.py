"""The weights of a dense model as those of one with experts (sparse upcycling, Komatsuzaki et al. 2023)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from trainer.config import Config
from trainer.models import pretraining_model
from trainer.models.experts import Experts
from trainer.models.initialization import drawn

PARTS = ("gate", "up", "down")


def upcycled(weights: Mapping[str, Tensor], config: Config) -> dict[str, Tensor]:
    """The weights by the names of the run's model: where it has experts and they have a feed-forward, every expert is a
    copy of it [E, ...], and the router is drawn as in a new model. A bias that evens loads begins at 0 where they have
    none. The rest is as it was."""
    found = dict(weights)
    with torch.device("meta"):
        model = pretraining_model(config.model, config.vocabulary, config.max_length)
    for place, module in model.named_modules():
        if not isinstance(module, Experts):
            continue
        if module.config.by_bias:
            found.setdefault(f"{place}.balance_bias", torch.zeros(module.config.count))
        if f"{place}.up.weight" not in found:
            continue
        for part in PARTS:
            dense = found.pop(f"{place}.{part}.weight", None)
            if dense is not None:
                found[f"{place}.{part}"] = dense.repeat(config.model.experts.count, 1, 1)
        router = f"{place}.router.weight"
        found[router] = drawn(config.seed, router, module.router.weight.shape, module.router.stds["weight"])
    return found


def begins_as(config: Config) -> str:
    """Whether a model whose experts are copies of one feed-forward computes what that one does, and if not why."""
    experts = config.model.experts
    if not experts.renormalise or experts.factor != 1:
        why = (
            "a token's weights do not add up to 1" if not experts.renormalise else "they add up to model.experts.factor"
        )
        way = "model.experts.renormalise=true" if not experts.renormalise else "model.experts.factor=1"
        return f"the model does not begin as the dense one: {why}; {way} would let it"
    late = " but for the tokens that find no place (model.experts.capacity)" if experts.capacity is not None else ""
    return f"the model begins as the dense one{late}"
