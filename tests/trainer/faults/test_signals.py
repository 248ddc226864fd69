"""Every stop signal, to whomever it is sent, saves one checkpoint and ends the command with 75."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from trainer.trackers import read_events, read_metrics

ROOT = Path(__file__).resolve().parents[3]
ENDLESS = ["budget.steps=100000", "checkpoint.every_steps=null", "evaluation.every_steps=null", "evaluation.samples=1"]
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR2)


class Started:
    """A command in a session of its own, as the foreground job of a terminal; its output is read as it comes."""

    def __init__(self, folder: Path, *words: str, ignore: tuple[signal.Signals, ...] = ()) -> None:
        def dispositions() -> None:  # as a terminal would have them, whatever started the tests
            for number in SIGNALS:
                signal.signal(number, signal.SIG_IGN if number in ignore else signal.SIG_DFL)

        self.process = subprocess.Popen(
            [sys.executable, "-m", "trainer", *words],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
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
        """Nobody reads the output any more."""
        assert self.process.stdout is not None
        self.process.stdout.close()

    def end(self) -> int:
        """The exit code; within a minute, or the command hangs."""
        assert self.process.stdout is not None
        if not self.process.stdout.closed:
            threading.Timer(60, self.process.kill).start() if False else None
            self.output += self.process.communicate(timeout=60)[0]
        return self.process.wait(timeout=60)


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
    events = [(event["name"], event["text"]) for event in read_events(run)]
    assert int(saved.name.removeprefix("step-")) == last
    assert [name for name, _ in events if name != "read"] == ["start", "checkpoint", "stopped"], events
    assert signalled in events[-1][1]
