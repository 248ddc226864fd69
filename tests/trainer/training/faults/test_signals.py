"""Every stop signal, to whomever it is sent, saves one checkpoint and ends the command with 75."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.ports import free_port
from trainer.trackers import read_events, read_metrics

QUIET = ("read", "spike", "verified")  # events that say nothing of how a run ends
ROOT = Path(__file__).resolve().parents[4]
ENDLESS = ["budget.steps=100000", "checkpoint.every_steps=null", "evaluation.every_steps=null", "evaluation.samples=1"]
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR2)


class Started:
    """A command in a session of its own, as the foreground job of a terminal; its output is read as it comes."""

    def __init__(
        self,
        folder: Path,
        *words: str,
        program: tuple[str, ...] = ("-m", "trainer"),
        ignore: tuple[signal.Signals, ...] = (),
        **environment: str,
    ) -> None:
        def dispositions() -> None:  # as a terminal would have them, whatever started the tests
            for number in SIGNALS:
                signal.signal(number, signal.SIG_IGN if number in ignore else signal.SIG_DFL)

        self.process = subprocess.Popen(
            [sys.executable, *program, *words],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            preexec_fn=dispositions,
        )
        self.output = ""

    def wait_for(self, text: str) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.output += line
            if text in line:
                return
        pytest.fail(f"never said {text!r}:\n{self.output}")

    def signal(self, number: signal.Signals, to: str = "launcher") -> None:
        if to == "group":
            os.killpg(self.process.pid, number)
        else:
            os.kill(self.process.pid if to == "launcher" else self.ranks()[-1], number)

    def ranks(self) -> list[int]:
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return [int(pid) for pid in children.split()]

    def hang_up(self) -> None:
        """The output has no reader any more."""
        assert self.process.stdout is not None
        self.process.stdout.close()

    def end(self) -> int:
        """The exit code; a command that hangs fails the test."""
        assert self.process.stdout is not None
        if not self.process.stdout.closed:
            self.output += self.process.communicate(timeout=300)[0]
        return self.process.wait(timeout=300)


@contextlib.contextmanager
def started(*arguments: Any, **options: Any) -> Iterator[Started]:
    one = Started(*arguments, **options)
    try:
        yield one
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(one.process.pid, signal.SIGKILL)
        one.process.wait()


def assert_saved(run: Path, signalled: str) -> None:
    """One checkpoint of the last step that was made, the stop told, and nothing started again."""
    (saved,) = (run / "checkpoints").glob("step-*")
    last = max(record["step"] for record in read_metrics(run) if record["kind"] == "step")
    events = [(event["name"], event["text"]) for event in read_events(run) if event["name"] not in QUIET]
    assert int(saved.name.removeprefix("step-")) == last
    assert [name for name, _ in events] == ["start", "checkpoint", "stopped"], events
    assert events[-1][1] in (f"stopped: {signalled}", "stopped: another rank was asked to stop")


@pytest.fixture
def endless(tiny: list[str]) -> list[str]:
    return [*tiny, *ENDLESS, "run.experiment=signals", "run.id=run"]


RUN = Path("runs/signals/run")


def test_a_terminal_that_closes_stops_one_rank(endless: list[str], tmp_path: Path) -> None:
    """HUP to the group, and nothing can be written to the terminal any more."""
    with started(tmp_path, "train", *endless) as run:
        run.wait_for("step 3/")
        run.hang_up()
        run.signal(signal.SIGHUP, "group")
        assert run.end() == 75
    assert_saved(tmp_path / RUN, "SIGHUP")


def test_several_signals_in_a_row_are_one_request(endless: list[str], tmp_path: Path) -> None:
    """A session's end: HUP from the kernel and from the shell, then TERM and CONT, each to the whole group. The ranks
    share one checkpoint and none is started again."""
    with started(tmp_path, "train", *endless, "launch.processes=2", "launch.restarts=2") as run:
        run.wait_for("step 3/")
        for number in (signal.SIGHUP, signal.SIGHUP, signal.SIGTERM, signal.SIGCONT, signal.SIGTERM):
            with contextlib.suppress(ProcessLookupError):
                run.signal(number, "group")
            time.sleep(0.3)
        assert run.end() == 75
    assert re.search("go on with: .*isoflop train resume=", run.output)
    assert_saved(tmp_path / RUN, "SIGHUP")


def test_under_nohup_a_hang_up_is_ignored_and_quit_is_not(endless: list[str], tmp_path: Path) -> None:
    """Also by the ranks: QUIT to one of them stops all."""
    with started(tmp_path, "train", *endless, "launch.processes=2", ignore=(signal.SIGHUP,)) as run:
        run.wait_for("step 3/")
        run.signal(signal.SIGHUP, "group")
        for rank in run.ranks():
            os.kill(rank, signal.SIGHUP)
        run.wait_for("step 40/")
        run.signal(signal.SIGQUIT, "rank")
        assert run.end() == 75
    assert_saved(tmp_path / RUN, "SIGQUIT")


@pytest.mark.parametrize(("processes", "number"), [(1, signal.SIGHUP), (2, signal.SIGTERM)])
def test_a_signal_before_the_first_step(
    processes: int, number: signal.Signals, endless: list[str], tmp_path: Path
) -> None:
    """The folder is frozen, so the run can go on."""
    with started(tmp_path, "train", *endless, f"launch.processes={processes}") as run:
        run.wait_for(str(tmp_path / RUN))
        run.signal(number, "group")
        assert run.end() == 75
    assert re.search(f"go on with: .*isoflop train resume={tmp_path / RUN}", run.output)
    assert "Traceback" not in run.output
    assert not list((tmp_path / RUN).rglob("*.partial"))


def test_a_signal_while_the_corpus_is_read(endless: list[str], corpus: Path, tmp_path: Path) -> None:
    text = (corpus / "d000.txt").read_text()
    (tmp_path / "long.txt").write_text("\n\n".join([text] * 8000))
    words = [f"data.path={tmp_path}/long.txt", "data.document=paragraph", "data.deduplicate=false"]
    with started(tmp_path, "train", *endless, *words, f"run.cache={tmp_path}/cache") as run:
        run.wait_for("reading corpus ...")
        run.signal(signal.SIGQUIT)
        assert run.end() == 128 + signal.SIGQUIT
    assert run.output.splitlines()[-1] == "isoflop: interrupted by SIGQUIT"
    assert "Traceback" not in run.output
    assert {one.name for one in (tmp_path / "runs").iterdir()} == {"costs"}  # no run, and what was spent
    assert {path.suffix for path in (tmp_path / "cache").rglob("*") if path.is_file()} <= {".lock"}


# Stands in for ssh: every host is this one, after a while; what runs there is in a session of its own.
SSH = """#!/bin/bash
while [ "$1" = -o ]; do shift 2; done
[ "$1" = -- ] || exit 9
sleep 0.5
setsid --wait bash -c "${*:3}"
"""


@pytest.mark.parametrize("moment", ["a: up", "b is next"])
def test_a_hang_up_is_passed_on_over_ssh(moment: str, tmp_path: Path) -> None:
    """Also where it reaches the whole group, which would end ssh itself, before a host has answered, and before it was
    asked."""
    (tmp_path / "ssh").write_text(SSH)
    (tmp_path / "ssh").chmod(0o755)
    program = """
