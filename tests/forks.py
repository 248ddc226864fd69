"""`isoflop` in processes that share one start-up: each is a fork of a server that has imported what takes seconds.

Nothing of the product is imported before the fork, so a command finds its own folder, environment and search path as
one that is started by itself does; only what libraries read as they are imported is the server's.
"""

from __future__ import annotations

import array
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

# For each command a byte that brings two ends of pipes, and a line of JSON; the answers are its process id, as soon as
# it is known, and its exit code. What the server itself was given by PYTHONPATH no command finds.
SERVER = """
import json, os, socket, sys
import deepspeed, hydra, numpy, sentencepiece, torch
import torch._dynamo, torch._inductor.compile_fx
import matplotlib
matplotlib.use("Agg")
import matplotlib.pyplot as plt
plt.title("fonts").figure.savefig(os.devnull, format="svg")
plt.close("all")
asked = socket.socket(fileno=int(sys.argv[1]))
lines = asked.makefile("r")
while True:
    byte, pipes, _, _ = socket.recv_fds(asked, 1, 2)
    if not byte:
        os._exit(0)
    given = json.loads(lines.readline())
    pid = os.fork()
    if pid == 0:
        for number, pipe in enumerate(pipes, 1):
            os.dup2(pipe, number)
            os.close(pipe)
        os.close(asked.detach())
        os.environ.clear()
        os.environ.update(given["environment"])
        os.chdir(given["folder"])
        sys.path[:1] = [os.getcwd(), *(one for one in os.environ.get("PYTHONPATH", "").split(os.pathsep) if one)]
        sys.argv = [given["program"], *given["words"]]
        code = 1
        try:
            from trainer.__main__ import run
            run()  # which ends this process
        except SystemExit as left:
            code = left.code
        except BaseException:
            import traceback
            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    for pipe in pipes:
        os.close(pipe)
    asked.sendall(f"{pid}\\n".encode())
    asked.sendall(f"{os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])}\\n".encode())
"""
PROGRAM = str(Path(__file__).resolve().parents[1] / "trainer" / "__main__.py")  # as `python -m trainer` names it


class Forks:
    """A server that is started with the first command; `close` ends it."""

    def __init__(self) -> None:
        self._server: subprocess.Popen[bytes] | None = None

    def run(
        self, words: list[str], folder: Path, environment: dict[str, str], timeout: float
    ) -> subprocess.CompletedProcess[str]:
        """As subprocess.run does: until the command and whoever has its output have ended; standard input is empty.

        Raises subprocess.TimeoutExpired after so many seconds, with the command killed."""
        if self._server is None:
            self._start()
        until = time.monotonic() + timeout
        pipes = [os.pipe() for _ in range(2)]
        ends = array.array("i", [there for _, there in pipes])
        self._asked.sendmsg([b"."], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, ends)])
        given = {"words": words, "folder": str(folder), "environment": environment, "program": PROGRAM}
        self._asked.sendall(f"{json.dumps(given)}\n".encode())
        for _, there in pipes:
            os.close(there)
        process = self._answer()
        try:
            out, err = _read_all([here for here, _ in pipes], until)
        except TimeoutError:
            os.kill(process, signal.SIGKILL)
            self._answer()
            raise subprocess.TimeoutExpired(words, timeout) from None
        finally:
            for here, _ in pipes:
                os.close(here)
        return subprocess.CompletedProcess(words, self._answer(), out, err)

    def close(self) -> None:
        if self._server is not None:
            self._answers.close()
            self._asked.close()
            self._server.wait()
            self._server = None

    def _start(self) -> None:
        self._asked, theirs = socket.socketpair()
        self._answers = self._asked.makefile("r")
        outside = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        self._server = subprocess.Popen(
            [sys.executable, "-c", SERVER, str(theirs.fileno())],
            env={**outside, "TORCH_CPP_LOG_LEVEL": "ERROR"},  # which launch.agent sets before it imports torch
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        theirs.close()

    def _answer(self) -> int:
        line = self._answers.readline()
        if not line:
            raise RuntimeError("the server of commands has ended")
        return int(line)


FORKS = Forks()  # of this worker


def _read_all(pipes: list[int], until: float) -> list[str]:
    """What comes out of these pipes until nobody holds their other ends. Raises TimeoutError."""
    found: dict[int, list[bytes]] = {pipe: [] for pipe in pipes}
    with selectors.DefaultSelector() as selector:
        for pipe in pipes:
            selector.register(pipe, selectors.EVENT_READ)
        while selector.get_map():
            if not (ready := selector.select(max(0.0, until - time.monotonic()))):
                raise TimeoutError
            for key, _ in ready:
                block = os.read(key.fd, 1 << 16)
                found[key.fd].append(block)
                if not block:
                    selector.unregister(key.fd)
    return [b"".join(blocks).decode().replace("\r\n", "\n").replace("\r", "\n") for blocks in found.values()]
