"""Where the time of an attempt goes: every second lies in one phase, and the phases add up."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from trainer.books import format_price_tag, measured, plan
from trainer.books.records import read_steps
from trainer.config import Config
from trainer.report.curves import plots
from trainer.report.html_page import run_page
from trainer.report.run_data import read_run
from trainer.run_folder import RunFolder
from trainer.trackers import RunContext, make_trackers, read_events
from trainer.training.distributed import World
from trainer.training.step_metrics import StepMetrics


class Clock:
    """Seconds that the test lets pass."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def run(tmp_path: Path) -> Path:
    config = Config.model_validate({"budget": {"steps": 2}, "tracker": {"console": "none"}})
    folder = tmp_path / config.experiment / "r1"
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(config.to_yaml())
    return folder


def attempt(run: Path, clock: Clock, number: int, lines: list[tuple[str, float]]) -> Iterator[str]:
    """Spend seconds in phases; a step ends with "other". Yields the phase that has just passed."""
    config = Config.model_validate({"budget": {"steps": 2}, "tracker": {"console": "none"}})
    world = World(0, 1, 0, torch.device("cpu"))
    trackers = make_trackers(config, run, rank=0, resumed_from=0)
    trackers.start(RunContext(config, run, 2, 1, 1, 0, number))
    metrics = StepMetrics(config, RunFolder(run), world, trackers, number, 0, clock)
    step = 0
    try:
        for phase, seconds in lines:
            if phase != "start":
                metrics.phase(phase)
            clock.now += seconds
            if phase == "other":
                step += 1
                metrics.step(step, 1.0, 1.0, 1.0, 1e-3, 1, {}, {})
            yield phase
        metrics.closed("finished", step, "finished")
    finally:
        metrics.meter.close()
        trackers.finish("finished", {})


STEPS = [
    ("start", 3.0),
    *[("data", 0.5), ("idle", 0.25), ("forward_backward", 4.0), ("optimizer", 1.0), ("other", 0.125)],
    ("evaluation", 8.0),
    *[("data", 0.5), ("idle", 0.75), ("forward_backward", 4.0), ("optimizer", 1.0), ("other", 0.125)],
    *[("evaluation", 16.0), ("checkpoint", 32.0)],
]


def test_phases_add_up_to_the_wall_time(run: Path, clock: Clock) -> None:
    began = clock.now
    list(attempt(run, clock, 0, STEPS))
    wanted: dict[str, float] = {}
    for phase, seconds in STEPS:
        wanted[phase] = wanted.get(phase, 0.0) + seconds
    assert read_steps(run).phase_seconds == wanted
    assert sum(wanted.values()) == clock.now - began == measured(run)["time.wall"].measured.value  # type: ignore[union-attr]
    # What a step takes counts waiting for other ranks, and nothing that is no step.
    assert measured(run)["time.step"].measured.value == (5.875 + 6.375) / 2  # type: ignore[union-attr]


def test_a_killed_attempt_and_a_lost_line_are_idle_and_not_lost(run: Path, clock: Clock) -> None:
    killed = attempt(run, clock, 0, STEPS)
    while next(killed) != "checkpoint":  # both steps, and then nothing more is said
        pass
    told = clock.now - 100.0 - 16.0 - 32.0
    assert sum(read_steps(run).phase_seconds.values()) == told
    list(attempt(run, clock, 1, STEPS))
    lines = (run / "metrics.jsonl").read_text().splitlines()
    lost = json.loads(lines.pop(-2))  # the first step of the second attempt
    (run / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    phases = read_steps(run).phase_seconds
    assert phases["idle"] == pytest.approx(2 * 1.0 - 0.25 + sum(lost["seconds"].values()))
    assert sum(phases.values()) == measured(run)["time.wall"].measured.value  # type: ignore[union-attr]
    shown = {plot.title: plot.bars for plot in plots(read_run(run))}["Where the time went"]
    drawn = {bar.name: bar.value for bar in shown}
    assert drawn["idle"] == phases["idle"] and drawn["forward + backward"] == phases["forward_backward"]
    assert sum(drawn.values()) == sum(phases.values())


LOST = "Read error [10.0.0.2]:48529: Connection reset by peer."


@pytest.mark.parametrize(
    ("rank", "error", "told"),
    [
        (0, RuntimeError(LOST), "rank 0 lost another rank (Connection reset by peer); this attempt ends"),
        (0, MemoryError(), "rank 0: MemoryError; this attempt ends"),
        (
            1,
            RuntimeError("first line\nCUDA out of memory"),
            "rank 1: RuntimeError: CUDA out of memory; this attempt ends",
        ),
        (1, RuntimeError(LOST), None),  # told once, not by every rank that is left
    ],
)
def test_the_logbook_names_who_broke_and_why(rank: int, error: Exception, told: str | None, run: Path) -> None:
    config = Config.model_validate({"budget": {"steps": 2}, "tracker": {"console": "none"}})
    trackers = make_trackers(config, run, rank=rank)
    metrics = StepMetrics(config, RunFolder(run), World(rank, 2, rank, torch.device("cpu")), trackers, 3, 0)
    with pytest.raises(type(error)), metrics.reporting_errors(lambda: 7):
        raise error
    metrics.meter.close()
    events = [(one["name"], one["step"], one["attempt"], one["text"], one["data"]) for one in read_events(run)]
    assert events == ([("lost", 7, 3, told, {"rank": rank})] if told else [])


def test_after_five_steps_there_is_a_second_plan(run: Path, clock: Clock) -> None:
    (run / "plan.json").write_text(json.dumps(plan(Config.model_validate({"budget": {"steps": 2}})).to_json()))
    lines = [("forward_backward", seconds) for seconds in (9.0, 2.0, 2.2, 1.9, 2.1)]
    second = run / "plan-measured.json"
    steps = 0
    for phase in attempt(run, clock, 0, [("start", 1.0), *(one for line in lines for one in (line, ("other", 0.0)))]):
        steps += phase == "other"
        assert second.exists() == (steps == 5)
    tag = read_run(run).tag
    assert tag["time.step"].revised is not None and tag["time.step"].revised.value == pytest.approx(2.1)
    assert tag["model.parameters"].revised is None
    assert "after 5 steps" in run_page(read_run(run)) and "after 5 steps" in format_price_tag(tag)
    second.write_text("{")
    assert read_run(run).tag["time.step"].revised is None  # which is told on standard error
