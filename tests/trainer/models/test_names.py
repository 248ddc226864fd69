"""Names of parameters are those of checkpoints, wherever a parameter is in the model."""

from __future__ import annotations

import pytest
import torch
from presets import FAMILIES, tiny
from torch import nn

from trainer.models import initialize, load_weights
from trainer.models.model import NamedAsStored

STORED = {
    "bert-base": {"tokens.weight", "pooler.bias", "sentence.weight", "head.transform.dense.weight", "head.output.bias"},
    "electra-small": {
        "tokens.weight",
        "replaced.generator.blocks.1.attention.key.bias",
        "replaced.token_head.transform.norm.bias",
    },
    "deberta-v3-small": {
        *("tokens.weight", "delta.weight", "relative.table.weight", "relative.norm.bias", "replaced.output.weight"),
        *("replaced.generator.relative.table.weight", "replaced.generator.embedding_norm.weight"),
    },
    "gpt2-124m": {"tokens.weight", "positions.weight", "blocks.0.attention.query.weight"},
    "t5-small": {"encoder.tokens.weight", "decoder.buckets.weight"},
    "xlnet-base": {"query_start", "head.output.bias"},
}


@pytest.mark.parametrize("name", FAMILIES)
def test_weights_are_loaded_by_the_names_of_checkpoints(name):
    _, one = tiny(name)
    _, other = tiny(name)
    weights = {name: value.detach() for name, value in one.named_parameters()}
    assert len(weights) == len(list(one.parameters())) and STORED.get(name, set()) <= weights.keys()
    assert not any(part in stored for stored in weights for part in ("backbone.", "language."))
    initialize(other, 7)
    load_weights(other, weights)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))
    with pytest.raises(KeyError):
        load_weights(other, dict(list(weights.items())[1:]))


def test_the_longest_beginning_counts_and_models_may_hold_models():
    class Pair(NamedAsStored):
        def __init__(self, names, **parts):
            super().__init__()
            self.names = names
            for name, part in parts.items():
                setattr(self, name, part)

    inner = Pair({"left.": ""}, left=nn.Linear(1, 1), right=nn.Linear(1, 1, bias=False))
    outer = Pair({"model.right.": "r.", "model.": "m."}, model=inner, same=inner.left, own=nn.Linear(1, 1))
    names = ["m.weight", "m.bias", "r.weight", "own.weight", "own.bias"]
    assert [name for name, _ in outer.named_parameters()] == names
    assert [name for name, _ in outer.named_parameters(prefix="x")] == [f"x.{name}" for name in names]