import sys, time
from launch import nodes
from launch.nodes import start_over_ssh
from launch.plan import Command, LaunchPlan
from trainer.compose import compose
config = compose(["launch=torchrun", "launch.nodes=2", "launch.hosts=[a,b]", "launch.ssh=true"])
agent = "trap 'echo saved; exit 75' HUP; echo up; while :; do sleep 0.1; done"
class Slow(nodes._Node):
    def __init__(self, ssh, command, exports):
        if sys.argv[1] == "b is next" and command.host == "b":
            print(sys.argv[1], flush=True)
            time.sleep(1.5)
        super().__init__(ssh, command, exports)
nodes._Node = Slow
sys.exit(start_over_ssh(LaunchPlan(tuple(Command((agent,), host) for host in "ab")), config.launch))
"""
    path = f"{tmp_path}:{os.environ['PATH']}"
    with started(tmp_path, moment, program=("-c", program), PATH=path) as run:
        run.wait_for(moment)
        run.signal(signal.SIGHUP, "group")
        assert run.end() == 75
    assert {"a: saved", "b: saved"} <= set(run.output.splitlines())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_while_a_node_waits_for_the_first_one(number: signal.Signals, tmp_path: Path) -> None:
    """Native code connects for ten minutes and lets no Python run, which would be deaf."""
    program = """
