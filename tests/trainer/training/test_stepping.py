"""A step's loss and norm are read late where no policy needs them, and nothing but the waiting differs for it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from trainer.config import Config
from trainer.training.state import TrainState
from trainer.training.step_values import reasons_to_wait
from trainer.training.stepping import Stepping

PROBE = Path(__file__).with_name("stepping_probe.py")
ROOT = PROBE.parents[3]
STAGES = [0, pytest.param(1, marks=pytest.mark.slow), pytest.param(2, marks=pytest.mark.slow)]


TWO_RANKS = [(0, 2), pytest.param(2, 2, marks=pytest.mark.slow)]
Found = dict[str, list[dict[str, Any]]]  # by case: where values are read at once, and where they are read late


@cache
def ranks(stage: int, processes: int) -> list[Found]:
    """What each rank found."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    start = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"] if processes > 1 else []
    words = [sys.executable, *start, str(PROBE), str(stage)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=300, env=environment)
    line = next((line for line in done.stdout.splitlines() if line.startswith("[{")), None)
    assert line is not None, done.stderr
    found: list[Found] = json.loads(line)
    return found


def probed(stage: int) -> Found:
    return ranks(stage, 1)[0]


@pytest.mark.parametrize("stage", STAGES)
def test_the_run_is_the_same_to_the_bit(stage: int) -> None:
    """Weights, states, averages, records in order, events, batches left out, the end: also through faults."""
    for name, (at_once, late) in probed(stage).items():
        for part in ("digest", "records", "events", "holes", "outcome", "broken"):
            if (name, part) != ("broken", "digest"):  # averages of a step whose run broke are of no use to anybody
                assert at_once[part] == late[part], (name, part)


@pytest.mark.parametrize("stage", STAGES)
def test_nothing_waits_for_the_device(stage: int) -> None:
    for name, both in probed(stage).items():
        assert [found["waits"] for found in both] == [0, 0], name


def test_values_are_read_behind_the_next_passes() -> None:
    at_once, late = probed(0)["healthy"]
    assert at_once["order"] == [word for step in range(6) for word in (f"passes of {step}", "read", "update")]
    later = [word for step in range(1, 6) for word in (f"passes of {step}", "read", "update")]
    assert late["order"] == ["passes of 0", "update", *later, "read"]


def test_a_policy_that_needs_them_is_given_them() -> None:
    at_once, late = probed(0)["a policy on spikes"]
    assert late["order"] == at_once["order"]


def test_cases_are_what_they_are_called() -> None:
    found = {name: late for name, (_, late) in probed(0).items()}
    assert found["healthy"]["digest"] == found["a fault of the machine"]["digest"] != found["skip"]["digest"]
    assert [one[0] for one in found["broken"]["records"]] == [1, 2, 3, 4]
    assert found["a fault of the machine"]["events"] == [["transient", 2, 2], ["read", 6]]
    assert found["stop"]["outcome"] == ["halted", 3]
    assert found["skip"]["holes"] == [[3, 4]] and found["rollback"]["holes"] == [[0, 4]]


@pytest.mark.parametrize(("stage", "processes"), TWO_RANKS)
def test_ranks_tell_the_same_late_as_at_once(stage: int, processes: int) -> None:
    """Also where one rank alone has gradients that are not finite, and where the run halts or breaks."""
    for of_rank in ranks(stage, processes):
        for name, (at_once, late) in of_rank.items():
            for part in ("digest", "records", "events", "holes", "outcome", "broken"):
                if (name, part) != ("broken", "digest"):
                    assert at_once[part] == late[part], (name, part)


@pytest.mark.parametrize(("stage", "processes"), TWO_RANKS)
def test_two_ranks_tell_what_one_does(stage: int, processes: int) -> None:
    """The same steps, batches left out and ends; loss and norm but for the order of sums."""
    for of_rank in ranks(stage, processes):
        for name, (_, one) in probed(0).items():
            several = of_rank[name][1]
            for part in ("events", "holes", "outcome", "broken"):
                assert several[part] == one[part], (name, part)
            assert len(several["records"]) == len(one["records"]), name
            for (step, loss, norm, *rest), (step_1, loss_1, norm_1, *rest_1) in zip(
                several["records"], one["records"], strict=True
            ):
                assert [step, *rest] == [step_1, *rest_1], name
                assert [float(loss), float(norm)] == pytest.approx([float(loss_1), float(norm_1)], rel=1e-5), name


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"anomalies": {"spike": "skip"}}, "anomalies.spike=skip"),
        ({"optim": {"name": "lion"}}, "optim.name=lion"),
        ({"engine": {"zero_stage": 3}}, "engine.zero_stage=3"),
        ({"engine": {"zero_stage": 1, "offload_optimizer": True}}, "engine.offload_optimizer=true"),
        ({"debug": {"first_nonfinite": True}}, "debug.first_nonfinite=true"),
        ({"model": {"experts": {"count": 4}}}, "model.experts"),
    ],
)
def test_who_waits_is_said_by_its_key(settings: dict[str, Any], key: str) -> None:
    assert [reason.startswith(key) for reason in reasons_to_wait(Config.model_validate(settings))] == [True]


@pytest.mark.parametrize(
    ("device", "spike", "late", "told"),
    [("cuda", "ignore", True, 0), ("cuda", "stop", False, 1), ("cpu", "ignore", False, 0), ("cpu", "stop", False, 0)],
)
def test_a_gpu_reads_late_or_says_why_not(device: str, spike: str, late: bool, told: int) -> None:
    """A CPU has computed everything when a call returns: there is nothing to wait for, and nothing to say."""
    events: list[str] = []
    metrics = SimpleNamespace(event=lambda name, step, text, **_: events.append(text))
    engine = SimpleNamespace(device=torch.device(device))
    config = Config.model_validate({"anomalies": {"spike": spike}})
    run: Any = SimpleNamespace(config=config, engine=engine, guard=None, metrics=metrics, state=TrainState())
    stepping = Stepping(run, lambda name: None)
    stepping.tell()
    assert stepping.late is late and len(events) == told
    assert all("anomalies.spike=stop" in text for text in events)


def test_the_default_waits_for_nothing() -> None:
    for nonfinite in ("stop", "skip", "rollback"):
        assert reasons_to_wait(Config.model_validate({"anomalies": {"nonfinite": nonfinite}})) == []


def test_who_is_interrupted_while_it_reads_records_the_step_all_the_same() -> None:
    """The host spends its time in that wait, so that is where an interruption finds it."""
    told: list[int] = []
    metrics, config = SimpleNamespace(step_ended=told.append), Config()
    guard = SimpleNamespace(judge=lambda *_, **__: None)
    run: Any = SimpleNamespace(
        config=config, engine=SimpleNamespace(device=torch.device("cuda")), guard=guard, metrics=metrics
    )
    stepping: Any = Stepping(run, lambda name: None)
    stepping._result = lambda update, found: update.step
    waits = iter([KeyboardInterrupt()])

    def read() -> None:
        for error in waits:
            raise error

    stepping._unread = SimpleNamespace(step=3, values=SimpleNamespace(read=read))
    with pytest.raises(KeyboardInterrupt), stepping.recording_when_broken():
        stepping.settle()
    assert told == [3]
