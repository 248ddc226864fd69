"""Curves of what `debug` measured, from records as the loop writes them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from trainer.report.diagnostics import diagnostic_plots
from trainer.trackers.console import said_noise
from trainer.trackers.records import StepRecord
from trainer.trackers.wandb import step_metrics

NOISE = {"trace": 2.0, "square": 0.1, "noise_scale": 20.0, "noise_scale_low": 15.0, "noise_scale_high": 25.0}
HIDDEN = {"noise_scale": None, "noise_scale_low": None, "noise_scale_high": None, "reason": "the mean square ..."}


def figures(ratio: float | None) -> dict[str, float | None]:
    return {"gradient": 1.0, "weight": 2.0, "update": 0.1, "ratio": ratio}


UPDATES = {
    "embedding": figures(0.3),
    "vectors": figures(None),
    "blocks.0.attention": figures(0.1),
    "blocks.1.attention": figures(0.2),
    "blocks.2.attention": figures(0.9),
}


def run_of(*kept: dict[str, Any]) -> Any:
    config = SimpleNamespace(optim=SimpleNamespace(batch_size=8))
    return SimpleNamespace(steps=SimpleNamespace(kept=kept), config=config)


def test_noise_with_its_interval_beside_the_batch() -> None:
    other = {"tokens": 10, "gradient_noise": {}, "updates": {}}
    records = [{"tokens": 100 * n, "gradient_noise": NOISE if n > 1 else HIDDEN, "updates": {}} for n in (1, 2, 3)]
    noise, ratios = diagnostic_plots(run_of(other, *records))
    by_label = {curve.label: list(curve.y) for curve in noise.curves}
    assert by_label["noise scale"] == [20.0, 20.0] and by_label["95 % interval"] == [15.0, 15.0]
    assert by_label["batch size"] == [8, 8, 8] and not ratios.curves


def test_noise_beside_batches_that_grow() -> None:
    sizes = [{"scheduled": {"batch_size": size}} for size in (2, 4)] + [{"scheduled": {}}]
    records = [{"tokens": 100 * n, "gradient_noise": NOISE} | size for n, size in enumerate(sizes)]
    noise, _ = diagnostic_plots(run_of(*records))
    (batch,) = [curve for curve in noise.curves if curve.label == "batch size"]
    assert (list(batch.x), list(batch.y)) == ([0, 100, 200], [2, 4, 8])


def test_ratios_are_those_of_the_median_layer() -> None:
    noise, ratios = diagnostic_plots(run_of({"tokens": 50, "gradient_noise": {}, "updates": UPDATES}))
    assert not noise.curves
    assert {curve.label: list(curve.y) for curve in ratios.curves} == {"embedding": [0.3], "attention": [0.2]}


def test_runs_without_them_and_of_earlier_versions_have_no_curves() -> None:
    assert [plot.curves for plot in diagnostic_plots(run_of({"tokens": 1}))] == [[], []]


@pytest.mark.parametrize(
    ("noise", "said"),
    [
        (NOISE, "20 (15 to 25) sequences"),
        ({"noise_scale": 20.0, "noise_scale_low": None, "noise_scale_high": None}, "20 sequences"),
        (HIDDEN, "n/a"),
    ],
)
def test_the_terminal_says_it_in_a_few_words(noise: dict[str, Any], said: str) -> None:
    assert said_noise(noise) == said


def test_wandb_gets_numbers_alone() -> None:
    zeros = dict.fromkeys(("step", "samples", "tokens", "targets", "flop", "loss", "grad_norm", "lr"), 0)
    more = dict.fromkeys(
        ("tokens_per_second", "flop_per_second", "mfu", "peak_flop_per_second", "memory_peak_bytes"), 0
    )
    plain: Any = {**zeros, **more, "seconds": {}, "wall_seconds": 0.0}
    metrics = step_metrics(StepRecord(**plain, gradient_noise=HIDDEN | {"trace": 2.0}, updates=UPDATES))
    assert metrics["gradient_noise/trace"] == 2.0 and metrics["updates/blocks.1.attention/ratio"] == 0.2
    assert "updates/vectors/ratio" not in metrics and "gradient_noise/noise_scale" not in metrics
    assert all(isinstance(value, int | float) for value in metrics.values())
