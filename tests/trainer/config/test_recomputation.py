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
