"""A process of the proof that runs cases one after another and reports each as a line of JSON.

    python scripts/bench/gpu.py --worker measure|warm --until EPOCH --names NAME...

Lines go to the file descriptor that PROOF_ROWS names: {"begin": name} before a case, its row after it.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from environment import reason

from proof.measure import Built, clock, measure
from proof.plan import Case, cases
from proof.results import ROOT
from proof.sensors import sensors

TESTS = "tests/kernels/test_gpu.py"
PROCESSES = 8  # of the tests: they wait for compilers more than for the GPU


def report(line: dict[str, Any]) -> None:
    os.write(int(os.environ["PROOF_ROWS"]), (json.dumps(line) + "\n").encode())


def built(case: Case) -> Built:
    if case.part == "attention":
        from proof.attention import build

        return build(**case.settings)
    from proof.rest import build as build_rest

    return build_rest(case.name, case.settings)


def row_of(case: Case) -> dict[str, Any]:
    """Run the case and measure it."""
    if case.part == "repeats":
        from proof.repeats import repeats

        return repeats(**case.settings)
    if case.part == "step":
        from proof.step import build, measure_step

        return measure_step(build(case.settings), sensors())
    return measure(built(case), clock(), sensors())


def warm(case: Case) -> dict[str, Any]:
    """Run each contestant once, so that what it compiles lies in the caches on disk. The row says who could not."""
    if case.part == "repeats":
        return {"status": "measured"}  # the kernels of other cases
    refused = {}
    contestants: dict[str, Callable[[], Any]] = {}
    if case.part == "step":
        from proof.step import build

        steps = build(case.settings)
        if case.name != "step/defaults":
            steps.pop("bare loop")  # once is enough
        contestants = {name: (lambda make=make: make()()) for name, make in steps.items()}
    else:
        contestants = {name: (lambda make=make: make().both()) for name, make in built(case).contestants.items()}
    for name, work in contestants.items():
        try:
            work()
        except Exception as error:  # said again where it is measured
            refused[name] = reason(error)
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return {"status": "measured", "refused": refused}


def work(names: Sequence[str], until: float, run: Callable[[Case], dict[str, Any]], patient: bool = False) -> None:
    """Run the cases for which there is time until then (seconds since 1970); patient: also those that are too long."""
    by_name = {case.name: case for case in cases()}
    for name in names:
        case, began = by_name[name], time.monotonic()
        if not patient and case.seconds > until - time.time():
            continue
        report({"begin": name})
        try:
            row = run(case)
        except Exception as error:  # the case cannot be made at all
            row = {"status": "failed", "why": reason(error)}
            report({"name": name, "part": case.part, "seconds": time.monotonic() - began} | row)
            if torch.cuda.is_available():
                torch.cuda.synchronize()  # an error that the device keeps is raised here, and ends this process
            continue
        report({"name": name, "part": case.part, "seconds": time.monotonic() - began} | row)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def test(names: Sequence[str]) -> None:
    """tests/kernels/test_gpu.py, a row a test, and one for the whole. With xdist where it is installed."""
    [name] = names
    report({"begin": name})
    began = time.monotonic()
    row: dict[str, Any] = {"status": "failed", "why": "pytest is not installed"}
    if importlib.util.find_spec("pytest"):
        words = ["-m", "gpu", TESTS, "-q", "-p", "proof.pytest_rows", "-p", "no:cacheprovider"]
        words += ["-n", str(PROCESSES)] if importlib.util.find_spec("xdist") else []
        code = subprocess.run(
            [sys.executable, "-m", "pytest", *words], cwd=ROOT, pass_fds=(int(os.environ["PROOF_ROWS"]),), check=False
        ).returncode
        row = {"status": "passed"} if code in (0, 5) else {"status": "failed", "why": f"pytest's exit code is {code}"}
    report({"name": name, "part": "tests", "seconds": time.monotonic() - began} | row)
