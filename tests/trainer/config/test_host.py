"""Precision follows what the processor can do; said otherwise, what was said."""

from __future__ import annotations

from pathlib import Path

import pytest

from trainer.config import Config, host

WITH = "processor\t: 0\nmodel name\t: A 9654\nflags\t\t: fpu avx512f avx512_bf16\n\nprocessor\t: 1\n"
WITHOUT = "processor\t: 0\nmodel name\t: B 8370\nflags\t\t: fpu avx512f avx512vl\n"
ARM = "processor\t: 0\nFeatures\t: fp asimd bf16\n"


@pytest.fixture
def say(monkeypatch: pytest.MonkeyPatch):
    """Make /proc/cpuinfo say this, on a host without accelerators."""

    def pretend(text: str) -> None:
        monkeypatch.setattr(Path, "read_text", lambda self: text)
        monkeypatch.setattr(host, "has_accelerator", lambda: False)

    return pretend


def config(machine: str = "unstated", **engine: str) -> Config:
    return Config.model_validate({"engine": engine, "machine": {"name": machine}})


@pytest.mark.parametrize(("cpuinfo", "wanted"), [(WITH, "bf16"), (WITHOUT, "fp32"), (ARM, "bf16"), ("", "fp32")])
def test_auto_is_bf16_where_it_is_native(say, cpuinfo: str, wanted: str) -> None:
    say(cpuinfo)
    assert host.precision(config()) == host.precision(config(device="cpu")) == wanted


def test_what_is_stated_is_done(say) -> None:
    say(WITHOUT)
    assert host.precision(config(precision="bf16")) == "bf16"
    say(WITH)
    assert host.precision(config(precision="fp32")) == "fp32"


def test_accelerators_compute_in_bf16(say, monkeypatch: pytest.MonkeyPatch) -> None:
    say(WITHOUT)
    assert host.precision(config(device="cuda")) == host.precision(config("h100-sxm")) == "bf16"
    assert host.precision(config("h100-sxm", device="cpu")) == "fp32"
    monkeypatch.setattr(host, "has_accelerator", lambda: True)
    assert host.precision(config()) == "bf16" and host.precision(config(device="cpu")) == "fp32"


def test_the_processor_is_named(say) -> None:
    say(WITH)
    assert host.processor() == "A 9654"
