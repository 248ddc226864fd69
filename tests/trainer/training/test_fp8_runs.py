"""Runs whose linear layers are in fp8: beside bf16, resumed in it at another ZeRO stage, and refused by name."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.trainer.training.half_way import half_way, trained
from trainer.config import Config
from trainer.report import read_run
from trainer.trackers import read_metrics
from trainer.training.engine import fp8_here
from trainer.utils.errors import UserError

STEPS = 6
PREFERENCE = {"kind": "preference", "name": "arguments", "train": ["x"], "answer": ["chosen", "rejected"]}
HOPPER, ADA, AMPERE = (9, 0), (8, 9), (8, 6)


@pytest.mark.slow
def test_beside_bf16_and_on_from_it(isoflop: Any, tiny: list[str]) -> None:
    words = [*tiny, f"budget.steps={STEPS}", "checkpoint.every_steps=3", "engine.precision=bf16", "optim.lr=0.01"]

    def losses(run: Any) -> list[float]:
        return [record["loss"] for record in read_metrics(run) if record["kind"] == "step"]

    plain = trained(isoflop, *words, "run.id=plain")
    done = isoflop("train", *words, "run.id=eight", "engine.linear=fp8", "engine.micro_batch=5")
    assert done.returncode == 0, done.stderr
    eight = plain.with_name("eight")
    assert "engine.linear: 14 linear layers in fp8; bf16: " in done.stdout + done.stderr
    assert losses(eight) == pytest.approx(losses(plain), rel=0.01) and losses(eight) != losses(plain)
    assert read_run(eight).config.science_hash() == read_run(plain).config.science_hash()
    assert read_run(eight).numerics == "bf16 linear=fp8"

    resumed = half_way(plain, "resumed", after=STEPS // 2)
    trained(isoflop, f"resume={resumed}", "engine.linear=fp8", "engine.zero_stage=3", "launch.processes=2")
    assert losses(resumed) == pytest.approx(losses(plain), rel=0.01)
    assert read_run(resumed).numerics == "bf16, then bf16 linear=fp8"
    assert "numerics: bf16 before, bf16 linear=fp8 from here on" in (resumed / "events.jsonl").read_text()


@pytest.mark.parametrize(
    ("groups", "said"),
    [
        ({"engine": {"precision": "fp32"}}, r"linear: fp8 needs engine\.precision=bf16, fp32 given"),
        (
            {"model": {"width": 40, "heads": 5, "ffn_width": 100}},
            r"multiples of 16, and no .*width 40 has one",
        ),
        ({"machine": {"name": "a100", "peak_flops": {"bf16": 3e14}}}, r"sm_89 or newer .* and machine=a100 states no"),
        ({"task": PREFERENCE}, "task=arguments, whose loss compares with a reference"),
    ],
)
def test_what_it_is_not_for_is_refused_by_name(groups: dict[str, Any], said: str) -> None:
    engine = {"linear": "fp8", "precision": "bf16"} | groups.pop("engine", {})
    with pytest.raises(ValueError, match=said):
        Config.model_validate({"engine": engine, **groups})


def config(**engine: Any) -> Config:
    return Config.model_validate({"engine": {"linear": "fp8", "precision": "bf16"} | engine})


@pytest.mark.parametrize(("capability", "runs"), [(HOPPER, True), (ADA, True), (AMPERE, False)])
def test_a_gpu_that_lacks_it_is_refused_before_any_work(
    capability: tuple[int, int], runs: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: capability)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device=None: "NVIDIA A10")
    assert fp8_here(config(device="cpu")) and not fp8_here(config(linear="bf16"))
    if runs:
        assert fp8_here(config(device="cuda")) and fp8_here(config())
    else:
        with pytest.raises(UserError, match=r"fp8 needs a GPU of sm_89 or newer .*, NVIDIA A10 is sm_86; take"):
            fp8_here(config())


def test_where_auto_is_fp32_it_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainer.config.host.NATIVE_BF16", set())
    with pytest.raises(UserError, match=r"engine\.precision=auto is fp32 here; add engine\.precision=bf16"):
        fp8_here(config(precision="auto", device="cpu"))
