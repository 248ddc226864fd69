"""Runs the parts of a proof one after another in processes of their own, and keeps every row as it comes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from proof.children import Group
from proof.plan import PARTS, Case, limit
from proof.results import ROOT, Results

ENTRY = ROOT / "scripts" / "bench" / "gpu.py"
SPARE = 20.0  # seconds that must be left for a second sweep


class Stop:
    """SIGINT or SIGTERM came; asked between two looks at the children, so nothing is torn."""

    def __init__(self) -> None:
        self.signal: int | None = None

    def listen(self) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._hear)

    def _hear(self, number: int, frame: object) -> None:
        self.signal = number

    def __call__(self) -> bool:
        return self.signal is not None


def installed(wheels: Path, folder: Path) -> str:
    """Put the wheels into `folder`, which the processes of the proof look into first; returns what became of it."""
    files = sorted(str(file) for file in wheels.glob("*.whl"))
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-index",
        "--no-deps",
        f"--target={folder}",
        *files,
    ]
    if not files:
        return f"no .whl in {wheels}"
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        return f"pip ended with exit code {done.returncode}: {lines[-1] if lines else 'no message'}"
    return f"{len(files)} wheels installed"


class Proof:
    """results: where rows go. wanted: the cases in order. processes: of the warm-up, at the same time."""

    def __init__(
        self,
        results: Results,
        wanted: Sequence[Case],
        stop: Callable[[], bool],
        paths: Sequence[Path] = (),
        processes: int = 1,
        say: Callable[[str], None] = print,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.results, self.wanted, self.stop, self.say, self.clock = results, wanted, stop, say, clock
        self.processes = processes
        self.broken: list[str] = []  # parts whose process could not begin
        self.part_of = {case.name: case.part for case in wanted}
        self.planned = {case.name: case.seconds for case in wanted}
        self.log = results.path.with_suffix(".log")
        inherited = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
        python_path = os.pathsep.join(str(path) for path in (*paths, ROOT, ENTRY.parent, *inherited))
        self.environment = {"PYTHONPATH": python_path, "PYTHONUNBUFFERED": "1"}

    def pending(self, part: str) -> list[str]:
        """Names of the part's cases that have no row yet."""
        return [case.name for case in self.wanted if case.part == part and case.name not in self.results.rows]

    def run(self, seconds: float) -> None:
        """Every part within its share; then, in what time is left, what had no time before."""
        end = self.clock() + seconds
        for sweep in (1, 2):
            if sweep == 2 and end - self.clock() < SPARE:
                break
            measured = [part for part in PARTS if self.pending(part) and part not in self.broken]
            parts = ["compile", *measured] if sweep == 1 and set(measured) - {"tests"} else measured
            for place, part in enumerate(parts):
                if self.stop():
                    break
                now = self.clock()
                self._part(part, now, limit(part, end - now, parts[place:]))
        self._settle()

    def _part(self, part: str, now: float, seconds: float) -> None:
        until = now + seconds
        self.say(f"== {part}: {seconds:.0f} s at most")
        became = self._compile(until) if part == "compile" else self._measure(part, until)
        self.results.parts[part] = f"{became} ({self.clock() - now:.0f} of {seconds:.0f} s)"
        self._settle()

    def _settle(self) -> None:
        self.results.not_run = [name for part in PARTS for name in self.pending(part)]
        self.results.write()

    def _group(self, mode: str, tell: Callable[[dict[str, Any]], None], longest: float, **environment: str) -> Group:
        def command(names: Sequence[str], seconds: float) -> list[str]:
            words = ["--worker", mode, "--until", f"{time.time() + seconds:.1f}", "--names", *names]
            return [sys.executable, str(ENTRY), *words]

        def patience(name: str) -> float:
            return longest * max(self.planned[name], 6.0)

        return Group(command, self.log, self.environment | environment, patience, tell, self.stop, self.clock)

    def _compile(self, until: float) -> str:
        """Pending cases once, dealt out to processes that share the caches on disk; a step takes longest, so alone."""
        names = [name for part in ("attention", "rest") for name in self.pending(part)]
        steps = self.pending("step")
        if self.processes < 2 * len(steps):
            names, steps = [*steps, *names], []
        heard: list[dict[str, Any]] = []
        few = {"OMP_NUM_THREADS": "1", "TORCHINDUCTOR_COMPILE_THREADS": "2"}
        group = self._group("warm", heard.append, 1e9, **few)
        count = max(1, min(self.processes - len(steps), len(names)))
        lists = [[name] for name in steps] + [names[place::count] for place in range(count)]
        became = group.run(lists, until)
        fallen = [f"{row['name']}: {row['why']}" for row in heard if "why" in row]
        said = f"{became}: {len(heard)} of {len(names) + len(steps)} cases in {len(lists)} processes"
        return "; ".join([said, *fallen])

    def _measure(self, part: str, until: float) -> str:
        mode, longest, environment = "measure", 5.0, {}
        if part == "tests":
            mode, longest = "tests", 1e9
            with tempfile.NamedTemporaryFile("w", suffix=".txt", delete=False) as file:
                passed = [
                    n for n, row in self.results.rows.items() if row["part"] == part and row["status"] != "failed"
                ]
                file.write("\n".join(passed))
            environment = {"PROOF_DONE": file.name}
        try:
            group = self._group(mode, self._tell, longest, **environment)
            became = group.run([self.pending(part)], until)
            self.broken += [part] if group.broken else []
            return became
        finally:
            for name in environment.values():
                Path(name).unlink(missing_ok=True)

    def _tell(self, row: dict[str, Any]) -> None:
        row.setdefault("part", self.part_of.get(row["name"], "tests"))
        self.results.add(row)
        self.results.write()
        took = {who: own["both_seconds"] * 1e3 for who, own in row.get("who", {}).items()}
        words = ", ".join(f"{who} {ms:.3f} ms" for who, ms in took.items()) or row.get("why", "")
        if row["part"] != "tests" or row["status"] == "failed" or row["name"] in self.part_of:
            self.say(f"{row['name']}: {row['status']}{': ' if words else ''}{words}")


def failures(results: Results) -> list[str]:
    """Names of rows that failed or hung."""
    return [name for name, row in results.rows.items() if row["status"] in ("failed", "stopped")]
