"""Hits a tiny training run with faults from outside, one after the other, and goes on with it after each.

A run that has come to its end is compared with an undisturbed one: the loss of every step, held-out losses, the samples
of every step, the weights. Then the next run begins. Whatever happens is drawn from the seed.

Exit code 0: every fault was survived; 1: something broke; 2: bad input; 130: interrupted, and nothing had broken.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from scripts.chaos_driver.attempt import go_ahead
from scripts.chaos_driver.bench import SHARED_MEMORY, Bench, Run
from scripts.chaos_driver.history import apart, read_history
from scripts.chaos_driver.plan import KINDS, PHASES, Fault, plan
from scripts.chaos_driver.report import as_json, line, table
from scripts.chaos_driver.strike import Struck, strike
from trainer.utils.errors import UserError, nearest

TRIES = 4  # of a fault that misses its phase


class Campaign:
    """These faults of a plan of so many, one after the other."""

    def __init__(self, bench: Bench, faults: list[Fault], planned: int) -> None:
        self.bench, self.faults, self.planned = bench, faults, planned
        self.strikes: list[Struck] = []
        self.runs: list[dict[str, Any]] = []
        self.run: Run | None = None
        self.interrupted = False
        self._since = 0  # strikes before this run

    def go(self) -> None:
        """Ctrl-C ends it after the comparison of the run at hand; the faults so far count."""
        if problems := self._undisturbed():
            self.runs.append({"run": "undisturbed", "faults": [], "apart": {}, "problems": problems})
            print("\n".join(f"     the undisturbed run: {problem}" for problem in problems), flush=True)
            return
        try:
            self._strike_all()
        except KeyboardInterrupt:
            self.interrupted = True
            print("     no more faults; the run is brought to its end", flush=True)
        if self.run is not None:
            self._finish()

    def _strike_all(self) -> None:
        for fault in self.faults:
            for attempt in range(TRIES):
                struck = self._strike(fault, attempt)
                if struck.hit == fault.phase:
                    break
            else:
                struck.problems.append(f"never hit in {TRIES} tries")

    def _undisturbed(self) -> list[str]:
        """Make the run that the others are compared with; a line for what is wrong with it."""
        run = self.bench.new_run()
        return self.bench.finish(run) + self.bench.inspect(run)

    def _strike(self, fault: Fault, attempt: int) -> Struck:
        if self.run is None:
            self.run, self._since = self.bench.new_run(), len(self.strikes)
        earlier = Fault(**{**vars(fault), "moment": fault.moment / 2**attempt})
        struck = strike(self.bench, self.run, earlier)
        self.strikes.append(struck)
        print(line(struck, self.planned), flush=True)
        for problem in struck.problems:
            print(f"       {problem}", flush=True)
        if struck.finished:
            self._finish()
        return struck

    def _finish(self) -> None:
        """The run to its end, and how it compares."""
        run, self.run = self.run, None
        assert run is not None
        problems = self.bench.finish(run) + self.bench.inspect(run)
        numbers = [struck.fault.number for struck in self.strikes[self._since :] if struck.hit]
        assert self.bench.undisturbed is not None
        off_by = apart(read_history(run.folder, run.reads), self.bench.undisturbed)
        worst = {name: max(values.values(), default=0.0) for name, values in off_by.items()}
        self.runs.append({"run": run.folder.name, "faults": numbers, "apart": worst, "problems": problems})
        off = ", ".join(f"{name} {value:.0e}" for name, value in worst.items())
        verdict = "BROKE" if problems else "is the undisturbed one"
        print(f"     {run.folder.name}: after {len(numbers)} faults it {verdict} (apart at most: {off})", flush=True)
        for problem in problems:
            print(f"       {problem}", flush=True)


def arguments(words: list[str]) -> argparse.Namespace:
    """Raises UserError."""
    parser = argparse.ArgumentParser(
        "scripts/chaos", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, exit_on_error=False
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--faults", type=int, default=12, help="how many")
    parser.add_argument("--steps", type=int, default=24, help="of each run; 12 at least")
    parser.add_argument("--folder", type=Path, help="where it happens, not there yet; kept when something broke")
    parser.add_argument(
        "--only", action="append", default=[], metavar="NAME", help="these phases and kinds, e.g. saving,kill"
    )
    parser.add_argument("--fault", type=int, metavar="NUMBER", help="only this one of the plan, on a run of its own")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write what happened there")
    parser.add_argument("--plan", action="store_true", help="show the plan and hit nothing")
    try:
        given, unknown = parser.parse_known_args(words)
    except argparse.ArgumentError as error:
        raise UserError(str(error)) from None
    if unknown:
        raise UserError(f"{unknown[0]}: no such argument; --help lists them")
    if given.faults < 1:
        raise UserError(f"--faults: {given.faults} given, 1 at least wanted")
    if given.steps < 12:
        raise UserError(f"--steps: {given.steps} given, 12 at least wanted")
    if given.fault is not None and not 1 <= given.fault <= given.faults:
        raise UserError(f"--fault: {given.fault} is not one of the plan's {given.faults}")
    if given.folder is not None and given.folder.exists():
        raise UserError(f"--folder: {given.folder} is there already; name a new one")
    if given.json is not None and not given.json.absolute().parent.is_dir():
        raise UserError(f"--json: there is no folder {given.json.absolute().parent}")
    return given


def chosen(given: argparse.Namespace, disks: bool) -> list[Fault]:
    """The plan that was asked for. Raises UserError."""
    names = [name for word in given.only for name in word.split(",")]
    for name in names:
        if name not in (*PHASES, *KINDS):
            known = (*PHASES, *KINDS)
            raise UserError(
                f"--only: {name!r} is no phase and no kind{nearest(name, known)}; there is {', '.join(known)}"
            )
    phases = [phase for phase in PHASES if phase in names] or PHASES
    kinds = [kind for kind in KINDS if kind in names] or KINDS
    try:
        faults = plan(given.seed, given.faults, phases, kinds, disks)
    except ValueError as error:
        raise UserError(f"--only: {error}") from None
    return faults if given.fault is None else [fault for fault in faults if fault.number == given.fault]


def own_mounts() -> bool:
    """Whether this process may mount what no other process sees."""
    return os.environ.get("ISOFLOP_CHAOS_MOUNTS", "0") != "0"


def main(words: list[str]) -> int:
    given = arguments(words)
    mounts = own_mounts()
    faults = chosen(given, disks=mounts)
    if given.plan:
        print("\n".join(f"{fault.number:>4} {fault!s:<32} {fault.layout}" for fault in faults))
        return 0
    if mounts:
        subprocess.run(["mount", "-t", "tmpfs", "chaos", SHARED_MEMORY], check=True)
    else:
        print("no mount namespace can be had here: no disk is filled", flush=True)
    folder = Path(given.folder or tempfile.mkdtemp(prefix="isoflop-chaos-")).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    go_ahead()
    campaign = Campaign(Bench(folder, given.steps, own_memory=mounts), faults, given.faults)
    campaign.go()
    seconds = time.monotonic() - began
    hits = sum(struck.hit is not None for struck in campaign.strikes)
    found = as_json(given.seed, campaign.strikes, campaign.runs, seconds)
    if given.json is not None:
        given.json.write_text(json.dumps(found, indent=1, default=str))
    print(f"\n{table(campaign.strikes)}\n\n{hits} faults, {len(campaign.runs)} runs, {seconds / 60:.1f} minutes")
    if found["survived"]:
        shutil.rmtree(folder)
        return 130 if campaign.interrupted else 0
    again = f"scripts/chaos --seed {given.seed} --faults {given.faults} --steps {given.steps}"
    again += "".join(f" --only {names}" for names in given.only)
    for struck in campaign.strikes:
        if struck.problems:
            print(f"broke: {again} --fault {struck.fault.number}  ({struck.problems[0]})")
    print(f"kept: {folder}")
    return 1


if __name__ == "__main__":
    try:
        status = main(sys.argv[1:])
    except UserError as error:
        for one in str(error).splitlines():
            print(f"scripts/chaos: {one}", file=sys.stderr)
        status = 2
    sys.exit(status)
