"""What cannot be had of the wire is one line that names the key, what was given and the nearest that works."""

from __future__ import annotations

from typing import Any

import pytest

from trainer.config import Config, host
from trainer.config.host import half_wire
from trainer.config.validate import validate
from trainer.config.wire import partition_ranks
from trainer.utils.errors import UserError


@pytest.mark.parametrize(
    ("engine", "launch", "line"),
    [
        ({"wire": "bf16"}, {}, r"engine\.wire: bf16 .* one rank is at stage 0; take engine\.zero_stage=1"),
        ({"wire_gradients": "bf16", "zero_stage": 0}, {"processes": 4}, r"engine\.wire_gradients: .* 0 given; take"),
        ({"wire": "bf16", "precision": "fp32"}, {"processes": 2}, r"engine\.wire: .* take engine\.precision=bf16"),
        ({"wire": "bf16", "linear": "fp8"}, {"processes": 2}, r"engine\.wire: .* leave engine\.wire=fp32"),
        ({"keep_gathered": True}, {"processes": 2}, r"engine\.keep_gathered: .* 1 given; take engine\.zero_stage=3"),
        (
            {"keep_gathered": True, "zero_stage": 3, "offload_parameters": True},
            {"processes": 2},
            r"engine\.keep_gathered: engine\.offload_parameters=true keeps",
        ),
        ({"partition": 2}, {"processes": 4}, r"engine\.partition: .* 1 given; take engine\.zero_stage=3"),
        ({"partition": 3, "zero_stage": 3}, {"processes": 4}, r"engine\.partition: groups of 3 .* engine\.partition=2"),
        ({"partition": 8, "zero_stage": 3}, {"processes": 4}, r"engine\.partition: groups of 8 .* engine\.partition=4"),
        ({"partition": 2, "zero_stage": 3}, {}, r"engine\.partition: one rank holds .* leave engine\.partition=world"),
        ({"partition": 1, "zero_stage": 3}, {"processes": 4}, r"engine\.partition: 1 is .* take engine\.zero_stage=2"),
        (
            {"partition": 4, "zero_stage": 3},
            {"name": "torchrun", "hosts": ["a", "b"], "nodes": 2, "processes": 6},
            r"engine\.partition: groups of 4 ranks do not divide launch\.nodes 2 x launch\.processes 6 .*=3",
        ),
        (
            {"partition": "nodes", "zero_stage": 3},
            {"processes": 4},
            r"engine\.partition: 'nodes' given; world, node or",
        ),
        ({"wire": "bf15", "zero_stage": 3}, {"processes": 4}, r"engine\.wire: 'bf15' given.*\(did you mean 'bf16'"),
    ],
)
def test_refused_in_one_line(engine: dict[str, Any], launch: dict[str, Any], line: str) -> None:
    with pytest.raises(UserError, match=rf"^{line}") as caught:
        validate({"engine": engine, "launch": launch, "optim": {"batch_size": 24}})
    assert len(str(caught.value).splitlines()) == 1


def test_products_that_are_fp32_on_this_host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "_cpuinfo", lambda name: "")
    asked = Config.model_validate({"engine": {"wire": "bf16", "zero_stage": 1, "device": "cpu"}})
    with pytest.raises(UserError, match=r"^engine\.wire: .* add engine\.precision=bf16"):
        half_wire(asked)
    assert half_wire(asked.model_copy(update={"engine": asked.engine.model_copy(update={"precision": "bf16"})}))


def test_what_may_be_asked_for() -> None:
    for partition, ranks in (("world", 8), ("node", 4), (2, 2), (4, 4), (8, 8)):
        engine = {"partition": partition, "zero_stage": 3}
        launch = {"name": "torchrun", "hosts": ["a", "b"], "nodes": 2, "processes": 4}
        assert partition_ranks(Config.model_validate({"engine": engine, "launch": launch})) == ranks
