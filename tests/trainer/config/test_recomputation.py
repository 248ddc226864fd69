"""What cannot be done of `engine.activation_checkpointing`, `engine.compile` and `kernels.backward` is refused."""

from __future__ import annotations

from typing import Any

import pytest

from trainer.config import Config
from trainer.config.machinery import EngineConfig


def config(**groups: dict[str, Any]) -> Config:
    plain = Config().model_dump(mode="json")
    for name, values in groups.items():
        plain[name] |= values
    return Config.model_validate(plain)


@pytest.mark.parametrize(
    ("key", "given", "meant"),
    [("activation_checkpointing", "selectiv", "selective"), ("compile", "autoo", "auto"), ("compile", "tru", "true")],
)
def test_the_nearest_value_is_named(key: str, given: str, meant: str) -> None:
    with pytest.raises(ValueError, match=rf"{given!r} given; .* wanted \(did you mean {meant!r}\?\)"):
        EngineConfig(**{key: given})


def test_an_nth_block_that_no_stack_has() -> None:
    depth = config().model.depth
    assert config(engine={"activation_checkpointing": depth}).engine.activation_checkpointing == depth
    with pytest.raises(ValueError, match=f"engine.activation_checkpointing: {depth + 1} given.*n of at most {depth}"):
        config(engine={"activation_checkpointing": depth + 1})


@pytest.mark.parametrize("backend", ["sdpa", "reference"])
def test_an_order_that_the_named_attention_has_not(backend: str) -> None:
    with pytest.raises(ValueError, match=f"kernels.backward: ordered is of Triton's attention, .* {backend}"):
        config(kernels={"attention": backend, "backward": "ordered"})
    assert config(kernels={"backward": "ordered"}).kernels.backward == "ordered"


@pytest.mark.parametrize(
    ("groups", "said"),
    [
        ({"engine": {"feed_forward_tile": 512}}, r"512 given, and a rank has 256 positions .* 128 or less would do"),
        (
            {"engine": {"feed_forward_tile": 128, "sequence_parallel": 2}, "launch": {"processes": 2}},
            r"128 given, and a rank has 128 positions .* 64 or less would do, or leave engine.feed_forward_tile=null",
        ),
        (
            {"engine": {"feed_forward_tile": 8}, "model": {"experts": {"count": 4}}},
            "feed_forward_tile: not with model.experts.count",
        ),
        (
            {"engine": {"feed_forward_tile": 8, "precision": "bf16", "linear": "fp8"}},
            "feed_forward_tile: not with engine.linear=fp8",
        ),
        ({"engine": {"feed_forward_tile": 8, "compile": True}}, "engine.compile: not with engine.feed_forward_tile"),
    ],
)
def test_tiles_that_divide_nothing_or_cannot(groups: dict[str, Any], said: str) -> None:
    groups["data"] = {"sequence_length": 256}
    with pytest.raises(ValueError, match=said):
        config(**groups)
