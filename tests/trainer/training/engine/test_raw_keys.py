"""Every raw key that the installed DeepSpeed reads is in the table: a new one fails here by its name."""

from __future__ import annotations

import inspect
import re
from typing import Any, ClassVar

import pytest

from trainer.compose import compose
from trainer.config import Config
from trainer.config.raw_keys import PASSED, REFUSED, ZERO_REFUSED
from trainer.training.engine import check, import_deepspeed
from trainer.utils.errors import UserError


class Recorder(dict[str, Any]):
    """A configuration that remembers which keys it was asked for."""

    asked: ClassVar[set[str]] = set()

    def get(self, key: str, default: Any = None) -> Any:
        self.asked.add(key)
        return super().get(key, default)

    def __getitem__(self, key: str) -> Any:
        self.asked.add(key)
        return super().__getitem__(key)

    def __contains__(self, key: object) -> bool:
        self.asked.add(str(key))
        return super().__contains__(key)

    def keys(self) -> Any:
        return self


def known_keys() -> set[str]:
    """Top-level keys that DeepSpeed asks its configuration for."""
    import_deepspeed("cpu")
    from deepspeed.runtime import config

    config.DeepSpeedConfig(Recorder({"train_micro_batch_size_per_gpu": 1}))
    # Asked for in a running process group only.
    return Recorder.asked | set(re.findall(r'"(\w+)" in config\b', inspect.getsource(config.DeepSpeedConfig)))


def test_the_table_is_complete_and_says_one_thing_of_each() -> None:
    known = known_keys()
    assert {"flops_profiler", "optimizer", "sequence_parallel_size", "aio", "autotuning"} <= known
    assert sorted(known - PASSED - set(REFUSED)) == []
    assert sorted(PASSED & set(REFUSED)) == []
    assert sorted(PASSED - known) == []


def test_refused_keys_of_zero_exist() -> None:
    import_deepspeed("cpu")
    from deepspeed.runtime import config
    from deepspeed.runtime.zero.config import DeepSpeedZeroConfig

    fields = DeepSpeedZeroConfig.model_fields
    names = set(fields) | {field.alias for field in fields.values()} | set(config._REMOVED_ZERO_CONFIG_KEYS)
    assert sorted(set(ZERO_REFUSED) - names) == []


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_a_refused_key_is_one_line(name: str) -> None:
    with pytest.raises(UserError) as caught:
        check(Config.model_validate({"engine": {"deepspeed": {name: {"enabled": True}}}}))
    assert str(caught.value) == f"engine.deepspeed.{name}: {REFUSED[name]}"


def test_keys_that_are_passed_are_judged_by_deepspeed() -> None:
    zero = {"overlap_comm": True, "round_robin_gradients": True}
    check(Config.model_validate({"engine": {"deepspeed": {"zero_optimization": zero, "wall_clock_breakdown": True}}}))
    with pytest.raises(UserError, match=r"^engine\.deepspeed\.zero_optimization\.zenflow: "):
        check(Config.model_validate({"engine": {"deepspeed": {"zero_optimization": {"zenflow": {}}}}}))


@pytest.mark.parametrize(
    ("name", "ours"),
    [
        ("zero_hpz_partition_size", "engine.partition"),
        ("mics_shard_size", "engine.partition"),
        ("zero_quantized_weights", "engine.wire=bf16"),
        ("zero_quantized_nontrainable_weights", "engine.wire=bf16"),
        ("zero_quantized_gradients", "engine.wire_gradients=bf16"),
    ],
)
def test_what_does_nothing_or_fails_names_our_own_key(name: str, ours: str) -> None:
    with pytest.raises(UserError) as caught:
        check(Config.model_validate({"engine": {"deepspeed": {"zero_optimization": {name: 2}}}}))
    line = str(caught.value)
    assert line.startswith(f"engine.deepspeed.zero_optimization.{name}: ") and line.endswith(f"set {ours} instead")


def test_ranks_that_share_sequences_are_asked_for_by_our_own_key() -> None:
    with pytest.raises(UserError) as caught:
        check(Config.model_validate({"engine": {"deepspeed": {"sequence_parallel_size": 2}}}))
    assert str(caught.value) == "engine.deepspeed.sequence_parallel_size: set engine.sequence_parallel instead"


def test_a_plan_refuses_what_a_run_would_with_every_other_error() -> None:
    with pytest.raises(UserError) as caught:
        compose(["engine.deepspeed.optimizer.type=Adam", "engine.deepspeed.flops_profile.enabled=true", "seed=x"])
    lines = str(caught.value).splitlines()
    assert "engine.deepspeed.optimizer: set optim.* instead" in lines
    assert any("flops_profile" in line and "did you mean 'flops_profiler'?" in line for line in lines)
    assert any(line.startswith("seed: ") for line in lines)
