"""Two hosts, each a network namespace, with a cable between them that can be cut."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from trainer.trackers import read_metrics

pytestmark = pytest.mark.slurm

NAMES = ("isoflop-a", "isoflop-b")
ADDRESSES = ("10.213.77.1", "10.213.77.2")  # within our own namespaces
INTERFACE = "cable"
STRANGER = Path(__file__).parent / "stranger.py"
HOSTS = [
    "launch=torchrun",
    "launch.nodes=2",
    f"launch.hosts=[{','.join(ADDRESSES)}]",
    "launch.ssh=true",
    "launch.preflight=false",
    f"launch.environment.GLOO_SOCKET_IFNAME={INTERFACE}",
    f"launch.environment.TP_SOCKET_IFNAME={INTERFACE}",
]
# Stands in for ssh: the "host" is the namespace with that address.
SSH = f"""#!/bin/bash
while [ "$1" = -o ]; do shift 2; done
[ "$1" = -- ] && shift
declare -A names=([{ADDRESSES[0]}]={NAMES[0]} [{ADDRESSES[1]}]={NAMES[1]})
exec ip netns exec "${{names[$1]}}" bash -c "${{*:2}}"
"""
SLOW = """
import os, time
if os.environ.get("TORCHELASTIC_RESTART_COUNT") == "0":
    import trainer.training.lr_schedule as schedule
    quick = schedule.learning_rate
    def slow(*arguments):
        time.sleep(1)
        return quick(*arguments)
    schedule.learning_rate = slow
