"""The fit of a calibration: it finds the times that made the measurements, and says how far off it is."""

from __future__ import annotations

import numpy as np
import pytest

from trainer.books.calibration import TERMS, Calibration, calibration_file, read_calibration
from trainer.books.clock import Work, step_seconds, work
from trainer.books.run_length import run_steps
from trainer.cli.main import main
from trainer.compose import compose
from trainer.config import Config
from trainer.config.host import processor, threads
from trainer.meter import calibration
from trainer.meter.calibration import LADDER, fit_rates, small_model, timed_models
from trainer.meter.calibration_ranks import ranks_seconds
from trainer.utils.errors import UserError
from trainer.utils.files import write_atomic

TRUE = dict(zip(TERMS, (2e-11, 8e-11, 3e-10, 5e-10, 1e-10, 4e-4), strict=True))


def ladder() -> list[Work]:
    return [work(small_model(Config(), *shape)) for shape in LADDER]


def seconds(one: Work) -> float:
    return sum(TRUE[name] * getattr(one, name) for name in TERMS)


def test_recovers_the_rates_that_made_the_times():
    works = ladder()
    rates, error = fit_rates(works, [seconds(one) for one in works])
    assert rates == pytest.approx(TRUE, rel=1e-6)
    assert error < 1e-9


def test_noise_stays_small_and_no_rate_is_negative():
    works, rng = ladder(), np.random.default_rng(0)
    noisy = [seconds(one) * float(np.exp(rng.normal(0, 0.03))) for one in works]
    rates, error = fit_rates(works, noisy)
    assert all(rate >= 0 for rate in rates.values())
    assert 0 < error < 0.12
    for one in works:
        assert sum(rates[name] * getattr(one, name) for name in TERMS) == pytest.approx(seconds(one), rel=0.12)


def test_the_model_that_was_asked_for_is_met_and_far_ones_are_left_alone(tmp_path, monkeypatch):
    """A processor that takes half as long again for it than the ladder says, and for deeper ones of such blocks."""
    monkeypatch.setenv("ISOFLOP_CACHE", str(tmp_path))
    config = Config.model_validate({"engine": {"device": "cpu", "threads": 1}})
    models = timed_models(config)
    times = iter([*(seconds(work(one)) for one in models[:-1]), 1.5 * seconds(work(models[-1]))])
    monkeypatch.setattr(calibration, "time_step", lambda small, budget: next(times))
    made = calibration.calibrate(config)
    assert made.seconds(work(models[-1])) == pytest.approx(1.5 * seconds(work(models[-1])))
    assert read_calibration(config) == made
    model = config.model.model_copy(update={"depth": config.model.depth + 5})
    deeper = work(config.model_copy(update={"model": model}))
    assert made.seconds(deeper) == pytest.approx(
        1.5 * seconds(deeper), rel=0.05
    )  # a block with its share of the output layer
    far = work(small_model(config, 1024, 2, 128, 64, 2048))
    assert made.seconds(far) == pytest.approx(seconds(far))


def test_heads_and_feed_forwards_are_those_of_the_kind():
    model = {"width": 96, "heads": 6, "kv_heads": 3, "ffn_width": 288}
    config = Config.model_validate({"model": model, "engine": {"device": "cpu"}})
    small = small_model(config, 128, 2, 128, 8, 2048).model
    assert (small.heads, small.kv_heads, small.ffn_channels) == (8, 4, 384)


def test_a_large_model_is_not_timed_itself():
    config = Config.model_validate({"model": {"width": 2048, "depth": 24, "heads": 16}, "engine": {"device": "cpu"}})
    assert len(timed_models(config)) == len(LADDER)


@pytest.fixture
def calibrated(tmp_path, monkeypatch):
    """A cache with a calibration of this host's processor."""
    monkeypatch.setenv("ISOFLOP_CACHE", str(tmp_path))

    config = Config.model_validate({"engine": {"device": "cpu", "precision": "bf16"}})
    import json

    found = Calibration(processor(), "bf16", threads(config), TRUE, 0.05, "2026-11-23")
    file = calibration_file(config, found.machine)
    file.parent.mkdir(parents=True)
    write_atomic(file, json.dumps(found.to_json()))
    return config


