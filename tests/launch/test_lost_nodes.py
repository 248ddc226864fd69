"""Nodes of torchrun that are lost, for good or for a while: loopback addresses stand for hosts."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from launch.nodes import outcome
from launch.secret import VARIABLE
from tests.ports import free_port
from tests.trainer.training.faults.history import losses, samples_expected, samples_read
from trainer.books.layout import micro_batch, micro_batches
from trainer.compose import compose
from trainer.trackers import read_events
from trainer.utils.errors import UserError
from trainer.utils.outcomes import DONE, FAILED, HALTED, STOPPED
from trainer.worker import as_found

ROOT = Path(__file__).resolve().parents[2]
STEPS = 12
MIXTURE = ["model.experts.count=4", "model.ffn_width=32"]
ULYSSES = ["engine.sequence_parallel=2"]
EXPERTS = [*MIXTURE, "engine.expert_parallel=2"]
# Stands in for ssh: every host is this one.
SSH = """#!/bin/bash
while [ "$1" = -o ]; do shift 2; done
sed -u "s/-m launch.agent/-m tests.launch.faulty_agent/" | bash -s
"""


def environment(faults: list[dict[str, Any]], **more: str) -> dict[str, str]:
    secret = {VARIABLE: "a secret that all nodes of these tests share"}
    return {**os.environ, "PYTHONPATH": str(ROOT), "ISOFLOP_TEST_FAULTS": json.dumps(faults), **secret, **more}


def over(hosts: list[str], least: int) -> list[str]:
    """A run on these hosts, which goes on with as few as `least`."""
    words = ["launch=torchrun", f"launch.nodes={len(hosts)}", f"launch.hosts=[{','.join(hosts)}]"]
    return [*words, f"launch.min_nodes={least}", f"launch.port={free_port()}", "run.experiment=nodes", "run.id=run"]


class Pasted:
    """The commands that a launch over two hosts prints, each pasted on its host."""

    def __init__(self, isoflop: Any, words: list[str], faults: list[dict[str, Any]], least: int = 1) -> None:
        self.folder, self.faults = isoflop.folder, faults
        done = isoflop("launch", *words, *over(["127.0.0.2", "127.0.0.3"], least))
        assert done.returncode == 0, done.stderr
        self.said = done.stderr
        self.commands = [line for line in done.stdout.splitlines() if line.startswith("bash -c ")]
        self.run = isoflop.folder / "runs" / "nodes" / "run"
        self.processes: list[subprocess.Popen[bytes]] = []

    def start(self, node: int) -> subprocess.Popen[bytes]:
        text = self.commands[node].replace("-m launch.agent", "-m tests.launch.faulty_agent")
        with open(self.folder / f"node-{node}.txt", "ab") as out:
            words = ["bash", "-c", f"exec {text}"]
            process = subprocess.Popen(words, env=environment(self.faults), stdout=out, stderr=out, cwd=self.folder)
        self.processes.append(process)
        return process

    def output(self, node: int) -> str:
        return (self.folder / f"node-{node}.txt").read_text()

    def stop(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait()


def check_history(run: Path, isoflop: Any, tiny: list[str], *, whole: bool = True) -> None:
    """Every sample was read once, and the losses are those of a run that lost nothing, on one rank. whole: ranks read
    whole samples, and no parts of those that they share."""
    assert not whole or samples_read(run, STEPS) == samples_expected(run, STEPS)
    done = isoflop("train", *tiny, "run.experiment=nodes", "run.id=undisturbed")
    assert done.returncode == 0, done.stderr
    undisturbed = losses(run.parent / "undisturbed")
    assert sorted(undisturbed) == list(range(1, STEPS + 1))
    assert losses(run) == pytest.approx(undisturbed, rel=1e-5)


def ranks(run: Path) -> list[int]:
    """On how many ranks each attempt trained."""
    texts = [event["text"] for event in read_events(run) if event["name"] in ("start", "resume")]
    return [int(re.findall(r"on (\d+) rank", text)[0]) for text in texts]


@pytest.mark.slow
def test_the_rest_goes_on_without_a_node(isoflop: Any, tiny: list[str]) -> None:
    """Three nodes; the one with the first rank dies: ranks go by the text of addresses, and ...10 is before ...2."""
    programs = isoflop.folder / "bin"
    programs.mkdir()
    (programs / "ssh").write_text(SSH)
    (programs / "ssh").chmod(0o755)
    words = [*tiny, *over(["127.0.0.2", "127.0.0.10", "127.0.0.3"], 1), "launch.ssh=true", "launch.preflight=false"]
    done = subprocess.run(
        isoflop.arguments("launch", *words),
        cwd=isoflop.folder,
        env=environment([{"kind": "agent", "rank": 0, "step": 6}], PATH=f"{programs}:{os.environ['PATH']}"),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr  # also where a host's own exit code is that of kill -9
    run = isoflop.folder / "runs" / "nodes" / "run"
    assert ranks(run) == [3, 2]
    assert "127.0.0.2: report " in done.stdout
    check_history(run, isoflop, tiny)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("processes", "layout"),
    [
        pytest.param(1, [], id="one"),
        pytest.param(2, ["engine.zero_stage=3", "engine.partition=node"], id="partition"),
        pytest.param(2, ["engine.zero_stage=1", *ULYSSES], id="sequence"),
        pytest.param(2, ["engine.zero_stage=2", *EXPERTS], id="experts"),
    ],
)
def test_a_node_that_comes_back_takes_part_again(
    processes: int, layout: list[str], isoflop: Any, tiny: list[str]
) -> None:
    """Two nodes, then one, then two; whoever was left saves before it is started again."""
    loses = {"kind": "agent", "rank": processes, "step": 6}
    slow = [{"kind": "slow", "rank": 0, "step": step, "seconds": 2} for step in range(7, STEPS)]
    nodes = Pasted(isoflop, [*tiny, f"launch.processes={processes}", *layout], [loses, *slow])
    try:
        first, second = nodes.start(0), nodes.start(1)
        assert second.wait(120) == -signal.SIGKILL
        wait_for(lambda: len(ranks(nodes.run)) == 2, 120)
        back = nodes.start(1)
        assert (first.wait(180), back.wait(180)) == (0, 0), nodes.output(0) + nodes.output(1)
    finally:
        nodes.stop()
    assert ranks(nodes.run) == [2 * processes, processes, 2 * processes]
    assert [event["name"] for event in read_events(nodes.run)].count("stopped") == 1
    assert nodes.output(1) == ""  # its ranks are not the first one, and nothing warns
    science = [word for word in layout if word.startswith("model.")]
    check_history(nodes.run, isoflop, [*tiny, *science], whole=not set(ULYSSES) & set(layout))


@pytest.mark.parametrize("layout", [["engine.sequence_parallel=4"], [*MIXTURE, "engine.expert_parallel=4"]])
def test_a_lost_node_would_tear_such_groups(layout: list[str]) -> None:
    key, _ = layout[-1].split("=")
    with pytest.raises(
        UserError, match=rf"^launch.min_nodes: {key} has groups of 2 nodes, which a lost one would tear"
    ):
        compose([*over(["a", "b"], 1), "launch.processes=2", *layout])


@pytest.mark.slow
def test_the_first_host_is_where_the_others_meet(isoflop: Any, tiny: list[str]) -> None:
    words = [*tiny, "launch.preflight=false", "launch.rendezvous_seconds=20"]
    nodes = Pasted(isoflop, words, [{"kind": "agent", "rank": 0, "step": 2}])
    try:
        first, second = nodes.start(0), nodes.start(1)
        assert (first.wait(120), second.wait(120)) == (-signal.SIGKILL, 2)
    finally:
        nodes.stop()
    (line,) = nodes.output(1).splitlines()
    assert line.startswith("isoflop: launch.hosts: no rendezvous at 127.0.0.2:")
    assert line.endswith("or that host is gone")


def wait_for(ready: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_fewer_ranks_share_the_same_batch_and_compute_no_more_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    config = compose([*over(["a", "b", "c", "d"], 1), "optim.batch_size=32"])
    assert (micro_batch(config), micro_batches(config)) == (8, 1)
    monkeypatch.setenv("WORLD_SIZE", "3")
    found = as_found(config)
    assert (found.launch.nodes, found.optim.batch_size) == (3, 32)
    assert (micro_batch(found), micro_batches(found)) == (8, 2)


@pytest.mark.parametrize(
    ("codes", "least", "code"),
    [
        ([DONE, DONE], 2, DONE),
        ([DONE, FAILED], 2, FAILED),
        ([DONE, FAILED], 1, DONE),  # one was lost for good, and the rest has finished
        ([STOPPED, FAILED, STOPPED], 2, STOPPED),
        ([HALTED, HALTED, FAILED], 2, HALTED),
        ([FAILED, STOPPED, FAILED], 2, FAILED),
        ([STOPPED, 2], 2, STOPPED),
    ],
)
def test_how_a_run_over_ssh_ended(codes: list[int], least: int, code: int) -> None:
    assert outcome(codes, least) == code
