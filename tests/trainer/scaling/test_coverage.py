"""Intervals of predictions against larger runs of generated tables; scripts/bench/coverage.py measures at length."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

SCRIPT = Path(__file__).parents[3] / "scripts" / "bench" / "coverage.py"


@pytest.fixture
def coverage(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.setattr(sys, "path", [*sys.path])
    spec = importlib.util.spec_from_file_location("coverage_of_laws", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def share(coverage: ModuleType, form: str, tables: int, runs: int, noise: float, outliers: int) -> float:
    held = []
    for seed in range(tables):
        example = coverage.made(form, runs, noise, outliers, seed)
        figures = coverage.fitted(example.table, 40, seed).interval(example.points)
        held += [figure.low <= loss <= figure.high for figure, loss in zip(figures, example.loss, strict=True)]
    return float(np.mean(held))


def test_larger_runs_lie_within_their_intervals(coverage: ModuleType) -> None:
    example = coverage.made("kaplan", 24, 0.01, 1, 0)
    largest = max(run.flop for run in example.table.runs)
    assert 6 * (example.points["parameters"] * example.points["tokens"]).min() >= 1.99 * largest
    assert share(coverage, "kaplan", 2, 24, 0.01, 1) >= 0.85


@pytest.mark.slow
@pytest.mark.parametrize(
    "form", ["chinchilla", "kaplan", "farseer", "over-training", "data-constrained", "experts-floor"]
)
def test_coverage_over_tables_of_each_form(coverage: ModuleType, form: str) -> None:
    assert share(coverage, form, 10, 40, 0.01, 2) >= 0.86