import sys
from launch.agent import Rendezvous, run_agent
from pathlib import Path
from trainer.compose import compose
from trainer.training.faults.signals import interrupt_on_signals, interrupted
interrupt_on_signals()
config = compose(["launch=torchrun", "launch.nodes=2", "launch.hosts=[127.0.0.1,b]"])
import torch.distributed.launcher.api
print("ready", flush=True)
try:
    run_agent(config, Path.cwd(), Rendezvous("127.0.0.1", int(sys.argv[1]), node=1))
except KeyboardInterrupt as error:
    sys.exit(75)
"""
    with started(tmp_path, str(free_port()), program=("-c", program), ISOFLOP_RENDEZVOUS_SECRET="s" * 64) as node:
        node.wait_for("ready")
        time.sleep(1)
        node.signal(number)
        assert node.end() == 75
    assert "Traceback" not in node.output


# --- every signal, to everybody, at every number of ranks ----------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2, 3])
@pytest.mark.parametrize("to", ["launcher", "group", "rank"])
@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
def test_every_signal(number: signal.Signals, to: str, processes: int, endless: list[str], tmp_path: Path) -> None:
    with started(tmp_path, "train", *endless, f"launch.processes={processes}") as run:
        run.wait_for("step 3/")
        run.signal(number, to if processes > 1 or to != "rank" else "launcher")
        assert run.end() == 75
    assert_saved(tmp_path / RUN, number.name)


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize("during", ["evaluation", "save"])
def test_what_is_under_way_is_completed(during: str, processes: int, endless: list[str], tmp_path: Path) -> None:
    often = {"evaluation": "evaluation.every_steps=3", "save": "checkpoint.every_steps=3"}[during]
    words = [often, "evaluation.samples=null", "model.width=256", "model.depth=4", f"launch.processes={processes}"]
    with started(tmp_path, "train", *endless, *words) as run:
        run.wait_for("step 3/")
        run.signal(signal.SIGHUP, "group")
        assert run.end() == 75
    folder = tmp_path / RUN
    steps = {int(saved.name.removeprefix("step-")) for saved in (folder / "checkpoints").glob("step-*")}
    assert max(record["step"] for record in read_metrics(folder) if record["kind"] == "step") in steps
    assert not list((folder / "checkpoints").glob(".*.partial"))
    if during == "evaluation":
        assert 3 in [record["step"] for record in read_metrics(folder) if record["kind"] == "evaluation"]
    else:
        assert 3 in steps


@pytest.mark.slow
@pytest.mark.parametrize("verb", ["train", "launch", "sweep"])
def test_of_many_runs_the_one_at_work_saves_and_the_others_are_not_started(
    verb: str, tiny: list[str], tmp_path: Path
) -> None:
    words = [*tiny, *ENDLESS, "run.experiment=many", "run.id=a,b" if verb != "sweep" else "seed=0,1"]
    with started(tmp_path, verb, *(["-m"] if verb != "sweep" else ["--yes"]), *words) as run:
        deadline = time.monotonic() + 300
        while not (found := list(tmp_path.glob("runs/many/*/metrics.jsonl"))):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        run.signal(signal.SIGHUP, "group")
        assert run.end() == 75
    assert "isoflop: stopped" in run.output
    assert_saved(found[0].parent, "SIGTERM")
    assert len(list(tmp_path.glob("runs/many/*/events.jsonl"))) == 1
