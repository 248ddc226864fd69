"""A host is measured once, and nothing else of the process changes by it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from trainer.books.host import read_probe
from trainer.config import Config
from trainer.meter import probe


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    monkeypatch.setattr(probe, "SIDE", 64)
    monkeypatch.setattr(probe, "COPIED", 1 << 12)
    monkeypatch.setattr(probe, "probe", lambda config, measure=probe.probe: measure(config, 0.01))
    engine = {"device": "cpu", "threads": 1, "precision": "fp32"}
    return Config.model_validate({"run": {"cache": str(tmp_path)}, "engine": engine})


def test_once(config: Config) -> None:
    torch.manual_seed(3)
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    line = probe.measure_once(config)
    found = read_probe(config)
    assert found is not None and line == found.line and "1 thread:" in line
    assert found.flop_per_second > 0 and found.bytes_per_second > 0 and 0 < found.share <= 1
    assert torch.equal(torch.get_rng_state(), state) and torch.get_num_threads() == threads
    assert probe.measure_once(config) is None


def test_a_cache_that_takes_nothing(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError

    monkeypatch.setattr(probe, "write_probe", full)
    assert probe.measure_once(config) is None


def test_the_best_of_several_counts() -> None:
    times = iter([0.0, 0.0, 5.0, 5.0, 6.0, 6.0, 9.0, 20.0])
    assert probe._least(lambda: None, 1.0, lambda: next(times)) == 1.0
