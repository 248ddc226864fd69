"""Ctrl-C at any moment of any verb is one line and the documented exit code."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from trainer.training.faults.signals import STOP_SIGNALS
from trainer.utils.outcomes import STOPPED

ROOT = Path(__file__).resolve().parents[4]

# Stands in for the terminal: the signal comes when the command has begun to import so many modules, or one of a name.
AT_AN_IMPORT = """
import os, signal, sys
place, number = sys.argv.pop(1), int(sys.argv.pop(1))
seen = float("-inf")

def press(event, arguments):
    global seen
    if event != "import":
        return
    seen += 1
    if place in (str(seen), arguments[0]):
        seen = float("-inf")  # once
        signal.raise_signal(number)

sys.addaudithook(press)
from trainer.__main__ import run
seen = 0  # before that, Python itself starts
run()
"""


def listening() -> None:
    """As a terminal has the signals, whatever started the tests."""
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_DFL)


def python(program: str, *words: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", program, *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        timeout=120,
        preexec_fn=listening,
    )


@pytest.mark.parametrize(
    "module", ["trainer.training.faults", "trainer.cli.main", "trainer.config.science", "hydra.core.override_parser"]
)
def test_ctrl_c_while_modules_are_imported(module: str, tmp_path: Path) -> None:
    done = python(AT_AN_IMPORT, module, str(int(signal.SIGINT)), "plan", folder=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "isoflop: interrupted\n")


def test_ctrl_c_that_finds_the_interpreter_where_it_drops_exceptions(tmp_path: Path) -> None:
    """In a destructor: libraries that are imported have many, and callbacks that are alike."""
    program = """
import signal, time
from trainer.training.faults.signals import interrupt_on_signals, interrupted

class Dropped:
    def __del__(self):
        signal.raise_signal(signal.SIGINT)

interrupt_on_signals()
try:
    Dropped()
    time.sleep(60)
except KeyboardInterrupt as error:
    raise SystemExit(interrupted(error))
"""
    done = python(program, folder=tmp_path)
    assert (done.returncode, done.stderr) == (130, "isoflop: interrupted\n")


def test_ctrl_c_that_a_library_takes_for_a_failure_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text(
        "import signal\n"
        "try:\n    signal.raise_signal(signal.SIGINT)\n"
        "except BaseException as error:\n    raise RuntimeError('initialization failed') from error\n"
    )
    program = """
import sys
import trainer.cli.main as command
command.VERBS["plan"] = lambda words: __import__("broken")
from trainer.__main__ import run
run()
"""
    done = python(program, "plan", folder=tmp_path)
    assert (done.returncode, done.stderr) == (130, "isoflop: interrupted\n")


@pytest.mark.parametrize(
    ("before", "says"),
    [
        ("", r"isoflop: SIGINT again: stopped before the end; go on with: .+ train resume=/runs/e/a"),
        ("stop.end()", r"isoflop: SIGINT again: the report was not written; later: .+ report /runs/e/a"),
    ],
)
def test_a_second_ctrl_c_says_how_to_go_on(before: str, says: str, tmp_path: Path) -> None:
    program = f"""
import signal
from pathlib import Path
from trainer.training.faults.signals import ECHO_SECONDS, StopRequest
stop = StopRequest(Path("/runs/e/a"))
signal.raise_signal(signal.SIGINT)
assert stop.signal == "SIGINT"
signal.raise_signal(signal.SIGINT)  # an echo
StopRequest.pressed -= ECHO_SECONDS
{before}
signal.raise_signal(signal.SIGINT)
"""
    done = python(program, folder=tmp_path)
    assert done.returncode == 130
    first, second = done.stderr.splitlines()
    assert first == "isoflop: SIGINT: stops after a checkpoint; once more ends at once"
    assert re.fullmatch(says, second)


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_a_report_of_before_is_gone_once_a_run_goes_on(processes: int, tiny: list[str], isoflop) -> None:  # type: ignore[no-untyped-def]
    """Whatever ends the second attempt: here kill -9."""
    run = isoflop.folder / "runs/interrupts/run"
    words = [*tiny, "run.experiment=interrupts", "run.id=run", f"launch.processes={processes}"]
    assert isoflop("train", *words).returncode == 0
    assert (run / "report.html").is_file()
    isoflop.kill_when(
        lambda text: "step 14/" in text, "train", f"resume={run}", "budget.steps=100000", "new_science=true"
    )
    assert not [name for name in ("report.html", "card.md", "pricetag.json") if (run / name).exists()]


SWEPT = {
    "plan": (),
    "data": (),
    "tokenizer": (),
    "train": ("run.id=swept",),
    "two ranks": ("run.id=swept", "launch.processes=2"),
    "eval": ("{run}",),
    "generate": ("{run}", "prompt=a", "tokens=4"),
    "report": ("{run}",),
}


@pytest.mark.slow
@pytest.mark.parametrize("verb", SWEPT)
def test_ctrl_c_at_many_moments(verb: str, tiny: list[str], isoflop) -> None:  # type: ignore[no-untyped-def]
    """At every 150th import of a command, the first included: imports are spread over all that a command does."""
    words = [word.format(run=isoflop.folder / "runs/swept/run") for word in SWEPT[verb]]
    if verb in ("eval", "generate", "report"):
        assert isoflop("train", *tiny, "run.experiment=swept", "run.id=run").returncode == 0
    else:
        words += [*tiny, "run.experiment=swept"]
    for place in range(1, 6000, 150):
        command = {"two ranks": "train"}.get(verb, verb)
        done = python(AT_AN_IMPORT, str(place), str(int(signal.SIGINT)), command, *words, folder=isoflop.folder)
        assert "Traceback" not in done.stderr, (place, done.stderr)
        assert "Exception ignored" not in done.stderr, (place, done.stderr)
        if done.returncode == 0:
            return
        assert done.returncode in (130, STOPPED), (place, done)
        assert "isoflop: " in done.stderr, (place, done)
