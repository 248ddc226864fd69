"""Rows whose tokens need not be told apart: attention without segments gives the same loss and gradients."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from trainer.config import Config
from trainer.models import build, initialize

KINDS: dict[str, dict[str, Any]] = {
    "gpt": {"position": "learned", "norm": "layernorm", "bias": True},
    "llama with a window": {"kv_heads": 2, "window": 5, "global_every": 2},
    "alibi": {"position": "alibi"},
    "soft-capped, with sinks": {"score_softcap": 20.0, "sinks": True},
}


def config_of(model: dict[str, Any], objective: str = "causal", **data: Any) -> Config:
    shape = {"depth": 2, "width": 32, "heads": 4, "vocabulary": 320, **model}
    given = {"model": shape, "data": {"sequence_length": 16, **data}, "tokenizer": {"vocabulary": 300}}
    return Config.model_validate(given | {"objective": {"name": objective}})


def padded_batch(rows: int = 5, length: int = 16) -> dict[str, torch.Tensor]:
    """Rows of 3, 6, 9 ... tokens, padding behind; and one of padding alone, as ranks without a sample have them."""
    draw = torch.Generator().manual_seed(3)
    lengths = (torch.arange(rows) * 3)[:, None]
    inside = torch.arange(length) < lengths
    tokens = torch.randint(1, 100, (rows, length + 1), generator=draw)
    return {
        "tokens": torch.where(inside, tokens[:, :-1], 0),
        "targets": torch.where(inside, tokens[:, 1:], -100),
        "segments": torch.where(inside, 0, -1).to(torch.int32),
        "positions": torch.where(inside, torch.arange(length), 0),
        "samples": torch.arange(rows),
    }


@pytest.mark.parametrize("dropout", [0.0, 0.2])
@pytest.mark.parametrize("kind", KINDS)
def test_loss_and_gradients_are_those_with_segments(kind: str, dropout: float) -> None:
    config = config_of(KINDS[kind] | {"dropout": dropout}, packing="padded")
    model = build(config)
    initialize(model, seed=0)
    model = model.double().train()
    assert model.rows_stand_alone
    found = []
    for alone in (True, False):
        model.rows_stand_alone = alone
        model.zero_grad()
        loss, count, _ = model(**padded_batch())
        loss.backward()
        found.append((loss.item(), count.item(), [one.grad.clone() for one in model.parameters()]))
    (loss, count, gradients), (loss_with, count_with, gradients_with) = found
    assert loss == pytest.approx(loss_with, rel=1e-12) and count == count_with
    torch.testing.assert_close(gradients, gradients_with, rtol=1e-9, atol=1e-12)


def test_a_model_that_is_not_in_training_minds_segments() -> None:
    """Prompts are padded on the left, and held-out text is always read document by document."""
    model = build(config_of({}, packing="padded")).eval()
    initialize(model, seed=0)
    batch = padded_batch(2, 6)
    left = batch["segments"].flip(1)
    with torch.no_grad():
        given = model.hidden_states(batch["tokens"], positions=batch["positions"], segments=left)
        without = model.hidden_states(batch["tokens"], positions=batch["positions"])
    assert not torch.allclose(given, without)


@pytest.mark.parametrize(
    ("stands", "given"),
    [
        (True, {"packing": "padded"}),
        (True, {"packing": "packed", "boundaries": False}),
        (False, {"packing": "packed"}),
        (True, {"packing": "padded", "objective": "fim"}),
        (False, {"packing": "padded", "objective": "prefix_lm"}),
        (False, {"packing": "padded", "model": {"experts": {"count": 4}}}),
        (False, {"packing": "padded", "model": {"family": "encoder"}, "objective": "masked_lm"}),
        (False, {"packing": "padded", "model": {"family": "encoder_decoder"}, "objective": "span_corruption"}),
    ],
)
def test_rows_stand_alone_where_every_token_sees_what_is_before_it(stands: bool, given: dict[str, Any]) -> None:
    config = config_of(given.pop("model", {}), **given)
    assert config.rows_stand_alone == stands
    assert build(config).rows_stand_alone == stands