def test_calibrate_writes_what_plan_reads(tmp_path, monkeypatch):
    """With the clock replaced by known rates."""
    monkeypatch.setenv("ISOFLOP_CACHE", str(tmp_path))
    config = Config.model_validate({"engine": {"device": "cpu", "threads": 1}})
    monkeypatch.setattr(calibration, "time_step", lambda small, budget: seconds(work(small)))
    told = []
    made = calibration.calibrate(config, lambda what, done, total: told.append((done, total)))
    assert read_calibration(config) == made
    assert made.error < 1e-6 and len(told) == len(LADDER) + 1  # and the model itself
    assert made.steps[-1]["width"] == config.model.width


def test_a_busy_machine_is_no_measure(tmp_path, monkeypatch):
    monkeypatch.setenv("ISOFLOP_CACHE", str(tmp_path))
    config = Config.model_validate({"engine": {"device": "cpu", "threads": 1}})
    times = iter([1.0, 0.01] * len(LADDER))
    monkeypatch.setattr(calibration, "time_step", lambda small, budget: next(times))
    with pytest.raises(UserError, match="nothing was written"):
        calibration.calibrate(config)
    assert read_calibration(config) is None


@pytest.mark.parametrize(
    ("model", "objective"),
    [
        ("gpt-mini", "causal"),
        ("t5-small", "span_corruption"),
        ("electra-small", "replaced_token"),
        ("bert-base", "bert"),
    ],
)
def test_a_real_step_of_every_family_is_timed(model: str, objective: str):
    made = compose([f"model={model}", f"objective={objective}", "engine.device=cpu"])
    assert calibration.time_step(small_model(made, 64, 1, 16, 2, 512), 0.01) > 0


@pytest.mark.parametrize("words", [["machine=h100-sxm"], ["launch.processes=2", "engine.zero_stage=3"]])
def test_what_no_plan_would_use_is_not_measured(words: list[str], capsys):
    assert main(["calibrate", *words]) == 2
    assert "ranks on this host's processor are measured" in capsys.readouterr().err


def test_ranks_are_timed_together_and_planned_by_that(tmp_path, monkeypatch):
    """Each computes a whole micro-batch, and nobody goes on before the others."""
    monkeypatch.setenv("ISOFLOP_CACHE", str(tmp_path))
    config = Config.model_validate(
        {"engine": {"device": "cpu", "threads": 1, "precision": "fp32"}, "launch": {"processes": 2}}
    )
    small = [small_model(config, 64, 1, 16, batch, 512) for batch in (1, 2)]
    counts: list[int] = []
    taken = ranks_seconds(small, 0.01, counts.append)
    assert counts == [1, 2] and all(0 < one < 60 for one in taken)
    monkeypatch.setattr(
        calibration, "ranks_seconds", lambda models, budget, told: [seconds(work(one)) for one in models]
    )
    made = calibration.calibrate(config)
    assert read_calibration(config) == made and made.seconds(work(config)) == pytest.approx(seconds(work(config)))
    apart = config.model_copy(update={"launch": config.launch.model_copy(update={"processes": 1})})
    divided = config.model_copy(update={"engine": config.engine.model_copy(update={"zero_stage": 3})})
    assert read_calibration(apart) is None and read_calibration(divided) is None


def test_plan_uses_the_calibration_of_this_host(calibrated):
    from trainer.books import plan

    figure = step_seconds(calibrated, read_calibration(calibrated))
    assert figure.value == pytest.approx(seconds(work(calibrated)))
    assert figure.provenance == "estimated" and "calibration" in figure.source
    tag = plan(calibrated)
    assert tag["time.wall"].planned.value == pytest.approx(figure.value * run_steps(calibrated))
    energy = tag["energy.device_kwh"].planned
    assert energy.low < energy.value < energy.high and "busy threads" in energy.source


def test_other_settings_do_not_use_it(calibrated):
    other = Config.model_validate({"engine": {"device": "cpu", "precision": "fp32"}})
    assert read_calibration(other) is None
    machine = Config.model_validate({"machine": {"name": "card", "peak_flops": {"bf16": 1e12}}})
    assert read_calibration(machine) is None
    two = Config.model_validate({"launch": {"processes": 2}})
    assert read_calibration(two) is None


def test_damaged_file_is_no_calibration(calibrated):
    file = calibration_file(calibrated, processor())
    for text in ("{", "[]", "{}", '{"machine": "x", "precision": 3}'):
        file.write_text(text)
        assert read_calibration(calibrated) is None
