"""Where the processes of a run on one host listen, and what a stranger who reaches them can do."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

STRANGER = Path(__file__).parent / "stranger.py"
FEW = ["budget.steps=3", "evaluation.every_steps=2", "checkpoint.every_steps=null"]


class Listeners:
    """The addresses at which a process and its children were ever seen to listen, over TCP and UDP."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process, self.seen = process, set[tuple[str, str]]()  # (program, address)
        self.thread = threading.Thread(target=self._watch)
        self.thread.start()

    def _watch(self) -> None:
        while self.process.poll() is None:
            with contextlib.suppress(psutil.Error):  # one that has just ended
                first = psutil.Process(self.process.pid)
                for one in [first, *first.children(recursive=True)]:
                    self._look(one)
            time.sleep(0.03)

    def _look(self, process: psutil.Process) -> None:
        with contextlib.suppress(psutil.Error):
            for one in process.net_connections("inet"):
                if one.status == psutil.CONN_LISTEN or (one.type == socket.SOCK_DGRAM and not one.raddr):
                    program = "preflight" if "launch.preflight" in process.cmdline() else "trainer"
                    self.seen.add((program, one.laddr.ip))

    def elsewhere(self) -> list[tuple[str, str]]:
        """Those that another host could reach. Call it when the process has ended."""
        self.thread.join()
        return [one for one in self.seen if not ipaddress.ip_address(one[1]).is_loopback]


def own_address() -> str | None:
    """An address of this machine that another one could reach."""
    for addresses in psutil.net_if_addrs().values():
        for one in addresses:
            if one.family == socket.AF_INET and not ipaddress.ip_address(one.address).is_loopback:
                return str(one.address)
    return None


def with_a_host_name_that_resolves(words: list[str]) -> list[str]:
    """The command on a machine whose name is its outer address: gloo listens there, unless it is told otherwise."""
    address = own_address()
    enter = ["unshare", *([] if os.geteuid() == 0 else ["--user", "--map-root-user"]), "--uts"]
    if address is None or not shutil.which("unshare") or not shutil.which("hostname"):
        return words
    if subprocess.run([*enter, "hostname", address], capture_output=True).returncode:  # not allowed here
        return words
    return [*enter, "sh", "-c", f'hostname {address} && exec "$@"', "sh", *words]


@pytest.fixture
def start(isoflop: Any, tiny: list[str]) -> Iterator[Any]:
    processes: list[subprocess.Popen[str]] = []

    def started(verb: str, *words: str) -> subprocess.Popen[str]:
        settings = [] if verb == "preflight" else [*tiny, *FEW]
        command = with_a_host_name_that_resolves(isoflop.arguments(verb, *settings, *words))
        out = open(isoflop.folder / "out.txt", "w")  # noqa: SIM115 - the process keeps it
        process = subprocess.Popen(command, cwd=isoflop.folder, stdout=out, stderr=out, text=True)
        processes.append(process)
        return process

    yield started
    for process in processes:
        process.kill()
        process.wait()


@pytest.mark.parametrize(
    ("words", "programs", "codes"),
    [
        (["train"], {"trainer"}, {0}),  # gloo also of a rank that is alone
        (["launch", "launch.processes=2", "launch.restarts=1"], {"trainer"}, {0}),
        (["preflight", "launch.processes=3", "optim.batch_size=12"], {"trainer", "preflight"}, {0, 2}),  # 2: it is slow
    ],
    ids=["1 rank", "2 ranks", "3 ranks"],
)
def test_a_run_on_one_host_listens_on_the_loopback_only(
    words: list[str], programs: set[str], codes: set[int], start: Any, isoflop: Any
) -> None:
    process = start(*words)
    listeners = Listeners(process)
    assert process.wait(600) in codes, (isoflop.folder / "out.txt").read_text()
    assert listeners.elsewhere() == []
    assert {program for program, _ in listeners.seen} == programs


def test_a_stranger_who_writes_into_the_store_runs_nothing(start: Any, isoflop: Any) -> None:
    """Another user of this host overwrites all that agent and ranks tell each other, as long as the run goes."""
    marker = isoflop.folder / "boom"
    process = start("train", "launch.processes=2", "launch.timeout_seconds=20")
    process.send_signal(signal.SIGSTOP)  # until the stranger is there
    words = [sys.executable, str(STRANGER), str(marker), str(process.pid)]
    environment = {**os.environ, "TORCH_CPP_LOG_LEVEL": "FATAL"}
    stranger = subprocess.Popen(words, stdin=-1, stdout=-1, text=True, env=environment)
    try:
        assert stranger.stdout is not None
        assert stranger.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGCONT)
        code = process.wait(600)
        written = int(stranger.communicate("")[0].split()[-1])
    finally:
        stranger.kill()
        stranger.wait()
    output = (isoflop.folder / "out.txt").read_text()
    assert written > 0
    assert not marker.exists()
    assert code in (0, 1), output
    assert "elastic" not in output, output  # no traceback of an agent