"""


class Hosts:
    """Both namespaces, and `isoflop launch` that reaches them."""

    def __init__(self, isoflop: Any, tiny: list[str]) -> None:
        self.isoflop, self.tiny = isoflop, tiny
        programs = isoflop.folder / "bin"
        programs.mkdir()
        (programs / "ssh").write_text(SSH)
        (programs / "ssh").chmod(0o755)
        (programs / "sitecustomize.py").write_text(SLOW)
        self.quiet = {**os.environ, "TORCH_CPP_LOG_LEVEL": "FATAL"}
        self.environment = {
            **os.environ,
            "PATH": f"{programs}:{os.environ['PATH']}",
            "PYTHONPATH": str(programs),
        }

    def start(self, name: str, *words: str) -> subprocess.Popen[str]:
        out = open(self.isoflop.folder / f"{name}.txt", "w")  # noqa: SIM115 - the process keeps it
        arguments = self.isoflop.arguments("launch", *self.tiny, *HOSTS, f"run.id={name}", *words)
        return subprocess.Popen(
            arguments, cwd=self.isoflop.folder, env=self.environment, stdout=out, stderr=out, text=True
        )

    def output(self, name: str) -> str:
        return (self.isoflop.folder / f"{name}.txt").read_text()

    def losses(self, name: str) -> dict[int, float]:
        run = self.isoflop.folder / "runs" / "llama-mini-causal-text" / name
        return {one["step"]: one["loss"] for one in read_metrics(run) if one["kind"] == "step"} if run.exists() else {}

    def cable(self, state: str) -> None:
        ip("-n", NAMES[0], "link", "set", INTERFACE, state)


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)


@pytest.fixture
def hosts(isoflop: Any, tiny: list[str]) -> Iterator[Hosts]:
    if os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("network namespaces need root and iproute2 (scripts/setup-slurm installs it)")
    made = []
    try:
        for name in NAMES:
            done = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True)
            if done.returncode:
                pytest.skip(f"this host lets nobody make network namespaces ({done.stderr.strip()})")
            made.append(name)
        ip("link", "add", INTERFACE, "netns", NAMES[0], "type", "veth", "peer", "name", INTERFACE, "netns", NAMES[1])
        for name, address in zip(NAMES, ADDRESSES, strict=True):
            ip("-n", name, "address", "add", f"{address}/24", "dev", INTERFACE)
            for link in ("lo", INTERFACE):
                ip("-n", name, "link", "set", link, "up")
        yield Hosts(isoflop, tiny)
    finally:
        for name in made:
            subprocess.run(["ip", "netns", "delete", name], check=True)


def test_a_cable_cut_in_mid_step(hosts: Hosts, isoflop: Any, tiny: list[str]) -> None:
    """Both sides notice within the time-out of a collective; when the cable is back they go on, to the same end."""
    timeout = 10
    process = hosts.start(
        "cut", f"launch.timeout_seconds={timeout}", "launch.restarts=2", "launch.rendezvous_seconds=90"
    )
    try:
        wait_for(lambda: 5 in hosts.losses("cut"), 180, lambda: hosts.output("cut"))
        hosts.cable("down")
        began = time.monotonic()
        logs = isoflop.folder / "runs" / "llama-mini-causal-text" / "cut" / "logs"
        wait_for(lambda: b"imed out" in texts(logs), timeout + 20, lambda: hosts.output("cut"))
        assert time.monotonic() - began < timeout + 20
        reached = max(hosts.losses("cut"))
        assert 5 <= reached < 12
        hosts.cable("up")
        assert process.wait(240) == 0, hosts.output("cut")
    finally:
        process.kill()
        process.wait()
    here = isoflop("train", *tiny, "run.id=here", "launch.processes=2")
    assert here.returncode == 0, here.stderr
    assert hosts.losses("cut") == hosts.losses("here")
    events = (isoflop.folder / "runs" / "llama-mini-causal-text" / "cut" / "events.jsonl").read_text()
    assert '"resume"' in events
    assert f"{ADDRESSES[0]}: " in hosts.output("cut")


def test_term_saves_on_all_hosts(hosts: Hosts) -> None:
    process = hosts.start("stopped", "checkpoint.every_steps=null")
    try:
        wait_for(lambda: 2 in hosts.losses("stopped"), 180, lambda: hosts.output("stopped"))
        process.terminate()
        assert process.wait(120) == 75, hosts.output("stopped")
    finally:
        process.kill()
        process.wait()
    run = hosts.isoflop.folder / "runs" / "llama-mini-causal-text" / "stopped"
    assert len(list((run / "checkpoints").glob("step-*"))) == 1


def test_a_host_that_is_not_there(hosts: Hosts) -> None:
    hosts.cable("down")
    process = hosts.start("alone", "launch.rendezvous_seconds=5")
    assert process.wait(180) == 2, hosts.output("alone")
    lines = [line for line in hosts.output("alone").splitlines() if "isoflop: " in line]
    assert f"{ADDRESSES[1]}: isoflop: launch.hosts: no rendezvous at {ADDRESSES[0]}:29500 within 5 s" in "\n".join(
        lines
    )
    assert "fewer than 2 nodes came" in "\n".join(lines)
    assert "Traceback" not in hosts.output("alone")


def test_hosts_listen_on_the_cable_only(hosts: Hosts) -> None:
    """Whatever listens in these namespaces is of the run; before it there is nothing."""
    process, seen = hosts.start("quiet"), set[str]()
    try:
        while process.poll() is None:
            seen |= {address for name in NAMES for address in listening(name)}
            time.sleep(0.05)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0, hosts.output("quiet")
    assert {*ADDRESSES} <= seen
    assert seen <= {*ADDRESSES, "127.0.0.1"}


@pytest.mark.parametrize("reached", [0, 3], ids=["early", "late"])
def test_a_stranger_on_the_network_ends_the_run_and_runs_nothing(hosts: Hosts, reached: int) -> None:
    """He overwrites all that the agents tell each other, from the beginning or once the run goes."""
    marker = hosts.isoflop.folder / "boom"
    words = ["ip", "netns", "exec", NAMES[1], sys.executable, str(STRANGER), str(marker), f"{ADDRESSES[0]}:29500"]
    process = hosts.start("attacked", "launch.rendezvous_seconds=30", "launch.timeout_seconds=10")
    stranger = None
    try:
        if reached:
            wait_for(lambda: reached in hosts.losses("attacked"), 180, lambda: hosts.output("attacked"))
        stranger = subprocess.Popen(words, stdin=-1, stdout=-1, text=True, env=hosts.quiet)
        code = process.wait(240)
        written = int(stranger.communicate("")[0].split()[-1])
    finally:
        for one in filter(None, (process, stranger)):
            one.kill()
            one.wait()
    assert written > 0
    assert not marker.exists()
    assert code == 2, hosts.output("attacked")
    for address in ADDRESSES:
        said = [line for line in hosts.output("attacked").splitlines() if line.startswith(f"{address}: isoflop:")]
        assert len(said) == 1, hosts.output("attacked")
    assert "somebody else" in hosts.output("attacked")
    assert "Traceback" not in hosts.output("attacked")


def listening(name: str) -> list[str]:
    """The addresses on which programs in a namespace listen."""
    done = subprocess.run(["ip", "netns", "exec", name, "ss", "-Hltn"], capture_output=True, text=True, check=True)
    return [line.split()[3].rpartition(":")[0] for line in done.stdout.splitlines()]


def texts(folder: Path) -> bytes:
    return b"".join(file.read_bytes() for file in folder.rglob("*") if file.is_file())


def wait_for(ready: Any, seconds: float, tell: Any) -> None:
    deadline = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < deadline, tell()
        time.sleep(0.2)
