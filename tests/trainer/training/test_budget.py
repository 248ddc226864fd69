"""Budgets: exact ones are a number of steps on any machine; measured ones end the run when an instrument says so."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from trainer.books import flops, plan
from trainer.books.run_length import known_steps, run_steps
from trainer.compose import compose
from trainer.config import Config
from trainer.trackers import read_events, read_metrics
from trainer.training.budget_tracker import BudgetTracker
from trainer.training.lr_schedule import expected_steps, learning_rate
from trainer.utils.errors import UserError

SITE = {"name": "hall", "pue": 1.5, "gco2e_per_kwh": 400.0, "intensity_year": 2023, "intensity_source": "test"}
PRICE = {"price_per_device_hour": 2.0, "currency": "USD", "price_date": "2026-11"}
MACHINE = {"name": "card", "peak_flops": {"bf16": 1e14}, "memory_bandwidth": 1e12, "power_watts": 300.0}


def config(**groups: Any) -> Config:
    return Config.model_validate({"site": SITE | PRICE, "machine": MACHINE} | groups)


def test_a_budget_of_flop_is_the_most_whole_steps_within_it() -> None:
    per_step = flops(config(budget={"steps": 1})).per_step
    made = config(budget={"flop": 100 * per_step - 1})
    assert known_steps(made) == run_steps(made) == 99
    assert flops(made).total == 99 * per_step
    with pytest.raises(UserError, match=r"budget.flop: .* one step takes"):
        compose(["budget.flop=1000"])


def test_a_budget_of_flop_is_the_same_on_any_machine() -> None:
    """XLNet projects its distances once per forward pass, so that its true count depends on the micro-batch."""
    words = [
        "model=xlnet-base",
        "objective=permuted_lm",
        "data.sequence_length=64",
        "optim.batch_size=32",
        "budget.flop=3e14",
    ]
    lengths = {
        known_steps(compose([*words, f"launch.processes={ranks}", f"engine.micro_batch={rows}"]))
        for ranks, rows in ((1, 32), (1, 2), (4, 8), (8, 1))
    }
    assert len(lengths) == 1


def test_only_measured_budgets_leave_the_length_open() -> None:
    open_ended = config(budget={"hours": 1})
    assert known_steps(open_ended) is None
    with pytest.raises(UserError, match=r"budget.hours.*state budget.steps"):
        run_steps(open_ended)
    assert known_steps(config(budget={"hours": 1, "steps": 7})) == 7


@pytest.mark.parametrize(
    ("word", "wanted"),
    [
        ("budget.hours=0", "greater than 0"),
        ("budget.kwh=nan", "finite"),
        ("budget.kgco2e=5", "needs the grid's intensity"),
        ("budget.money=5", "needs site.price_per_device_hour or site.price_per_kwh"),
        ("budget.days=5", "no such key"),
    ],
)
def test_a_budget_that_cannot_be_kept_is_refused(word: str, wanted: str) -> None:
    with pytest.raises(UserError, match=wanted):
        compose([word])


def test_epoch_caps_need_a_length() -> None:
    source = {"path": ("a.txt",), "epochs": 2.0}
    with pytest.raises(ValueError, match="epoch caps need a run of known length"):
        config(budget={"hours": 1}, data={"name": "mixture", "sources": {"a": source}})


@pytest.mark.parametrize("budget", [{"hours": 2.0}, {"kwh": 3.0}, {"kgco2e": 0.5}, {"money": 10.0}])
def test_the_plan_is_the_largest_run_that_fits(budget: dict[str, float]) -> None:
    """Independently: the plan of that many steps costs no more than the budget, and of one step more it does."""
    row = {"hours": "time.wall", "kwh": "energy.kwh", "kgco2e": "carbon.kgco2e", "money": "cost.amount"}
    ((name, most),) = budget.items()
    steps = plan(config(budget=budget))["data.steps"].planned
    assert steps is not None and steps.value is not None
    costs = []
    for count in (int(steps.value), int(steps.value) + 1):
        figure = plan(config(budget={"steps": count}))[row[name]].planned
        assert figure is not None and figure.value is not None
        costs.append(figure.value / (3600 if name == "hours" else 1))
    assert costs[0] <= most < costs[1]


def test_the_tightest_budget_ends_the_planned_run() -> None:
    def steps(**budget: float) -> float | None:
        figure = plan(config(budget=budget))["data.steps"].planned
        return figure.value if figure else None

    hour, tenth = steps(hours=1), steps(kwh=0.1)
    assert hour is not None and tenth is not None and tenth < hour
    assert steps(hours=1, kwh=0.1) == tenth
    assert steps(hours=1, kwh=0.1, steps=5) == 5
    unknown = Config.model_validate({"budget": {"hours": 1}, "machine": {"name": "card"}})
    assert plan(unknown)["data.steps"].planned.value is None  # type: ignore[union-attr]


def test_totals_of_a_budget_in_hours_are_those_hours() -> None:
    wall = plan(config(budget={"hours": 2}))["time.wall"].planned
    assert wall is not None and wall.low is not None and wall.high is not None
    assert 7100 < wall.low <= wall.high <= 7200  # however long a step turns out to take


# --- while it runs ---


def attempt(run: Path, number: int, ranks: int, seconds: float) -> None:
    record = {"kind": "step", "step": 3, "attempt": number, "wall_seconds": seconds}
    with open(run / "metrics.jsonl", "a") as file:
        file.write(json.dumps(record) + "\n")
    environment = run / "environment.json"
    entries = json.loads(environment.read_text()) if environment.is_file() else []
    environment.write_text(json.dumps([*entries, {"attempt": number, "world_size": ranks}]))


def test_attempts_add_up(tmp_path: Path) -> None:
    """Two killed attempts on 1 and 4 ranks, whose step 3 was replayed, and half an hour of a third on 2."""
    attempt(tmp_path, 0, 1, 3600)
    attempt(tmp_path, 1, 4, 1800)
    most = {"hours": 4.0, "kwh": 30.0, "kgco2e": 12.0, "money": 20.0}
    used = BudgetTracker(config(budget=most), tmp_path, ranks=2).used(1800, {"gpu": 3.6e7, "dram": None})
    assert used["hours"] == pytest.approx((1 + 0.5 + 0.5) / 4)
    assert used["kwh"] == pytest.approx(10 * 1.5 / 30)
    assert used["kgco2e"] == pytest.approx(10 * 1.5 * 0.4 / 12)
    assert used["money"] == pytest.approx(2 * (1 + 2 + 1) / 20)


def test_a_budget_of_energy_needs_an_instrument(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"budget.kwh: no instrument here reads energy"):
        BudgetTracker(config(budget={"kwh": 1}), tmp_path, ranks=1).used(10, {"gpu": None})
    assert BudgetTracker(config(budget={"hours": 1}), tmp_path, ranks=1).used(36, {"gpu": None}) == {"hours": 0.01}


@pytest.mark.parametrize("schedule", ["cosine", "linear", "wsd"])
def test_the_schedule_follows_the_budget(schedule: str) -> None:
    """At a steady pace it is the schedule of the run whose length was known; with any pace it ends at the bottom."""
    optim = config().optim.model_copy(update={"schedule": schedule})
    total = 1000
    for step in range(total):
        share = (step + 1) / total
        assert learning_rate(optim, step, expected_steps(step, share)) == pytest.approx(
            learning_rate(optim, step, total), rel=0.03, abs=optim.lr * 0.01
        )
    assert learning_rate(optim, 123, expected_steps(123, 1.0)) == pytest.approx(optim.lr * optim.min_lr_ratio)
    assert math.isfinite(learning_rate(optim, 0, expected_steps(0, 0.0)))


def test_two_ranks_stop_together_and_a_resume_finds_the_budget_used_up(isoflop: Any, tiny: list[str]) -> None:
    words = [word for word in tiny if not word.startswith(("budget", "evaluation.every", "checkpoint.every"))]
    result = isoflop("train", *words, "budget.hours=0.001", "launch.processes=2", "run.id=timed")
    assert result.returncode == 0, result.stdout + result.stderr
    assert "finished: budget.hours=0.001 is used up" in result.stdout
    run = isoflop.folder / "runs" / "llama-mini-causal-text" / "timed"
    records = [record for record in read_metrics(run) if record["kind"] == "step"]
    last = records[-1]
    assert (run / "checkpoints" / f"step-{last['step']:08d}" / "manifest.json").is_file()
    assert read_metrics(run)[-1]["kind"] == "evaluation"
    assert read_events(run)[-1]["data"]["status"] == "finished"
    assert json.loads((run / "pricetag.json").read_text())["measured"]["time"]["wall"] >= 3.6
    assert (run / "card.md").is_file()

    again = isoflop("train", f"resume={run}", "launch.processes=1")
    assert again.returncode == 0, again.stderr
    assert "is used up" in again.stdout
    assert [record for record in read_metrics(run) if record["kind"] == "step"][-1]["step"] == last["step"]


def test_budgets_over_a_curriculum() -> None:
    """Independently: add up step by step until the budget is gone."""
    stages = ({"tokens": 20_000, "sequence_length": 64}, {"tokens": 50_000, "sequence_length": 128}, {})
    data = {"sequence_length": 256, "stages": stages}
    made = config(data=data, budget={"steps": 100})
    costs = [flops(made.at_length(made.curriculum.stage(step).sequence_length)).per_step for step in range(100)]
    for steps in (2, 9, 10, 11, 30, 60, 100):
        within = sum(costs[:steps])
        assert known_steps(config(data=data, budget={"flop": within})) == steps
        assert known_steps(config(data=data, budget={"flop": within - 1})) == steps - 1
    hours = plan(made)["time.wall"].planned
    assert hours is not None and hours.value is not None
    found = plan(config(data=data, budget={"hours": hours.value / 3600 * 1.000001}))["data.steps"].planned
    assert found is not None and found.value == 100
