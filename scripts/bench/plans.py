"""How well a plan after `isoflop calibrate` tells the time of a run's steps on this machine's processor.

    scripts/bench/plans [--only bf16,decoder,2] [--runs 5] [--steps 12] [--write] [--busy]

Eight cells: fp32 and bf16, a decoder and an encoder-decoder, one rank and two. Each is calibrated and planned, then
trained in runs of their own, as a user does it, through the command line. A run's step is the median of its steps but
the first three; a cell's is the median over its runs. --only: words that a cell must have. The machine must be idle:
where other threads want a core, the script waits, up to a minute, and then ends with 1; with --busy it goes on, and
marks the rows. --write makes docs/benchmarks/plans.md.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from proof.results import write_whole

from trainer.books.own_shares import WARM
from trainer.books.records import STEP_PHASES, read_steps
from trainer.config.host import cores, processor
from trainer.meter.host_load import runnable

ROOT = Path(__file__).resolve().parents[2]
KINDS = {"decoder": [], "encoder-decoder": ["experiment=encoder-decoder-mini"]}
PRECISIONS, RANKS = ("fp32", "bf16"), (1, 2)
QUIET_SECONDS = 60  # that the script waits for the machine to be idle
COLUMNS = "| precision | kind | ranks | planned s | measured s | planned / measured | its runs | |"


class Cell(NamedTuple):
    precision: str
    kind: str
    ranks: int

    @property
    def words(self) -> list[str]:
        """Of the command line; those of the machine are not calibrated with."""
        return [*KINDS[self.kind], f"engine.precision={self.precision}", "engine.device=cpu"]

    @property
    def launch(self) -> list[str]:
        return [f"launch.processes={self.ranks}"]


class Row(NamedTuple):
    cell: Cell
    planned: float  # seconds of a step
    runs: list[float]  # seconds of a step of each
    busy: bool  # whether other threads wanted a core before any of it

    @property
    def measured(self) -> float:
        return statistics.median(self.runs)

    @property
    def ratio(self) -> float:
        return self.planned / self.measured


def isoflop(*words: str) -> str:
    """What the command prints. Raises SystemExit with what it says where it fails."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_"))}
    command = [sys.executable, "-m", "trainer", *words]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=clean, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(words)}: {done.stderr.strip()}")
    return done.stdout


def busy(waits: bool) -> bool:
    """Whether other threads want a core. waits: for up to a minute, until none does."""
    end = time.monotonic() + QUIET_SECONDS * waits
    while (found := runnable() or 0) > 0 and time.monotonic() < end:
        time.sleep(1.0)
    return found > 0


def planned(cell: Cell) -> float:
    """Seconds of a step, after a calibration of this kind and precision."""
    isoflop("calibrate", *cell.words, *(cell.launch if cell.ranks > 1 else []))
    told = json.loads(isoflop("plan", *cell.words, *cell.launch, "--json"))["planned"]["time"]["step"]
    return float(told)


def run(cell: Cell, steps: int) -> float:
    """Median seconds of a step of one run."""
    with tempfile.TemporaryDirectory() as folder:
        aside = [f"run.root={folder}", f"budget.steps={steps}", "evaluation.every_steps=null", "tracker.console=none"]
        isoflop("train", *cell.words, *cell.launch, *aside)
        (file,) = Path(folder).glob("**/metrics.jsonl")
        kept = read_steps(file.parent).kept[WARM:]
    taken = [sum((one.get("seconds") or {}).get(name, 0.0) for name in STEP_PHASES) for one in kept]
    return statistics.median(taken)


def row(cell: Cell, arguments: argparse.Namespace) -> Row:
    """Raises SystemExit where the machine is busy, unless that is allowed."""
    found = []

    def look() -> None:
        found.append(busy(waits=not arguments.busy))
        if found[-1] and not arguments.busy:
            raise SystemExit("other threads want a core: this is for an idle machine (--busy measures and marks it)")

    look()
    told, runs = planned(cell), []
    for _ in range(arguments.runs):
        look()
        runs.append(run(cell, arguments.steps))
    return Row(cell, told, runs, any(found))


def line(one: Row) -> str:
    spread = f"{min(one.runs):.4f} to {max(one.runs):.4f}"
    said = "busy machine" if one.busy else "" if abs(one.ratio - 1) <= 0.1 else "more than 10% off"
    cells = (*one.cell, f"{one.planned:.4f}", f"{one.measured:.4f}", f"{one.ratio:.2f}", spread, said)
    return f"| {' | '.join(map(str, cells))} |"


def report(rows: list[Row]) -> str:
    command = " ".join(["scripts/bench/plans", *sys.argv[1:]])
    said = f"`{command}`: {processor()}, {cores()} cores, {date.today()}; medians of {len(rows[0].runs)} runs."
    worst = max(abs(one.ratio - 1) for one in rows)
    table = "\n".join([COLUMNS, "|---" * COLUMNS.count(" |") + "|", *map(line, rows)])
    return (
        "# Planned and measured time of a step on a processor\n\n"
        f"After `isoflop calibrate` of the kind and precision of each row. {said}\n\n{table}\n\n"
        f"The farthest row is {worst:.0%} off.\n"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", metavar="WORDS")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--busy", action="store_true")
    arguments = parser.parse_args()
    wanted = set(filter(None, arguments.only.split(",")))
    every = [Cell(precision, kind, ranks) for kind in KINDS for precision in PRECISIONS for ranks in RANKS]
    cells = [one for one in every if wanted <= {one.precision, one.kind, str(one.ranks)}]
    if not cells or arguments.steps <= WARM or arguments.runs < 1:
        names = ", ".join([*PRECISIONS, *KINDS, *map(str, RANKS)])
        parser.error(f"--only takes words of {names}; --steps more than {WARM}; --runs 1 or more")
    rows = []
    print(f"{COLUMNS}\n{'|---' * COLUMNS.count(' |')}|")
    for cell in cells:
        rows.append(row(cell, arguments))
        print(line(rows[-1]), flush=True)
    if arguments.write:
        write_whole(ROOT / "docs" / "benchmarks" / "plans.md", report(rows))


if __name__ == "__main__":
    main()
