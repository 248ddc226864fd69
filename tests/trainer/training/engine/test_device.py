"""How a batch gets to a device, and whether what runs there is compiled."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from trainer.books.kernels import compile_line, compiled
from trainer.config import Config
from trainer.config.compilation import compilation, varying
from trainer.config.host import no_triton
from trainer.training.engine.engine import to_device


def test_a_gpu_copies_from_pinned_memory_without_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []

    def pinned(tensor: torch.Tensor) -> torch.Tensor:
        calls.append("pinned")
        return tensor

    def moved(tensor: torch.Tensor, device: torch.device, non_blocking: bool = False) -> torch.Tensor:
        calls.append((device.type, non_blocking))
        return tensor

    monkeypatch.setattr(torch.Tensor, "pin_memory", pinned)
    monkeypatch.setattr(torch.Tensor, "to", moved)
    tokens = np.arange(6).reshape(2, 3)
    assert to_device(tokens, torch.device("cuda", 0)).tolist() == tokens.tolist()
    assert calls == ["pinned", ("cuda", True)]
    to_device(tokens, torch.device("cpu"))
    assert calls[2:] == [("cpu", True)]


def config(**settings: Any) -> Config:
    return Config.model_validate(settings)


@pytest.mark.parametrize(
    ("settings", "device", "on", "why"),
    [
        ({}, "cuda", True, "a GPU"),
        ({}, "cpu", False, "no GPU"),
        ({"engine": {"compile": True}}, "cpu", True, "asked for"),
        ({"engine": {"compile": False}}, "cuda", False, "asked for"),
        ({"model": {"experts": {"count": 4}}}, "cuda", False, "model.experts"),
        ({"debug": {"first_nonfinite": True}}, "cuda", False, "debug.first_nonfinite"),
        ({"engine": {"zero_stage": 3}}, "cuda", False, "engine.zero_stage=3"),
        ({"engine": {"zero_stage": 3, "compile": True}}, "cuda", True, "asked for"),
    ],
)
def test_auto_compiles_on_a_gpu_what_compiles_there(settings: dict[str, Any], device: str, on: bool, why: str) -> None:
    found = compilation(config(**settings), device)
    assert found.on is on and found.reason.startswith(why)


def test_without_triton_nothing_is_compiled_for_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    reason = no_triton()
    assert reason is not None and compilation(config(), "cuda", reason) == (False, reason)
    assert compilation(config(engine={"compile": True}), "cuda", reason).on  # refused before a run begins


def test_the_plan_asks_the_same() -> None:
    whole, divided = (config(engine={"device": "cuda", **more}) for more in ({}, {"zero_stage": 3}))
    assert compiled(whole) == compilation(whole, "cuda") and compiled(whole).on
    assert compiled(divided) == compilation(divided, "cuda") and not compiled(divided).on
    said = compile_line(divided)
    assert said is not None and said.startswith("engine.compile=auto: not compiled (engine.zero_stage=3")
    assert compile_line(whole) is None and compile_line(config(engine={"zero_stage": 3})) is None


def test_what_varies_along_a_run() -> None:
    stages = [{"tokens": 4096, "sequence_length": 32}, {"tokens": 4096}]
    lengths = {"data": {"sequence_length": 64, "stages": stages}, "budget": {"tokens": 8192}}
    batches = {"batch_size": 8, "warmup_steps": 0, "batch_warmup": [{"size": 4, "tokens": 1024}]}
    assert varying(config()) == ()
    assert varying(config(**lengths, optim={"batch_size": 8, "warmup_steps": 0})) == (1,)
    assert varying(config(**lengths, optim=batches)) == (0, 1)
    assert varying(config(**lengths, optim=batches, engine={"micro_batch": 4})) == (1,)  # more passes of the same rows
