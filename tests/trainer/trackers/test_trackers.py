"""The fan-out: who is told, and that no tracker can stop a run."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

from trainer.trackers import Trackers, make_trackers, read_events, read_metrics
from trainer.trackers.records import Event


class Recorder:
    def __init__(self, name: str = "recorder", fail: dict[str, Exception] | None = None) -> None:
        self.name, self.calls, self.fail = name, [], dict(fail or {})

    def __getattr__(self, what: str) -> Any:
        def call(*arguments: Any) -> None:
            self.calls.append(what)
            if error := self.fail.get(what):
                raise error

        return call


def drive(trackers: Trackers, context, make_step, make_evaluation, steps: int = 3) -> None:
    trackers.start(context)
    for step in range(1, steps + 1):
        trackers.step(make_step(step))
    trackers.evaluation(make_evaluation(steps))
    trackers.event(Event("stop", 1.0, steps, "stopped"))
    trackers.finish("finished", {})


def test_a_fault_in_one_tracker_is_told_once_and_stays_there(make_context, make_step, make_evaluation, capsys):
    faulty, sound = Recorder("faulty", {"step": RuntimeError("no such thing\nsecond line")}), Recorder()
    drive(Trackers([faulty, sound]), make_context(), make_step, make_evaluation)
    assert faulty.calls == ["start", "step", "finish"]  # finish: a live bar must give the terminal back
    assert sound.calls == ["start", "step", "step", "step", "evaluation", "event", "finish"]
    assert (
        capsys.readouterr().err
        == "isoflop: faulty: RuntimeError: no such thing second line; the run goes on without it\n"
    )


def test_an_oserror_is_tried_again_and_told_once(make_context, make_step, make_evaluation, capsys):
    failing = Recorder("failing", {"step": OSError(28, "No space left on device")})
    drive(Trackers([failing]), make_context(), make_step, make_evaluation)
    assert failing.calls == ["start", "step", "step", "step", "evaluation", "event", "finish"]
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 2
    assert "failing: OSError: No space left on device" in said[0]
    assert "3 records are missing" in said[1]


def test_a_closed_stderr_stops_nothing(make_context, make_step, make_evaluation, monkeypatch):
    class Closed:
        def write(self, text: str) -> int:
            raise ValueError("I/O operation on closed file")

    monkeypatch.setattr(sys, "stderr", Closed())
    faulty = Recorder("faulty", {"start": RuntimeError("x")})
    drive(Trackers([faulty]), make_context(), make_step, make_evaluation)
    assert faulty.calls == ["start", "finish"]


def test_other_ranks_say_and_write_nothing(tmp_path, make_context, make_step, make_evaluation, capsys):
    context = make_context(tracker={"wandb": "offline"})
    drive(make_trackers(context.config, tmp_path, rank=1, resumed_from=0), context, make_step, make_evaluation)
    assert list(tmp_path.iterdir()) == []
    assert capsys.readouterr() == ("", "")


def test_the_default_trackers(tmp_path, make_context, make_step, make_evaluation, capsys):
    context = make_context()
    drive(make_trackers(context.config, tmp_path, rank=0, resumed_from=0), context, make_step, make_evaluation)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["events.jsonl", "metrics.jsonl"]
    assert len(read_metrics(tmp_path)) == 4
    assert len(read_events(tmp_path)) == 1
    assert "finished after step 3" in capsys.readouterr().out


def test_the_package_imports_neither_torch_nor_wandb():
    code = "import sys, trainer.trackers; print([m for m in ('torch', 'wandb', 'deepspeed') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
